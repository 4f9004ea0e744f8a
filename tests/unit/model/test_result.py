"""Results: what they tell of attempts, tasks and executions."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from cloacina.errors import StoreCorrupt
from cloacina.model.context.context import Context
from cloacina.model.result import (
    AttemptResult,
    ErrorInfo,
    ExecutionInfo,
    ExecutionResult,
    ForkResult,
    TaskResult,
    maybe_moment,
    moment,
)
from cloacina.model.status import AttemptState, ExecutionStatus, Reason, TaskState

START = datetime(2026, 1, 1, tzinfo=UTC)
BOOM, BANG = ErrorInfo("ValueError", "boom"), ErrorInfo("KeyError", "bang")


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def attempt(number: int, state: str, start: float | None, end: float | None, **more: Any) -> AttemptResult:
    values = {"reason": None, "error": None, **more}
    return AttemptResult(
        number,
        AttemptState(state),
        None if start is None else at(start),
        None if end is None else at(end),
        **values,
    )


FAILED_TWICE = (
    attempt(1, "failed", 0, 1, error=BOOM),
    attempt(2, "interrupted", 2, 3, reason=Reason.CRASH),
    attempt(3, "failed", 4, 5, error=BANG),
)
CANCELLED_WAIT = (*FAILED_TWICE, attempt(4, "cancelled", None, 6, reason=Reason.CANCELLED))
SKIPPED = (attempt(0, "skipped", None, 7, reason=Reason.DEPENDENCY_FAILED),)


@pytest.mark.parametrize(
    ("state", "history", "attempts", "reason", "error", "started", "finished"),
    [
        ("pending", (), 0, None, None, None, None),
        ("running", (attempt(1, "running", 0, None),), 1, None, None, 0, None),
        ("completed", (attempt(1, "completed", 0, 1),), 1, None, None, 0, 1),
        ("waiting", FAILED_TWICE[:1], 1, None, BOOM, 0, None),
        ("pending", FAILED_TWICE[:2], 2, Reason.CRASH, BOOM, 0, None),
        ("failed", FAILED_TWICE, 3, None, BANG, 0, 5),
        ("cancelled", CANCELLED_WAIT, 3, Reason.CANCELLED, BANG, 0, 6),
        ("skipped", SKIPPED, 0, Reason.DEPENDENCY_FAILED, None, None, 7),
    ],
)
def test_a_task(
    state: str,
    history: tuple[AttemptResult, ...],
    attempts: int,
    reason: Reason | None,
    error: ErrorInfo | None,
    started: float | None,
    finished: float | None,
) -> None:
    found = TaskResult("t", TaskState(state), history)
    assert (found.attempts, found.reason, found.error) == (attempts, reason, error)
    assert found.started == (None if started is None else at(started))
    assert found.finished == (None if finished is None else at(finished))


def result(status: str, *states: str, **changes: Any) -> ExecutionResult:
    values: dict[str, Any] = {
        "id": "id",
        "workflow": "etl",
        "version": "v",
        "status": ExecutionStatus(status),
        "context": Context(),
        "tasks": {f"t{n}": TaskResult(f"t{n}", TaskState(state)) for n, state in enumerate(states)},
        "created": START,
        "started": START,
        "finished": at(1.254),
        **changes,
    }
    return ExecutionResult(**values)


@pytest.mark.parametrize(
    ("found", "summary"),
    [
        (
            result("completed", "completed", "skipped", "completed"),
            "etl completed in 1.25s (2 completed, 0 failed, 1 skipped)",
        ),
        (
            result("failed", "failed", "completed", error="t0: boom"),
            "etl failed in 1.25s (1 completed, 1 failed, 0 skipped): t0: boom",
        ),
        (
            result("cancelled", "cancelled", "skipped"),
            "etl cancelled in 1.25s (0 completed, 0 failed, 1 skipped, 1 cancelled)",
        ),
        (
            result("running", "running", "pending", finished=None),
            "etl running (0 completed, 0 failed, 0 skipped, 1 running, 1 pending)",
        ),
        (result("cancelled", "skipped", started=None), "etl cancelled (0 completed, 0 failed, 1 skipped)"),
    ],
)
def test_a_summary_is_one_line(found: ExecutionResult, summary: str) -> None:
    assert found.summary == str(found) == summary


@pytest.mark.parametrize(
    ("changes", "duration"),
    [({}, timedelta(seconds=1.254)), ({"finished": None}, None), ({"started": None}, None)],
)
def test_the_duration(changes: dict[str, Any], duration: timedelta | None) -> None:
    assert result("completed", **changes).duration == duration


@pytest.mark.parametrize(
    ("error", "text"), [(BOOM, "ValueError: boom"), (ErrorInfo("KeyError", ""), "KeyError")]
)
def test_an_error_in_a_line(error: ErrorInfo, text: str) -> None:
    assert str(error) == text


@pytest.mark.parametrize("micros", [0, 1, 1_700_000_000_123_456])
def test_a_moment_is_exact(micros: int) -> None:
    found = moment(micros)
    assert found.tzinfo is UTC
    assert (found - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1) == micros
    assert maybe_moment(micros) == found


def test_what_lists_and_bulks_tell_is_one_line_each() -> None:
    info = ExecutionInfo(
        "x1", "etl", "v", ExecutionStatus.FAILED, 0, (), None, None, START, None, None, "it: boom"
    )
    assert str(info) == "x1 etl failed, submitted 2026-01-01 00:00:00 UTC: it: boom"
    assert str(ForkResult("x1", None, ("a", "b"), None)) == "x1: would do again a, b"
    assert str(ForkResult("x1", "x2", ("a",), None)) == "x1: x2 does again a"
    assert str(ForkResult("x1", None, (), "it runs")) == "x1: it runs"


def test_no_moment_stays_none() -> None:
    assert maybe_moment(None) is None


@pytest.mark.parametrize("micros", [1 << 62, -(1 << 62), 1 << 80])
def test_a_stored_time_that_is_none_is_called_damage(micros: int) -> None:
    for read in (moment, maybe_moment):
        with pytest.raises(StoreCorrupt, match="restore the file"):
            read(micros)
