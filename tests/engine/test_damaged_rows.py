"""Rows that somebody damaged behind the engine's back: that execution suffers, visibly, and no other."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from cloacina.errors import ExecutionParked
from cloacina.model.status import AttemptState, ExecutionStatus
from cloacina.model.task import task
from cloacina.model.workflow import Workflow
from cloacina.runner import Runner
from support.clock import HandClock
from support.runners import Gate, by_hand, runner_on

COMPLETED, PARKED = ExecutionStatus.COMPLETED, ExecutionStatus.PARKED
FINAL = (COMPLETED, ExecutionStatus.FAILED, PARKED)


def opened() -> Gate:
    gate = Gate()
    gate.open()
    return gate


async def settles(runner: Runner, id: str) -> ExecutionStatus:
    """The state in which an execution comes to rest."""

    async def look() -> ExecutionStatus:
        while True:
            status = {info.id: info.status for info in await runner.list()}[id]
            if status in FINAL:
                return status
            await asyncio.sleep(0.001)

    return await asyncio.wait_for(look(), 20)


def one(gate: Gate, name: str = "one") -> Workflow:
    return Workflow(name, [task(gate.pass_through, id="it")])


# What is set in the row of the running attempt, or of its execution, and how the execution ends.
WHILE_IT_RUNS = {
    "the attempt has ended": ("attempts", "state = 'completed'", COMPLETED),
    "the attempt has another number": ("attempts", "attempt = 7", ExecutionStatus.FAILED),
    "the attempt is of no task": ("attempts", "task = 'nobody'", PARKED),
    "the attempt is in no known state": ("attempts", "state = 'odd'", PARKED),
    "the attempt's change is no JSON": ("attempts", "delta = '{', state = 'completed'", PARKED),
    "the execution was given away": ("executions", "owner = 'nobody'", None),
    "the execution has ended": ("executions", "status = 'failed', owner = NULL", None),
    "the attempt is gone": ("attempts", None, COMPLETED),
    "the execution is gone": ("executions", None, None),
}


@pytest.mark.parametrize("what", WHILE_IT_RUNS)
async def test_damage_to_a_running_execution_harms_no_other(tmp_path: Path, what: str) -> None:
    table, change, outcome = WHILE_IT_RUNS[what]
    verb = f"DELETE FROM {table}" if change is None else f"UPDATE {table} SET {change}"
    sql = f"{verb} WHERE {'execution' if table == 'attempts' else 'id'} = ?"
    gate = Gate()
    async with runner_on(tmp_path / "c.db") as runner:
        others = [await runner.submit(one(gate)) for _ in range(3)]
        handle = await runner.submit(one(gate))
        others += [await runner.submit(one(gate)) for _ in range(3)]
        await gate.reached(7)
        by_hand(tmp_path / "c.db", sql, handle.id)
        gate.open()
        for other in others:
            assert (await other.result(timeout=20)).status is COMPLETED
        if outcome is not None:
            assert await settles(runner, handle.id) is outcome
        if outcome is PARKED:
            (info,) = await runner.list(status=PARKED)
            assert info.id == handle.id
            assert info.error is not None and info.error.startswith("the store refused what it wrote")
        assert (await runner.execute(one(gate))).status is COMPLETED


# An attempt to insert (task, state, delta, error), or the new input of the execution.
BEFORE_IT_IS_CLAIMED: dict[str, list[str | None]] = {
    "an attempt of no task": ["nobody", "failed", None, None],
    "an attempt in no known state": ["it", "odd", None, None],
    "a change that is no JSON": ["it", "completed", "{", None],
    "a change that is no patch": ["it", "completed", "[7]", None],
    "an error that is no JSON": ["it", "failed", None, "{"],
    "an input that is no JSON": ["{"],
    "an input that is no object": ["[1]"],
}


@pytest.mark.parametrize("what", BEFORE_IT_IS_CLAIMED)
async def test_a_damaged_execution_that_is_claimed_harms_no_other(tmp_path: Path, what: str) -> None:
    gate, path = Gate(), tmp_path / "c.db"
    gate.open()
    workflow = one(gate)
    async with runner_on(path, window=1) as runner:
        blocker = Gate()
        await runner.submit(one(blocker, "blocker"))
        await blocker.reached()
        handles = await runner.submit_many(workflow, [{"n": n} for n in range(5)])
        blocker.open()
        await runner.shutdown(0)
    by_hand(
        path,
        "UPDATE executions SET status = 'pending', started = 1, finished = NULL, result = NULL, owner = NULL",
    )
    by_hand(path, "DELETE FROM attempts")
    row = BEFORE_IT_IS_CLAIMED[what]
    if len(row) == 1:
        by_hand(path, "UPDATE executions SET input = ? WHERE id = ?", str(row[0]), handles[2].id)
    else:
        columns = ("task", "state", "delta", "error")
        given = [name for name, value in zip(columns, row, strict=True) if value is not None]
        sql = (
            f"INSERT INTO attempts (execution, attempt, {', '.join(given)}) VALUES (?, 1{', ?' * len(given)})"
        )
        by_hand(path, sql, handles[2].id, *(value for value in row if value is not None))
    async with runner_on(path, workflow, one(gate, "blocker")) as runner:
        for n in (0, 1, 3, 4):
            assert (await runner.result(handles[n].id, timeout=20)).status is COMPLETED
        assert await settles(runner, handles[2].id) in (PARKED, ExecutionStatus.FAILED)
        assert (await runner.execute(workflow)).status is COMPLETED
    async with runner_on(path, workflow) as runner:
        assert (await runner.execute(workflow, timeout=20)).status is COMPLETED


async def test_an_execution_of_an_unknown_workflow_waits_and_says_so(tmp_path: Path) -> None:
    gate, path = Gate(), tmp_path / "c.db"
    gate.open()
    async with runner_on(path) as runner:
        handle = await runner.submit(one(gate, "forgotten"), {"a": 1}, key="k")
        await handle.result()
    by_hand(path, "UPDATE executions SET status = 'pending', finished = NULL, result = NULL")
    async with runner_on(path, one(gate)) as runner:
        assert (await runner.execute("one")).status is COMPLETED
        explained = await runner.explain(handle.id)
        assert "no live runner has workflow 'forgotten'" in explained.reason
        assert explained.status is ExecutionStatus.PENDING


@pytest.mark.parametrize("repeat", range(3))
async def test_attempt_states_survive_damage_to_another_execution(tmp_path: Path, repeat: int) -> None:
    """What others had done stays done: a refusal beside them makes none of their bodies run again."""
    gate, clock = Gate(), HandClock()
    async with runner_on(tmp_path / "c.db", clock=clock) as runner:
        handles = [await runner.submit(one(gate)) for _ in range(5)]
        await gate.reached(5)
        by_hand(
            tmp_path / "c.db", "UPDATE attempts SET state = 'odd' WHERE execution = ?", handles[repeat].id
        )
        gate.open()
        for handle in handles:
            if handle is not handles[repeat]:
                result = await handle.result(timeout=20)
                assert [attempt.state for attempt in result.tasks["it"].history] == [AttemptState.COMPLETED]
        assert await settles(runner, handles[repeat].id) is PARKED
    assert gate.entered == 5


async def test_an_execution_whose_owner_nobody_knows_is_freed_at_the_start(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    gate, path = Gate(), tmp_path / "c.db"
    workflow = one(gate)
    async with runner_on(path, shutdown_grace=0) as runner:
        handle = await runner.submit(workflow)
        await gate.reached()
    by_hand(path, "UPDATE executions SET owner = 'a runner without a row' WHERE id = ?", handle.id)
    gate.open()
    async with runner_on(path, workflow) as runner:
        assert (await runner.result(handle.id, timeout=20)).status is COMPLETED
    assert "executions freed whose owner nobody knows: 1" in caplog.text


async def test_who_waits_for_a_parked_execution_is_told(tmp_path: Path) -> None:
    gate = Gate()
    async with runner_on(tmp_path / "c.db") as runner:
        handle = await runner.submit(one(gate))
        await gate.reached(1)
        waiting = asyncio.ensure_future(handle.result())
        by_hand(tmp_path / "c.db", "UPDATE attempts SET state = 'odd' WHERE execution = ?", handle.id)
        gate.open()
        with pytest.raises(ExecutionParked, match=handle.id):
            await waiting
        (parked,) = await runner.list(status=PARKED)
        assert parked.id == handle.id


async def test_the_result_of_a_parked_execution_is_an_error(tmp_path: Path) -> None:
    async with runner_on(tmp_path / "c.db") as runner:
        ended = await runner.submit(one(opened()))
        await ended.result(timeout=20)
        by_hand(
            tmp_path / "c.db", "UPDATE executions SET status = 'parked', error = 'why' WHERE id = ?", ended.id
        )
        with pytest.raises(ExecutionParked, match="was set aside: why"):
            await ended.result()
