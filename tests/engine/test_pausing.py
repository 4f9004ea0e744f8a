"""Pause and resume: nothing starts in between, what runs may end, and a pause survives its runner."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from cloacina.clock import SystemClock
from cloacina.errors import CommandTimeout, ExecutionNotFound, ResultTimeout
from cloacina.model.context.context import Context
from cloacina.model.retry import RetryPolicy
from cloacina.model.status import ExecutionStatus
from cloacina.model.task import task
from cloacina.model.workflow import Workflow
from support.clock import HandClock, turn, until
from support.runners import Gate, crashing, in_memory, runner_on
from support.stores import interfere

COMPLETED, FAILED, CANCELLED = ExecutionStatus.COMPLETED, ExecutionStatus.FAILED, ExecutionStatus.CANCELLED
PAUSED, RUNNING, PENDING = ExecutionStatus.PAUSED, ExecutionStatus.RUNNING, ExecutionStatus.PENDING


def two_steps(gate: Gate, **options: object) -> tuple[Workflow, list[str]]:
    """A first task that waits at the gate, and a second one; the list is of the ends."""
    ends: list[str] = []
    workflow = Workflow("steps", **options)  # type: ignore[arg-type]

    @workflow.task
    async def first(ctx: Context) -> None:
        await gate.pass_through(ctx)
        ends.append("first")

    @workflow.task(dependencies=[first])
    async def second(ctx: Context) -> None:
        ends.append("second")

    return workflow, ends


async def test_what_runs_may_end_and_nothing_starts_until_it_is_resumed() -> None:
    gate = Gate()
    workflow, ends = two_steps(gate)
    async with in_memory() as runner:
        handle = await runner.submit(workflow)
        await gate.reached()
        assert await handle.pause() is PAUSED
        assert await handle.pause() is PAUSED
        gate.open()
        await until(lambda: handle.id not in runner._engine.life.drivers, "the rest of the paused execution")
        assert ends == ["first"]
        stored = await runner.get(handle.id)
        assert (stored.status, stored.tasks["first"].state) == (PAUSED, "completed")
        assert "resume" in (await runner.explain(handle.id)).reason
        assert await handle.resume() is RUNNING
        assert (await handle.result()).status is COMPLETED
        assert ends == ["first", "second"]


async def test_resumed_while_a_body_still_runs() -> None:
    gate = Gate()
    workflow, ends = two_steps(gate)
    async with in_memory() as runner:
        handle = await runner.submit(workflow)
        await gate.reached()
        assert await handle.pause() is PAUSED
        assert await handle.resume() is RUNNING
        gate.open()
        assert (await handle.result()).status is COMPLETED
        assert ends == ["first", "second"]


async def test_a_pause_before_the_first_start() -> None:
    blocker, gate = Gate(), Gate()
    gate.open()
    workflow, ends = two_steps(gate)
    async with in_memory(async_slots=1, thread_slots=1, window=10) as runner:
        await runner.submit(Workflow("blocker", [task(blocker.pass_through, id="it")]))
        await blocker.reached()
        handle = await runner.submit(workflow)
        assert await handle.pause() is PAUSED
        blocker.open()
        await turn(50)
        assert ends == []
        assert await handle.resume() is PENDING
        assert (await handle.result()).status is COMPLETED


async def test_tasks_that_wait_for_a_slot_do_not_start() -> None:
    blocker, gate = Gate(), Gate()
    gate.open()
    workflow, ends = two_steps(gate)
    async with in_memory(async_slots=1, thread_slots=1, window=10) as runner:
        await runner.submit(Workflow("blocker", [task(blocker.pass_through, id="it")]))
        await blocker.reached()
        handles = [await runner.submit(workflow) for _ in range(10)]
        assert {await handle.pause() for handle in handles[::2]} == {PAUSED}
        blocker.open()
        for handle in handles[1::2]:
            assert (await handle.result()).status is COMPLETED
        assert len(ends) == 10
        for handle in handles[::2]:
            await handle.resume()
            assert (await handle.result()).status is COMPLETED


async def test_a_retry_that_falls_due_waits_for_the_resume() -> None:
    clock, calls = HandClock(), 0
    workflow = Workflow("flaky")

    @workflow.task(retry=RetryPolicy(max_attempts=2, initial_delay=10, jitter=0))
    async def flaky(ctx: Context) -> None:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise OSError("once")

    async with in_memory(clock=clock) as runner:
        handle = await runner.submit(workflow)
        await until(lambda: clock.pending, "the wait for the retry")
        assert await handle.pause() is PAUSED
        clock.advance(100)
        await turn(50)
        assert calls == 1
        await handle.resume()
        assert (await handle.result()).status is COMPLETED
        assert calls == 2


@pytest.mark.parametrize("started", [True, False])
async def test_a_workflows_timeout_runs_on(started: bool) -> None:
    clock, gate = HandClock(), Gate()
    workflow, ends = two_steps(gate, timeout=60)
    async with in_memory(clock=clock) as runner:
        handle = await runner.submit(workflow)
        await gate.reached()
        await handle.pause()
        if started:
            gate.open()
            await until(lambda: handle.id not in runner._engine.life.drivers, "the rest")
        clock.advance(61)
        result = await handle.result()
        assert result.status is FAILED
        assert result.error is not None and "timeout of 60" in result.error
        assert ends == (["first"] if started else [])
        assert await handle.resume() is FAILED


async def test_an_execution_that_has_nothing_left_to_do_ends_when_it_is_resumed() -> None:
    gate = Gate()
    async with in_memory() as runner:
        handle = await runner.submit(Workflow("one", [task(gate.pass_through, id="it")]))
        await gate.reached()
        await handle.pause()
        gate.open()
        await until(lambda: handle.id not in runner._engine.life.drivers, "the rest")
        assert await handle.status() is PAUSED
        await handle.resume()
        assert (await handle.result()).status is COMPLETED


async def test_an_execution_that_has_nothing_left_to_do_is_not_out_of_time() -> None:
    clock, gate = HandClock(), Gate()
    workflow = Workflow("one", [task(gate.pass_through, id="it")], timeout=60)
    async with in_memory(clock=clock) as runner:
        handle = await runner.submit(workflow)
        await gate.reached()
        await handle.pause()
        gate.open()
        await until(lambda: handle.id not in runner._engine.life.drivers, "the rest")
        clock.advance(61)
        await runner.execute(Workflow("another", [task(gate.pass_through, id="it")]))
        assert await handle.status() is PAUSED
        await handle.resume()
        assert (await handle.result()).status is COMPLETED


async def test_a_cancel_that_meets_the_last_end_of_a_paused_execution_cancels_it() -> None:
    gate, other = Gate(), Gate()
    other.open()
    async with in_memory() as runner:
        handle = await runner.submit(Workflow("one", [task(gate.pass_through, id="it")]))
        await gate.reached()
        await handle.pause()
        held = interfere(runner).hold("commit")
        beside = asyncio.ensure_future(runner.execute(Workflow("two", [task(other.pass_through, id="it")])))
        await held.reached()
        gate.open()
        cancelling = asyncio.ensure_future(handle.cancel())
        await turn()
        held.release()
        assert await cancelling is CANCELLED
        result = await handle.result()
        assert (result.status, result.tasks["it"].state) == (CANCELLED, "completed")
        await beside


async def test_a_paused_execution_can_be_cancelled() -> None:
    gate = Gate()
    workflow, ends = two_steps(gate)
    async with in_memory() as runner:
        rests, runs = await runner.submit(workflow), await runner.submit(workflow)
        await gate.reached(2)
        await runs.pause()
        assert await runs.cancel() is CANCELLED
        await rests.pause()
        gate.open()
        await until(lambda: not runner._engine.life.drivers, "the rest")
        assert await rests.cancel() is CANCELLED
        assert (await rests.result()).tasks["second"].state == "skipped"
        assert ends == ["first"]


async def test_a_pause_survives_a_crash_and_a_shutdown(tmp_path: Path) -> None:
    gate = Gate()
    workflow, ends = two_steps(gate)
    async with crashing(runner_on(tmp_path / "db", workflow)) as runner:
        handle = await runner.submit(workflow)
        await gate.reached()
        await handle.pause()
    gate.open()
    async with runner_on(tmp_path / "db", workflow) as runner:
        await turn(50)
        assert await runner.status(handle.id) is PAUSED
        with pytest.raises(ResultTimeout):
            await runner.result(handle.id, timeout=0)
    async with runner_on(tmp_path / "db", workflow) as runner:
        assert ends == []
        await runner.resume(handle.id)
        assert (await runner.result(handle.id)).status is COMPLETED
    assert ends == ["first", "second"]


async def test_ended_and_unknown_executions() -> None:
    gate = Gate()
    gate.open()
    workflow, _ = two_steps(gate)
    async with in_memory() as runner:
        result = await runner.execute(workflow)
        assert await runner.pause(result.id) is COMPLETED
        assert await runner.resume(result.id) is COMPLETED
        for command in (runner.pause, runner.resume, runner.cancel):
            with pytest.raises(ExecutionNotFound):
                await command("nothing")


# The owner is another process; here, another engine.


@pytest.mark.parametrize("kind", ["cancel", "pause"])
async def test_a_command_reaches_the_owner(kind: str, tmp_path: Path) -> None:
    gate = Gate()
    workflow, ends = two_steps(gate)
    async with (
        runner_on(tmp_path / "db", clock=SystemClock()) as owner,
        runner_on(tmp_path / "db", clock=SystemClock()) as other,
    ):
        handle = await owner.submit(workflow)
        await gate.reached()
        status = await getattr(other, kind)(handle.id)
        assert status is {"cancel": CANCELLED, "pause": PAUSED}[kind]
        assert await handle.status() is status
        gate.open()
        if kind == "pause":
            await until(lambda: handle.id not in owner._engine.life.drivers, "the rest")
            assert ends == ["first"]
            assert await other.resume(handle.id) in (RUNNING, COMPLETED)
            assert (await other.result(handle.id)).status is COMPLETED


async def test_an_owner_that_does_not_answer_obeys_later(tmp_path: Path) -> None:
    gate = Gate()
    workflow, _ = two_steps(gate)
    async with crashing(runner_on(tmp_path / "db")) as owner:
        handle = await owner.submit(workflow)
        await gate.reached()
        await owner._engine.access.bell.stop()  # it hears of nothing
        async with runner_on(tmp_path / "db", command_timeout=0.01) as other:
            with pytest.raises(CommandTimeout, match="stays"):
                await other.cancel(handle.id)
            assert await other.status(handle.id) is RUNNING
    async with runner_on(tmp_path / "db", workflow) as heir:
        assert (await heir.result(handle.id)).status is CANCELLED


async def test_a_command_to_an_owner_that_dies_is_carried_out(tmp_path: Path) -> None:
    gate = Gate()
    workflow, _ = two_steps(gate)
    async with runner_on(tmp_path / "db", clock=SystemClock(), poll_interval=0.01) as other:
        async with crashing(runner_on(tmp_path / "db")) as owner:
            handle = await owner.submit(workflow)
            await gate.reached()
            cancelling = asyncio.ensure_future(other.cancel(handle.id))
            await until(lambda: other._engine.access.bell._listeners, "the wait for the owner")
        # Nobody who has the workflow is there, so the sender does it.
        async with runner_on(tmp_path / "db", clock=SystemClock()) as third:
            assert await cancelling is CANCELLED
            assert (await third.get(handle.id)).status is CANCELLED
