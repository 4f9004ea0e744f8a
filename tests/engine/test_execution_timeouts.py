"""The timeout of a whole execution: one transaction, counted from the first start, downtime included."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cloacina.model.context.context import Context
from cloacina.model.retry import RetryPolicy
from cloacina.model.status import AttemptState, ExecutionStatus, Reason, TaskState
from cloacina.model.task import task
from cloacina.model.workflow import Workflow
from support.clock import HandClock, turn, until
from support.runners import Gate, crashing, in_memory, runner_on
from support.stores import interfere

FAILED = ExecutionStatus.FAILED


def limited(gate: Gate, log: list[str], timeout: float = 60.0) -> Workflow:
    """One task done, one running, one on a thread, one waiting for a retry, one not started."""
    workflow = Workflow("limited", timeout=timeout, on_failure=lambda_of(log))

    @workflow.task
    async def done(ctx: Context) -> None:
        ctx["done"] = True

    workflow.task(gate.pass_through, id="running", dependencies=["done"], on_failure=lambda_of(log))
    workflow.task(gate.pass_on_thread, id="threaded", dependencies=["done"])

    @workflow.task(retry=RetryPolicy(initial_delay=1000, max_delay=1000, jitter=0), dependencies=["done"])
    async def waiting(ctx: Context) -> None:
        raise ValueError("once")

    @workflow.task(dependencies=["running"])
    async def unstarted(ctx: Context) -> None:
        log.append("started all the same")

    return workflow


def lambda_of(log: list[str]) -> Any:
    def told(ctx: Context, info: Any) -> None:
        log.append(f"{info.task or info.workflow} {info.status}")

    return told


def fates(result: Any) -> dict[str, Any]:
    return {task.id: (task.state, task.reason, len(task.history)) for task in result.tasks.values()}


EXPECTED = {
    "done": (TaskState.COMPLETED, None, 1),
    "running": (TaskState.CANCELLED, Reason.EXECUTION_TIMEOUT, 1),
    "threaded": (TaskState.CANCELLED, Reason.EXECUTION_TIMEOUT, 1),
    "waiting": (TaskState.CANCELLED, Reason.EXECUTION_TIMEOUT, 2),
    "unstarted": (TaskState.SKIPPED, Reason.EXECUTION_TIMEOUT, 1),
}


async def test_everything_ends_in_one_transaction() -> None:
    gate, clock, log = Gate(), HandClock(), list[str]()
    async with in_memory(clock=clock) as runner:
        handle = await runner.submit(limited(gate, log), {"day": 1})
        await gate.reached(2)
        await until(lambda: 1000 in clock.pending)
        store = interfere(runner)
        clock.advance(60)
        result = await handle.result(timeout=20)
        (group,) = store.groups
        again = await runner.get(handle.id)
        gate.open()
        await until(lambda: gate.left)
        await turn()
        assert await runner.get(handle.id) == again == result
    assert fates(result) == EXPECTED
    assert (result.status, result.context.to_dict()) == (FAILED, {"day": 1, "done": True})
    assert result.error == "the execution ran longer than its workflow's timeout of 60.0s"
    (item,) = group.items
    assert (len(item.ends), len(item.verdicts)) == (2, 2)
    assert log == ["limited failed"]


async def test_a_wait_that_was_cut_has_a_row_for_the_attempt_that_never_started() -> None:
    gate, clock = Gate(), HandClock()
    async with in_memory(clock=clock) as runner:
        handle = await runner.submit(limited(gate, []))
        await gate.reached(2)
        await until(lambda: 1000 in clock.pending)
        clock.advance(60)
        result = await handle.result(timeout=20)
        gate.open()
    first, second = result.tasks["waiting"].history
    assert (first.number, first.state) == (1, AttemptState.FAILED)
    assert (second.number, second.state, second.started) == (2, AttemptState.CANCELLED, None)
    assert result.tasks["waiting"].attempts == 1
    assert result.tasks["unstarted"].history[0].number == 0


async def test_the_clock_starts_with_the_first_attempt() -> None:
    gate, blocker, clock = Gate(), Gate(), HandClock()
    first = Workflow("blocker")
    first.task(blocker.pass_through, id="it")
    second = Workflow("limited", [task(gate.pass_through, id="it")], timeout=60)
    async with in_memory(clock=clock, async_slots=1, window=1) as runner:
        await runner.submit(first)
        await blocker.reached()
        handle = await runner.submit(second)
        clock.advance(100)
        blocker.open()
        await gate.reached()
        clock.advance(59)
        await turn()
        assert await handle.status() is ExecutionStatus.RUNNING
        clock.advance(1)
        assert (await handle.result(timeout=20)).status is FAILED
        gate.open()


async def test_an_execution_in_time_leaves_no_timer() -> None:
    gate, clock = Gate(), HandClock()
    gate.open()
    workflow = Workflow("limited", [task(gate.pass_through, id="it")], timeout=60)
    async with in_memory(clock=clock) as runner:
        assert (await runner.execute(workflow)).status is ExecutionStatus.COMPLETED
        assert clock.pending == []


@pytest.mark.parametrize("how", ["shutdown", "crash"])
@pytest.mark.parametrize("away", [30, 60, 1000])
async def test_the_clock_runs_while_nobody_is_there(tmp_path: Path, how: str, away: float) -> None:
    gates, clock = [Gate(), Gate()], HandClock()
    bodies = iter([gate.pass_through for gate in gates])
    workflow = Workflow("limited", timeout=60)

    @workflow.task
    async def it(ctx: Context) -> None:
        await next(bodies)(ctx)

    first = runner_on(tmp_path / "c.db", workflow, clock=clock, shutdown_grace=0)
    async with first if how == "shutdown" else crashing(first):
        id = (await first.submit(workflow)).id
        await gates[0].reached()
        clock.advance(20)
    later = HandClock()
    later.advance((clock.now() - later.now()) / 1e6 + away)
    async with runner_on(tmp_path / "c.db", workflow, clock=later) as runner:
        if away == 30:
            await gates[1].reached()
            assert later.advance(9.9) >= 0
            await turn()
            assert await runner.status(id) is ExecutionStatus.RUNNING
            later.advance(0.1)
        result = await runner.result(id, timeout=20)
        assert gates[1].entered == (away == 30)
    assert result.status is FAILED
    assert result.tasks["it"].reason is Reason.EXECUTION_TIMEOUT
    assert "timeout of 60.0s" in (result.error or "")


async def test_a_late_completion_does_not_undo_a_timeout() -> None:
    gate, clock = Gate(), HandClock()
    workflow = Workflow("limited", [task(gate.pass_through, id="it")], timeout=60)
    async with in_memory(clock=clock) as runner:
        handle = await runner.submit(workflow)
        await gate.reached()
        hold = interfere(runner).hold("commit")
        clock.advance(60)
        await hold.reached()
        gate.open()
        await turn()
        hold.release()
        result = await handle.result(timeout=20)
    assert (result.status, result.tasks["it"].state) == (FAILED, TaskState.CANCELLED)


async def test_the_end_of_the_last_task_and_the_timeout_at_once() -> None:
    gate, clock = Gate(), HandClock()
    workflow = Workflow("limited", [task(gate.pass_through, id="it")], timeout=60)
    async with in_memory(clock=clock) as runner:
        handle = await runner.submit(workflow)
        await gate.reached()
        gate.open()
        await until(lambda: gate.left)
        clock.advance(60)
        result = await handle.result(timeout=20)
    assert result.status in (ExecutionStatus.COMPLETED, FAILED)
    assert result.tasks["it"].state is (
        TaskState.COMPLETED if result.status is ExecutionStatus.COMPLETED else TaskState.CANCELLED
    )
