"""Assertions: each can fail, and its message tells the story."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from cloacina import Context, ExecutionResult, PermanentError, Workflow, task_failed
from cloacina.errors import ValidationError
from cloacina.testing import (
    TestRunner,
    assert_attempts,
    assert_completed,
    assert_context,
    assert_failed,
    assert_order,
    assert_skipped,
)

work = Workflow("work", retry=False)


@work.task
async def fetch(ctx: Context) -> None:
    ctx["rows"] = [1, 2]


@work.task
async def other(ctx: Context) -> None: ...


@work.task(dependencies=[fetch])
def parse(ctx: Context) -> None:
    if ctx.get("bad"):
        raise PermanentError("these rows are none")


@work.task(dependencies=[parse], trigger_rules=task_failed(parse))
def alert(ctx: Context) -> None: ...


@work.task(dependencies=[parse])
def load(ctx: Context) -> None: ...


@pytest.fixture
async def good() -> ExecutionResult:
    async with TestRunner(work) as runner:
        return await runner.execute(work)


@pytest.fixture
async def bad() -> ExecutionResult:
    async with TestRunner(work) as runner:
        return await runner.execute(work, {"bad": True})


async def test_what_is_so_passes(good: ExecutionResult, bad: ExecutionResult) -> None:
    assert_completed(good)
    assert_attempts(good, parse, 1)
    assert_attempts(good, "alert", 0)
    assert_skipped(good, alert, reason="rule_not_met")
    assert_context(good, {"rows": [1, 2]})
    assert_order(good, fetch, parse, "load")
    assert_failed(bad)
    assert_failed(bad, task=parse, error=PermanentError)
    assert_failed(bad, error="rows are none")
    assert_skipped(bad, load)
    assert_order(bad, parse, alert)


Check = Callable[[ExecutionResult, ExecutionResult], None]


@pytest.mark.parametrize(
    ("check", "message"),
    [
        (lambda good, bad: assert_completed(bad), "the execution did not complete"),
        (lambda good, bad: assert_failed(good), "the execution did not fail"),
        (lambda good, bad: assert_failed(bad, task=fetch), "task 'fetch' did not fail: it is completed"),
        (lambda good, bad: assert_failed(bad, error=ValueError), "no error is 'ValueError'"),
        (lambda good, bad: assert_failed(bad, error="no such"), "no error is 'no such'"),
        (lambda good, bad: assert_skipped(bad, alert), "task 'alert' was not skipped: it is completed"),
        (
            lambda good, bad: assert_skipped(good, alert, reason="dependency_failed"),
            "was skipped as rule_not_met, not as dependency_failed",
        ),
        (lambda good, bad: assert_attempts(good, parse, 2), "task 'parse' had 1 attempts, not 2"),
        (lambda good, bad: assert_context(good, {"rows": [2]}), r"context\['rows'\] is \[1, 2\], not \[2\]"),
        (lambda good, bad: assert_context(good, {"sum": 3}), r"context\['sum'\] is not there, not 3"),
        (
            lambda good, bad: assert_order(good, load, parse),
            "task 'parse' began before task 'load' had ended",
        ),
        (lambda good, bad: assert_order(good, fetch, other), "task 'other' began before task 'fetch' had"),
        (lambda good, bad: assert_order(good, fetch, alert), "task 'alert' never ran: it is skipped"),
    ],
)
async def test_what_is_not_so_is_told(
    check: Check, message: str, good: ExecutionResult, bad: ExecutionResult
) -> None:
    with pytest.raises(AssertionError, match=message) as told:
        check(good, bad)
    assert "\n  fetch  completed\n" in str(told.value)


async def test_the_story_has_errors_and_reasons(bad: ExecutionResult) -> None:
    with pytest.raises(AssertionError) as told:
        assert_completed(bad)
    assert "  parse  failed: cloacina.errors.PermanentError: these rows are none" in str(told.value)
    assert "  load   skipped: dependency_failed" in str(told.value)


async def test_misuse_is_refused(good: ExecutionResult) -> None:
    with pytest.raises(ValidationError, match="'work' has no task 'parze': .*Did you mean 'parse'"):
        assert_attempts(good, "parze", 1)
    with pytest.raises(ValidationError, match="did you forget to await it"):
        assert_completed(None)  # type: ignore[arg-type]
    with pytest.raises(ValidationError, match=r"no reason 'rule_not_mett'.*Did you mean 'rule_not_met'"):
        assert_skipped(good, alert, reason="rule_not_mett")
    with pytest.raises(ValidationError, match="name two tasks or more"):
        assert_order(good, fetch)
