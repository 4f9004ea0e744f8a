"""The test runner: waits pass in no time, and what the clock cannot bring is said."""

from __future__ import annotations

import asyncio
import threading
from datetime import timedelta
from pathlib import Path

import pytest

from cloacina import Context, ResultTimeout, RetryPolicy, Settings, TaskHandle, Workflow
from cloacina.errors import ExecutionFailed, ExecutionStalled, RunnerClosed, ValidationError
from cloacina.testing import (
    BlockingTestRunner,
    TestRunner,
    assert_attempts,
    assert_completed,
    assert_context,
    assert_failed,
    assert_order,
)
from cloacina.testing.hand.machine import Moment
from support.clock import turn

HOUR = RetryPolicy(max_attempts=3, initial_delay=3600, max_delay=1e6, backoff="fixed")

flaky = Workflow("flaky", retry=HOUR)


@flaky.task
async def stumbles(ctx: Context, handle: TaskHandle) -> None:
    if handle.attempt < 3:
        raise ConnectionError("not yet")


@flaky.task(dependencies=[stumbles])
def after(ctx: Context) -> None:
    ctx["after"] = True


async def test_delays_of_hours_pass_by_themselves() -> None:
    async with TestRunner(flaky) as runner:
        begun = runner.now
        result = await runner.execute(flaky)
        assert_completed(result)
        assert_attempts(result, stumbles, 3)
        assert_order(result, stumbles, after)
        assert timedelta(hours=2) <= runner.now - begun < timedelta(hours=2, seconds=1)


async def test_the_clock_can_be_moved_step_by_step() -> None:
    async with TestRunner(flaky) as runner:
        handle = await runner.submit(flaky)
        await runner.advance(3599)
        assert (await handle.get()).tasks["stumbles"].attempts == 1
        await runner.advance(1)
        assert (await handle.get()).tasks["stumbles"].attempts == 2
        await runner.advance(10_000)
        assert (await handle.get()).status == "completed"


async def test_several_executions_are_waited_for_at_once() -> None:
    async with TestRunner(flaky) as runner:
        results = await asyncio.gather(*(runner.execute(flaky) for _ in range(20)))
        assert [result.status for result in results] == ["completed"] * 20
        assert [result.tasks["stumbles"].attempts for result in results] == [3] * 20


async def test_a_deferral_is_looked_at_until_it_holds() -> None:
    waits, looks = Workflow("waits"), iter([False] * 50)

    @waits.task
    async def one(ctx: Context, handle: TaskHandle) -> None:
        async def holds() -> bool:
            await asyncio.sleep(0)
            return next(looks, True)

        await handle.defer_until(holds, 60)

    @waits.task
    def other(ctx: Context, handle: TaskHandle) -> None:
        handle.defer_until(lambda: next(looks, True), 90)

    async with TestRunner(waits) as runner:
        assert_completed(await runner.execute(waits))


async def test_conditions_that_take_real_time_are_waited_for() -> None:
    slow = Workflow("slow")

    @slow.task
    async def asynchronous(ctx: Context, handle: TaskHandle) -> None:
        looks = iter([False, False])

        async def holds() -> bool:
            await asyncio.sleep(0.02)
            return next(looks, True)

        await handle.defer_until(holds, 60)

    @slow.task(dependencies=[asynchronous])
    def threaded(ctx: Context, handle: TaskHandle) -> None:
        looks = iter([False, False])
        handle.defer_until(lambda: threading.Event().wait(0.02) or next(looks, True), 60)

    async with TestRunner(slow) as runner:
        assert_completed(await runner.execute(slow))


async def test_callbacks_are_waited_for() -> None:
    called: list[str] = []

    async def tell(ctx: Context, info: object) -> None:
        await asyncio.sleep(0.02)
        called.append("told")

    loud = Workflow("loud", on_success=tell)

    @loud.task
    async def one(ctx: Context) -> None: ...

    async with TestRunner(loud) as runner:
        await runner.execute(loud)
        assert called == ["told"]


async def test_an_execution_runs_out_of_time_while_its_retry_waits() -> None:
    brief = Workflow("brief", timeout=3600 * 1.5, retry=HOUR)
    brief.add(stumbles)
    async with TestRunner(brief) as runner:
        result = await runner.execute(brief)
        assert_failed(result)
        assert_attempts(result, "stumbles", 2)


async def test_an_execution_that_is_stored_away_wakes_up() -> None:
    async with TestRunner(flaky, settings=Settings(max_waiting=0)) as runner:
        handle = await runner.submit(flaky)
        await runner.advance(0)
        assert "stored away" in (await handle.explain()).reason
        assert_completed(await handle.result())


async def test_a_child_is_waited_for() -> None:
    family = Workflow("family")
    async with TestRunner(flaky) as runner:

        @family.task
        async def asynchronous(ctx: Context) -> None:
            ctx["child"] = str((await runner.execute(flaky)).status)

        @family.task
        def threaded(ctx: Context) -> None:
            ctx["other"] = str(runner.blocking.execute(flaky).status)

        assert_context(await runner.execute(family), {"child": "completed", "other": "completed"})


async def test_bodies_that_take_real_time_are_waited_for() -> None:
    slow = Workflow("slow", timeout=10)

    @slow.task
    async def asynchronous(ctx: Context) -> None:
        await asyncio.sleep(0.02)

    @slow.task(timeout=5)
    def threaded(ctx: Context) -> None:
        threading.Event().wait(0.02)

    async with TestRunner(slow) as runner:
        assert_completed(await runner.execute(slow))


