"""Rows that somebody damaged behind the engine's back: that execution suffers, visibly, and no other."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from cloacina.model.status import AttemptState, ExecutionStatus
from cloacina.model.task import task
from cloacina.model.workflow import Workflow
from cloacina.runner import Runner
from support.clock import HandClock
from support.runners import Gate, runner_on

COMPLETED, PARKED = ExecutionStatus.COMPLETED, ExecutionStatus.PARKED
FINAL = (COMPLETED, ExecutionStatus.FAILED, PARKED)

SQL = """
import sys, apsw
connection = apsw.Connection(sys.argv[1], flags=apsw.SQLITE_OPEN_READWRITE)
connection.set_busy_timeout(5000)
connection.execute(sys.argv[2], sys.argv[3:])
"""


def damage(path: Path, sql: str, *params: str) -> None:
    """Run one statement on the database, in a process of its own."""
    subprocess.run([sys.executable, "-c", SQL, str(path), sql, *params], check=True, timeout=60)


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


WHILE_IT_RUNS = {
    "the running attempt is gone": ("DELETE FROM attempts WHERE execution = ?", COMPLETED),
    "the running attempt has ended": ("UPDATE attempts SET state = 'completed' WHERE execution = ?", COMPLETED),
    "the attempt has another number": ("UPDATE attempts SET attempt = 7 WHERE execution = ?", ExecutionStatus.FAILED),
    "the attempt is of no task": ("UPDATE attempts SET task = 'nobody' WHERE execution = ?", PARKED),
    "the attempt is in no known state": ("UPDATE attempts SET state = 'odd' WHERE execution = ?", PARKED),
    "the attempt's change is no JSON": ("UPDATE attempts SET delta = '{', state = 'completed' WHERE execution = ?", PARKED),
    "the execution was given away": ("UPDATE executions SET owner = 'nobody' WHERE id = ?", None),
    "the execution has ended": ("UPDATE executions SET status = 'failed', owner = NULL WHERE id = ?", None),
    "the execution is gone": ("DELETE FROM executions WHERE id = ?", None),
}  # fmt: skip


@pytest.mark.parametrize("what", WHILE_IT_RUNS)
async def test_damage_to_a_running_execution_harms_no_other(tmp_path: Path, what: str) -> None:
    sql, outcome = WHILE_IT_RUNS[what]
    gate = Gate()
    async with runner_on(tmp_path / "c.db") as runner:
        others = [await runner.submit(one(gate)) for _ in range(3)]
        handle = await runner.submit(one(gate))
        others += [await runner.submit(one(gate)) for _ in range(3)]
        await gate.reached(7)
        damage(tmp_path / "c.db", sql, handle.id)
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


BEFORE_IT_IS_CLAIMED = {
    "an attempt of no task": "INSERT INTO attempts (execution, task, attempt, state) VALUES (?, 'nobody', 1, 'failed')",
    "an attempt in no known state": "INSERT INTO attempts (execution, task, attempt, state) VALUES (?, 'it', 1, 'odd')",
    "a change that is no JSON": "INSERT INTO attempts (execution, task, attempt, state, delta) VALUES (?, 'it', 1, 'completed', '{')",
    "a change that is no patch": "INSERT INTO attempts (execution, task, attempt, state, delta) VALUES (?, 'it', 1, 'completed', '[7]')",
    "an input that is no JSON": "UPDATE executions SET input = '{' WHERE id = ?",
    "an input that is no object": "UPDATE executions SET input = '[1]' WHERE id = ?",
    "an error that is no JSON": "INSERT INTO attempts (execution, task, attempt, state, error) VALUES (?, 'it', 1, 'failed', '{')",
}  # fmt: skip


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
    damage(path, "UPDATE executions SET status = 'pending', finished = NULL, result = NULL, owner = NULL")
    damage(path, "DELETE FROM attempts")
    damage(path, BEFORE_IT_IS_CLAIMED[what], handles[2].id)
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
    damage(path, "UPDATE executions SET status = 'pending', finished = NULL, result = NULL")
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
        damage(tmp_path / "c.db", "UPDATE attempts SET state = 'odd' WHERE execution = ?", handles[repeat].id)
        gate.open()
        for handle in handles:
            if handle is not handles[repeat]:
                result = await handle.result(timeout=20)
                assert [attempt.state for attempt in result.tasks["it"].history] == [AttemptState.COMPLETED]
        assert await settles(runner, handles[repeat].id) is PARKED
    assert gate.entered == 5


