"""Crashes everywhere: each commit of a workflow is crashed before and after, and what that changes is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from cloacina import Context, PermanentError, RetryPolicy, TaskHandle, Workflow, task_failed
from cloacina.errors import ValidationError
from cloacina.testing import CrashReport, TestRunner, assert_completed, assert_failed, crash_everywhere

orders = Workflow("orders", retry=RetryPolicy(max_attempts=3, initial_delay=60, max_delay=600))


@orders.task
async def load(ctx: Context, handle: TaskHandle) -> None:
    if handle.attempt == 1:
        raise ConnectionError("the first time it always fails")
    ctx["rows"] = [1, 2, 3]


@orders.task(dependencies=[load])
def price(ctx: Context) -> None:
    ctx["sum"] = sum(ctx["rows"]) + ctx.checkpoint("surcharge", lambda: 4)


@orders.task(dependencies=[load], trigger_rules=task_failed(load))
def fall_back(ctx: Context) -> None:
    ctx["rows"] = []


@orders.task(dependencies=[price, fall_back])
async def send(ctx: Context, handle: TaskHandle) -> None:
    looks = iter([False, False])
    await handle.defer_until(lambda: next(looks, True), 600)
    ctx["sent"] = True


async def test_a_workflow_ends_alike_wherever_it_is_crashed() -> None:
    report = await crash_everywhere(orders)
    assert_completed(report.result)
    assert report.differing == ()
    commits = max(crash.commit for crash in report.crashes)
    assert commits >= 8
    assert {(crash.commit, crash.moment) for crash in report.crashes} == {
        (commit, moment) for commit in range(1, commits + 1) for moment in ("before", "after")
    }
    assert report.starts == {"load": 2, "price": 1, "send": 1}
    assert report.most_starts == {"load": 3, "price": 2, "fall_back": 0, "send": 2}
    assert "all with the same end" in str(report)
    assert "price      ran once; with a crash at most twice" in str(report)


async def test_a_crash_before_the_first_commit_is_submitted_again() -> None:
    report = await crash_everywhere(orders)
    first = report.crashes[0]
    assert (first.commit, first.moment) == (1, "before")
    assert first.starts == report.starts


async def test_a_task_that_cannot_be_repeated_is_found() -> None:
    paid: list[int] = []
    careless = Workflow("careless")

    @careless.task
    async def pay(ctx: Context) -> None:
        paid.append(1)
        ctx["paid"] = len(paid)

    with pytest.raises(AssertionError) as found:
        await crash_everywhere(careless, prepare=paid.clear)
    assert "1 with another end" in str(found.value)
    assert "crash before commit 2: context['paid'] is 2; without a crash: 1" in str(found.value)
    report = await crash_everywhere(careless, prepare=paid.clear, raise_on_difference=False)
    assert [(crash.commit, crash.moment) for crash in report.differing] == [(2, "before")]
    report = await crash_everywhere(careless, prepare=paid.clear, ignore=["paid"])
    assert report.most_starts == {"pay": 2}


async def test_what_bodies_do_outside_is_checked(tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    careless = Workflow("careless")

    @careless.task
    def pay(ctx: Context) -> None:
        with ledger.open("a") as lines:
            lines.write("paid\n")

    def once(result: object) -> None:
        assert ledger.read_text() == "paid\n", "paid more than once"

    with pytest.raises(
        AssertionError, match=r"crash before commit 2: the check failed: .*paid more than once"
    ):
        await crash_everywhere(careless, prepare=lambda: ledger.unlink(missing_ok=True), check=once)


async def test_a_failed_execution_fails_wherever_it_is_crashed() -> None:
    broken = Workflow("broken")

    @broken.task
    def breaks(ctx: Context) -> None:
        raise PermanentError("as it must")

    report = await crash_everywhere(broken)
    assert_failed(report.result, task=breaks, error=PermanentError)
    assert report.most_starts == {"breaks": 2}


async def test_its_runners_can_be_prepared() -> None:
    def prepare(runner: TestRunner) -> None:
        runner.replace(load, lambda_free)

    report: CrashReport = await crash_everywhere(orders, runner=prepare)
    assert report.result.context["sum"] == 4


def lambda_free(ctx: Context) -> None:
    ctx["rows"] = []


async def test_many_crashes_of_a_wide_workflow() -> None:
    wide = Workflow("wide")
    for number in range(6):

        @wide.task(id=f"step{number}", dependencies=[f"step{number - 1}"] if number else [])
        def step(ctx: Context) -> None:
            ctx.setdefault("steps", []).append(ctx.checkpoint("a", lambda: 1))

    report = await crash_everywhere(wide)
    assert len(report.crashes) >= 20
    assert set(report.most_starts.values()) == {2}


async def test_misuse_is_refused() -> None:
    with pytest.raises(ValidationError, match="'orders' is no Workflow"):
        await crash_everywhere("orders")  # type: ignore[arg-type]