async def test_what_the_clock_cannot_bring_is_said() -> None:
    async with TestRunner(flaky) as runner:
        handle = await runner.submit(flaky)
        await handle.pause()
        with pytest.raises(
            ExecutionStalled, match=r"something outside, however the clock moves:\n.*resume\(\)"
        ):
            await handle.result()
        await handle.resume()
        assert_completed(await handle.result())


async def test_a_condition_that_never_holds_is_given_up() -> None:
    stuck = Workflow("stuck")

    @stuck.task
    async def waits(ctx: Context, handle: TaskHandle) -> None:
        await handle.defer_until(lambda: False, 1)

    async with TestRunner(stuck) as runner:
        with pytest.raises(ExecutionStalled, match=r"looks at conditions that never held:(.|\n)*deferred"):
            await runner.execute(stuck)


async def test_a_body_that_hangs_is_named() -> None:
    hanging, gate = Workflow("hanging"), asyncio.Event()

    @hanging.task
    async def hangs(ctx: Context) -> None:
        await gate.wait()

    async with TestRunner(hanging, patience=0.01) as runner:
        with pytest.raises(ExecutionStalled, match=r"the body of task 'hangs' \(attempt 1\)"):
            await runner.execute(hanging)
        handle = await runner.submit(hanging)
        await runner.advance(10)
        gate.set()
        assert_completed(await handle.result())


async def test_a_result_can_be_waited_for_so_long() -> None:
    async with TestRunner(flaky) as runner:
        handle = await runner.submit(flaky)
        begun = runner.now
        with pytest.raises(ResultTimeout, match=r"5000s on the clock"):
            await handle.result(timeout=5000)
        assert timedelta(seconds=5000) <= runner.now - begun < timedelta(seconds=5001)
        assert (await handle.get()).tasks["stumbles"].attempts == 2


async def test_a_failure_can_be_raised() -> None:
    async with TestRunner(flaky) as runner:
        runner.fail("after", times=3)
        with pytest.raises(ExecutionFailed):
            await runner.execute(flaky, raise_on_failure=True)


def test_it_works_in_a_plain_function(tmp_path: Path) -> None:
    with BlockingTestRunner(flaky, url=tmp_path / "work.db") as runner:
        assert_completed(runner.execute(flaky))
        runner.fail(after, times=1)
        runner.delay(after, 100)
        handle = runner.submit(flaky)
        runner.advance(2 * 3600 + 1)
        assert runner.starts(after) == 2
        assert_completed(handle.result())
        other = runner.submit(flaky)
        runner.crash()
    with BlockingTestRunner(flaky, url=tmp_path / "work.db") as runner:
        result = runner.result(other.id)
        assert_completed(result)
        assert runner.record(result.id).stored.id == result.id


async def test_a_crash_leaves_what_is_stored_to_the_next_runner(tmp_path: Path) -> None:
    async with TestRunner(flaky, url=tmp_path / "work.db") as first:
        handle = await first.submit(flaky)
        await first.advance(0)
        await first.crash()
        with pytest.raises(RunnerClosed):
            await first.submit(flaky)
    async with TestRunner(flaky, url=tmp_path / "work.db", now=first.clock.now()) as second:
        result = await second.result(handle.id)
        assert_completed(result)
        assert_attempts(result, stumbles, 3)


@pytest.mark.parametrize(("moment", "stored"), [("before", 0), ("after", 1)])
async def test_a_runner_that_died_at_a_commit_does_nothing_more(
    moment: Moment, stored: int, tmp_path: Path
) -> None:
    async with TestRunner(flaky, url=tmp_path / "work.db") as first:
        first.crash_at(1, moment)
        waiting = [asyncio.ensure_future(first.submit(flaky)) for _ in range(2)]
        await first.machine.died.wait()
        late = asyncio.ensure_future(first.submit(flaky, key="late"))
        await turn(100)
        assert not any(one.done() for one in (*waiting, late))
        await first.crash()
    async with TestRunner(url=tmp_path / "work.db") as second:
        assert len(await second.list()) == 2 * stored


async def test_leaving_it_waits_for_nobody() -> None:
    gate = asyncio.Event()
    hanging = Workflow("hanging")

    @hanging.task
    async def hangs(ctx: Context) -> None:
        await gate.wait()

    @hanging.task
    def delayed(ctx: Context) -> None:
        raise AssertionError("it must not run any more")

    async with TestRunner(hanging, patience=0.0) as runner:
        runner.delay("delayed", 60)
        await runner.submit(hanging)
        await runner.advance(0)


async def test_pytest_does_not_collect_it() -> None:
    assert TestRunner.__test__ is BlockingTestRunner.__test__ is False


async def test_misuse_is_refused() -> None:
    with pytest.raises(ValidationError, match="on a server, whose time cannot be driven by hand"):
        await TestRunner(url="postgresql://localhost/nothing").start()
    with pytest.raises(ValidationError, match="patience: -1 is no number of seconds"):
        TestRunner(patience=-1)
    async with TestRunner() as runner:
        for seconds in (-1, True, "soon", float("inf")):
            with pytest.raises(ValidationError, match="is no number of seconds"):
                await runner.advance(seconds)  # type: ignore[arg-type]
