"""Mishaps: tasks fail, take long and do other things on purpose, and their code is not touched."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from cloacina import Context, RetryPolicy, TaskHandle, TransientError, Workflow
from cloacina.errors import ValidationError
from cloacina.model.status import AttemptState
from cloacina.testing import (
    TestRunner,
    assert_attempts,
    assert_completed,
    assert_context,
    assert_failed,
    assert_skipped,
)

work = Workflow("work", retry=RetryPolicy(max_attempts=3, initial_delay=60, max_delay=600))


@work.task(timeout=30)
async def fetch(ctx: Context) -> None:
    ctx["fetched"] = "really"


@work.task(dependencies=[fetch], timeout=30)
def parse(ctx: Context) -> None:
    ctx["parsed"] = ctx["fetched"].upper()


BOTH = pytest.mark.parametrize("task", [fetch, parse], ids=["async", "def"])


@BOTH
async def test_attempts_fail_on_purpose(task: Callable[..., object]) -> None:
    async with TestRunner(work) as runner:
        runner.fail(task, times=2, error=TransientError("down"))  # type: ignore[arg-type]
        result = await runner.execute(work)
        assert_completed(result)
        assert_attempts(result, task, 3)  # type: ignore[arg-type]
        runner.fail(task, times=math.inf, error=ConnectionError)  # type: ignore[arg-type]
        assert_failed(await runner.execute(work), task=task, error=ConnectionError)  # type: ignore[arg-type]


async def test_a_failure_may_come_after_the_work() -> None:
    done: list[int] = []
    careless = Workflow("careless", retry=RetryPolicy(max_attempts=3))

    @careless.task
    async def pays(ctx: Context) -> None:
        done.append(1)

    async with TestRunner(careless) as runner:
        runner.fail(pays, after=True)
        assert_completed(await runner.execute(careless))
        assert len(done) == 2 == runner.starts(pays)


@BOTH
async def test_a_delay_takes_time_on_the_clock(task: Callable[..., object]) -> None:
    async with TestRunner(work) as runner:
        runner.delay(task, 29)  # type: ignore[arg-type]
        result = await runner.execute(work)
        assert_completed(result)
        assert result.duration is not None
        assert 29 <= result.duration.total_seconds() < 30


@BOTH
async def test_a_delay_makes_an_attempt_run_out_of_time(task: Callable[..., object]) -> None:
    async with TestRunner(work) as runner:
        runner.delay(task, 31, times=1)  # type: ignore[arg-type]
        result = await runner.execute(work)
        assert_completed(result)
        states = [attempt.state for attempt in result.tasks[task.id].history]  # type: ignore[attr-defined]
        assert states == [AttemptState.TIMED_OUT, AttemptState.COMPLETED]


async def test_bodies_are_replaced() -> None:
    async def elsewhere(ctx: Context, handle: TaskHandle) -> None:
        ctx["fetched"] = f"by {handle.task} {handle.attempt}"

    def at_once(ctx: Context) -> None:
        ctx["fetched"] = "at once"

    def shouts(ctx: Context) -> None:
        ctx["parsed"] = "!"

    async with TestRunner(work) as runner:
        runner.replace("fetch", elsewhere, times=1)
        assert_context(await runner.execute(work), {"fetched": "by fetch 1", "parsed": "BY FETCH 1"})
        assert_context(await runner.execute(work), {"fetched": "really"})
        runner.replace(fetch, at_once)
        runner.replace(parse, shouts)
        assert_context(await runner.execute(work), {"fetched": "at once", "parsed": "!"})


async def test_several_come_together() -> None:
    async with TestRunner(work) as runner:
        runner.delay(fetch, 10, times=1)
        runner.fail(fetch, times=1)
        result = await runner.execute(work)
        assert_attempts(result, fetch, 2)
        assert result.duration is not None
        assert 70 <= result.duration.total_seconds() < 71


async def test_a_cancel_reaches_a_body_that_is_delayed() -> None:
    async with TestRunner(work) as runner:
        runner.delay(fetch, 20)
        handle = await runner.submit(work)
        await runner.advance(10)
        await handle.cancel()
        result = await handle.result()
        assert result.status == "cancelled"
        assert_skipped(result, parse, reason="cancelled")


async def test_misuse_is_refused() -> None:
    apart = Workflow("apart")
    apart.add(fetch_elsewhere, id="apart", executor="process")

    async def waits(ctx: Context) -> None: ...

    async with TestRunner(work, apart) as runner:
        for misuse, message in (
            (
                lambda: runner.fail("fetsh"),
                "fail.'fetsh'.: no workflow of this runner has such a task.*'fetch'",
            ),
            (lambda: runner.fail("fetch", times=0), "times=0 must be 1 or more"),
            (lambda: runner.fail("fetch", error="down"), "error='down' is no exception"),  # type: ignore[arg-type]
            (lambda: runner.delay("fetch", -1), "delay: -1 is no number of seconds"),
            (lambda: runner.replace("fetch", 5), "replace: 5 cannot be called"),  # type: ignore[arg-type]
            (lambda: runner.replace("parse", waits), "the body of task 'parse' is def"),
            (lambda: runner.starts("fetsh"), "Did you mean 'fetch'"),
            (lambda: runner.fail("apart"), "runs in executor 'process', where a test cannot reach it"),
        ):
            with pytest.raises(ValidationError, match=message):
                misuse()
    with pytest.raises(ValidationError, match="the runner has no workflow yet"):
        TestRunner().fail("fetch")


def fetch_elsewhere(ctx: Context) -> None: ...
