"""Timeouts of attempts: on the loop and on threads, and bodies that do not stop when they are told."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from cloacina.model.context.context import Context
from cloacina.model.retry import RetryPolicy
from cloacina.model.status import AttemptState, ExecutionStatus, TaskState
from cloacina.model.task import task
from cloacina.model.workflow import Workflow
from cloacina.runner import Runner
from support.clock import HandClock, turn, until
from support.runners import Gate, in_memory
from support.stores import interfere

COMPLETED, FAILED = ExecutionStatus.COMPLETED, ExecutionStatus.FAILED
AGAIN = RetryPolicy(max_attempts=2, initial_delay=1.0, backoff="fixed", jitter=0)


class Stuck:
    """Bodies that hold until they are let go, one after the other, and say what they see of the end."""

    def __init__(self) -> None:
        self.entered = 0
        self.left = 0
        self.cancelled = 0
        self._holds: list[threading.Event] = []
        self._async_holds: list[asyncio.Event] = []

    def on_thread(self, ctx: Context) -> None:
        hold = threading.Event()
        self._holds.append(hold)
        self.entered += 1
        assert hold.wait(20)
        ctx["late"] = True
        self.left += 1

    async def polite(self, ctx: Context) -> None:
        self.entered += 1
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise

    async def stubborn(self, ctx: Context) -> None:
        hold = asyncio.Event()
        self._async_holds.append(hold)
        self.entered += 1
        while not hold.is_set():
            try:
                await hold.wait()
            except asyncio.CancelledError:
                self.cancelled += 1
        ctx["late"] = True
        self.left += 1

    async def quick_after(self, ctx: Context) -> None:
        """Holds the first time, and is quick from then on."""
        if not self.entered:
            await self.polite(ctx)

    def quick_after_on_thread(self, ctx: Context) -> None:
        if not self.entered:
            self.on_thread(ctx)
        else:
            self.entered += 1

    def let_go(self, which: int = 0) -> None:
        releases = [hold.set for hold in self._holds] + [hold.set for hold in self._async_holds]
        for release in releases[which : which + 1]:
            release()

    async def reached(self, times: int = 1) -> None:
        await until(lambda: self.entered >= times, f"the {times}. start")


def limited(body: Any, timeout: float | None = 5.0, name: str = "limited", **options: Any) -> Workflow:
    return Workflow(name, [task(body, id="it", timeout=timeout, **{"retry": False, **options})])


async def ends(runner: Runner, id: str) -> Any:
    return await runner.result(id, timeout=20)


@pytest.mark.parametrize("body", ["polite", "on_thread"])
async def test_an_attempt_that_runs_too_long_times_out(body: str) -> None:
    stuck, clock = Stuck(), HandClock()
    async with in_memory(clock=clock) as runner:
        handle = await runner.submit(limited(getattr(stuck, body)))
        await stuck.reached()
        clock.advance(4.999)
        assert 0.001 in clock.pending and await handle.status() is ExecutionStatus.RUNNING
        clock.advance(0.001)
        result = await ends(runner, handle.id)
        stuck.let_go()
    it = result.tasks["it"]
    assert (result.status, it.state, it.history[0].state) == (
        FAILED,
        TaskState.FAILED,
        AttemptState.TIMED_OUT,
    )
    assert it.error is not None
    assert str(it.error) == "TimeoutError: task 'it' ran longer than its timeout of 5.0s"
    assert stuck.cancelled == (body == "polite")


@pytest.mark.parametrize("body", ["quick_after", "quick_after_on_thread"])
async def test_a_timeout_is_retried_like_a_failure(body: str) -> None:
    stuck, clock = Stuck(), HandClock()
    async with in_memory(clock=clock) as runner:
        handle = await runner.submit(limited(getattr(stuck, body), retry=AGAIN))
        await stuck.reached()
        clock.advance(5)
        stuck.let_go()
        await until(lambda: clock.pending == [1.0])
        clock.advance(1)
        result = await ends(runner, handle.id)
    assert result.status is COMPLETED
    assert [attempt.state for attempt in result.tasks["it"].history] == [
        AttemptState.TIMED_OUT,
        AttemptState.COMPLETED,
    ]


async def test_a_body_in_time_leaves_no_timer() -> None:
    gate, clock = Gate(), HandClock()
    async with in_memory(clock=clock) as runner:
        handle = await runner.submit(limited(gate.pass_through))
        await gate.reached()
        gate.open()
        assert (await ends(runner, handle.id)).status is COMPLETED
        assert clock.pending == []


async def test_an_async_body_that_swallows_its_cancellation_is_written_off(
    caplog: pytest.LogCaptureFixture,
) -> None:
    stuck, gate, clock = Stuck(), Gate(), HandClock()
    async with in_memory(clock=clock, async_slots=1, cancel_grace=3.0) as runner:
        handle = await runner.submit(limited(stuck.stubborn))
        await stuck.reached()
        other = await runner.submit(limited(gate.pass_through, name="other"))
        clock.advance(5)
        await until(lambda: stuck.cancelled)
        clock.advance(2.9)
        await turn()
        assert (await handle.status(), gate.entered) == (ExecutionStatus.RUNNING, 0)
        clock.advance(0.1)
        result = await ends(runner, handle.id)
        assert result.tasks["it"].history[0].state is AttemptState.TIMED_OUT
        await gate.reached()
        assert (runner.metrics()["loop"].written_off, stuck.left) == (1, 0)
        stuck.let_go()
        await until(lambda: stuck.left)
        gate.open()
        assert (await ends(runner, other.id)).status is COMPLETED
        assert (await runner.get(handle.id)).context == {}
    (record,) = [record for record in caplog.records if "written off" in record.message]
    assert (record.workflow, record.task, record.attempt) == ("limited", "it", 1)  # type: ignore[attr-defined]


async def test_a_thread_that_goes_on_is_refused_and_its_slot_replaced() -> None:
    stuck, gate, clock = Stuck(), Gate(), HandClock()
    async with in_memory(clock=clock, thread_slots=1) as runner:
        handle = await runner.submit(limited(stuck.on_thread))
        await stuck.reached()
        other = await runner.submit(limited(gate.pass_on_thread, name="other"))
        clock.advance(5)
        assert (await ends(runner, handle.id)).status is FAILED
        await gate.reached()
        gate.open()
        assert (await ends(runner, other.id)).status is COMPLETED
        stuck.let_go()
        await until(lambda: stuck.left)
        again = await runner.get(handle.id)
    assert (again.status, again.context.to_dict(), again.tasks["it"].attempts) == (FAILED, {}, 1)


@pytest.mark.parametrize("first", ["thread", "clock"])
async def test_a_retry_waits_for_the_thread_of_its_predecessor(first: str) -> None:
    stuck, clock = Stuck(), HandClock()
    async with in_memory(clock=clock) as runner:
        handle = await runner.submit(limited(stuck.quick_after_on_thread, retry=AGAIN))
        await stuck.reached()
        clock.advance(5)
        await until(lambda: clock.pending == [1.0])
        for step in ("thread", "clock") if first == "thread" else ("clock", "thread"):
            assert stuck.entered == 1
            if step == "clock":
                clock.advance(1)
                await turn()
            else:
                stuck.let_go()
                await until(lambda: stuck.left)
                await turn()
        assert (await ends(runner, handle.id)).status is COMPLETED
    assert stuck.entered == 2


async def test_a_thread_that_ends_before_its_timeout_is_stored_does_not_hold_the_retry() -> None:
    stuck, gate, clock = Stuck(), Gate(), HandClock()
    gate.open()
    async with in_memory(clock=clock) as runner:
        handle = await runner.submit(limited(stuck.quick_after_on_thread, retry=AGAIN))
        await stuck.reached()
        hold = interfere(runner).hold("commit")
        busy = asyncio.ensure_future(runner.execute(limited(gate.pass_through, None, "other")))
        await hold.reached()
        clock.advance(5)
        stuck.let_go()
        await until(lambda: stuck.left)
        await turn()
        hold.release()
        await until(lambda: clock.pending == [1.0])
        clock.advance(1)
        assert (await ends(runner, handle.id)).status is COMPLETED
        assert (await busy).status is COMPLETED


async def test_a_retry_may_overlap_if_the_task_says_so() -> None:
    stuck, clock = Stuck(), HandClock()
    async with in_memory(clock=clock) as runner:
        handle = await runner.submit(limited(stuck.quick_after_on_thread, retry=AGAIN, overlap=True))
        await stuck.reached()
        clock.advance(5)
        await until(lambda: clock.pending == [1.0])
        clock.advance(1)
        assert (await ends(runner, handle.id)).status is COMPLETED
        assert (stuck.entered, stuck.left) == (2, 0)
        stuck.let_go()


async def test_synchronous_work_stops_when_too_many_threads_are_lost(
    caplog: pytest.LogCaptureFixture,
) -> None:
    stuck, gate, clock = Stuck(), Gate(), HandClock()
    gate.open()
    async with in_memory(clock=clock, thread_slots=1) as runner:
        for lost in (1, 2, 3):
            handle = await runner.submit(limited(stuck.on_thread))
            await stuck.reached(lost)
            clock.advance(5)
            await ends(runner, handle.id)
        waits = await runner.submit(limited(gate.pass_on_thread, name="waits"))
        runs = await runner.submit(limited(gate.pass_through, name="runs"))
        assert (await ends(runner, runs.id)).status is COMPLETED
        assert gate.entered == 1
        assert "3 threads are held by bodies that were written off" in caplog.text
        explained = await runner.explain(waits.id)
        assert explained.tasks == {"it": "ready; waits for a free slot"}
        stuck.let_go(0)
        assert (await ends(runner, waits.id)).status is COMPLETED
        stuck.let_go(1)
        stuck.let_go(2)
        await until(lambda: stuck.left == 3)
        handles = [await runner.submit(limited(gate.pass_on_thread, name="waits")) for _ in range(5)]
        assert {(await ends(runner, handle.id)).status for handle in handles} == {COMPLETED}
