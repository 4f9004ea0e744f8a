"""What happened, kept in memory as the store keeps it, and told as results."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import cast

import msgspec

from cloacina.engine.executors.attempt import ERROR_BYTES, Attempt, clean
from cloacina.errors import ContextError
from cloacina.logic.execution import Past
from cloacina.model.context.context import Context
from cloacina.model.dag.dag import Dag
from cloacina.model.json.patch import Patch, read_patch
from cloacina.model.json.values import JSON, decode, encode
from cloacina.model.result import (
    AttemptResult,
    ErrorInfo,
    ExecutionInfo,
    ExecutionResult,
    TaskResult,
    maybe_moment,
    moment,
)
from cloacina.model.status import AttemptState, TaskState
from cloacina.store.payloads.payloads import read_payload, read_words, why_unreadable
from cloacina.store.rows import AttemptEnd, NewExecution, StoredAttempt, StoredExecution, Verdict

UNDER_WAY = (AttemptState.RUNNING, AttemptState.DEFERRED)
"""The states of attempts that have not ended."""


class History:
    """The rows of an execution's attempts that have ended, each with the canonical index of its task."""

    __slots__ = ("_rows",)

    def __init__(self) -> None:
        self._rows: list[tuple[int, StoredAttempt]] = []

    def load(self, rows: Iterable[StoredAttempt], index: Mapping[str, int]) -> None:
        """Take over what was stored, but for attempts that have not ended."""
        self._rows += [(index[row.task], row) for row in rows if row.state not in UNDER_WAY]

    def end(self, index: int, end: AttemptEnd, attempt: Attempt) -> None:
        """An attempt ended."""
        row = StoredAttempt(
            end.task,
            end.attempt,
            end.state,
            None,
            attempt.started,
            end.finished,
            end.retry_at,
            None,
            end.error,
            end.reason,
            int(attempt.suspect),
        )
        self._rows.append((index, row))

    def rule(self, index: int, verdict: Verdict) -> None:
        """A task ended without running."""
        row = StoredAttempt(
            verdict.task,
            verdict.attempt,
            verdict.state,
            None,
            None,
            verdict.finished,
            None,
            None,
            verdict.error,
            verdict.reason,
            0,
        )
        self._rows.append((index, row))

    def rows(self) -> tuple[StoredAttempt, ...]:
        """All rows; those of one task in the order of its attempts."""
        return tuple(row for _, row in self._rows)

    def why(self, index: int, task: str) -> str:
        """Why a task did not complete, in one line."""
        rows = [row for of, row in self._rows if of == index]
        last = next((row for row in reversed(rows) if row.error), None)
        if last is not None and last.error is not None:
            return f"{task}: {_read_error(last.error)}"
        return f"{task}: {rows[-1].reason if rows else 'did not run'}"


def error_text(error: ErrorInfo | str | None) -> str | None:
    """An error as the store takes it."""
    if error is None or isinstance(error, str):
        return None if error is None else clean(error, ERROR_BYTES)
    return encode({"type": error.type, "message": error.message, "traceback": error.traceback})


def past_of(stored: StoredExecution) -> Iterator[Past]:
    """The stored attempts, as deciding needs them."""
    for row in stored.attempts:
        patch = None if row.delta is None else _read_patch(row.delta, row, stored.id)
        waits = row.retry_at if row.state in (AttemptState.FAILED, AttemptState.TIMED_OUT) else None
        yield Past(row.task, row.attempt, row.state, waits, patch, row.reason, bool(row.suspect))


def attempts_under_way(stored: StoredExecution, dag: Dag) -> Iterator[Attempt]:
    """The attempts that the store still takes for running."""
    for row in stored.attempts:
        if row.state in UNDER_WAY:
            index = dag.index[row.task]
            started = row.started or stored.created
            yield Attempt(
                stored.id, stored.workflow, dag.tasks[index], index, row.attempt, started, bool(row.suspect)
            )


def result_of(stored: StoredExecution, tasks: Sequence[str] = ()) -> ExecutionResult:
    """A stored execution, told: ``tasks`` are the ids of all its tasks, in canonical order, if known."""
    column = "input" if stored.result is None else "result"
    text = stored.input if stored.result is None else stored.result
    context = read_payload(text, f"the {column} of execution {stored.id}")
    return ExecutionResult(
        id=stored.id,
        workflow=stored.workflow,
        version=stored.version,
        status=stored.status,
        context=Context.over(cast("dict[str, JSON]", context), read_only=True, input=stored.input),
        tasks=tasks_of(stored, tasks),
        created=moment(stored.created),
        started=maybe_moment(stored.started),
        finished=maybe_moment(stored.finished),
        error=error_of(stored),
        tags=tuple(cast("list[str]", decode(stored.tags))),
        forked_from=stored.forked_from,
    )


def tasks_of(stored: StoredExecution, tasks: Sequence[str]) -> Mapping[str, TaskResult]:
    """What became of the tasks of a stored execution, in the order of ``tasks``."""
    return _TaskResults(stored.attempts, tasks)


def error_of(stored: StoredExecution) -> str | None:
    """Why an execution failed or was set aside, in one line."""
    return stored.error and read_words(stored.error, f"the error of execution {stored.id}")


def input_of(stored: StoredExecution) -> dict[str, JSON]:
    """The input of an execution. Raises `PayloadError` if what is stored cannot be read."""
    return cast("dict[str, JSON]", read_payload(stored.input, f"the input of execution {stored.id}"))


def as_stored(new: NewExecution, owner: str) -> StoredExecution:
    """A new execution as the store will have it once ``owner`` has stored it."""
    none = None  # positions are quicker than names, and every submit comes here
    return StoredExecution(
        new.id, new.workflow, new.version, new.status, new.input, none, none, new.priority, new.tags, owner, none,
        new.created, none, none, none, none,
    )  # fmt: skip


def info_of(stored: StoredExecution) -> ExecutionInfo:
    """A stored execution as it stands in a list."""
    return ExecutionInfo(
        id=stored.id,
        workflow=stored.workflow,
        version=stored.version,
        status=stored.status,
        priority=stored.priority,
        tags=tuple(cast("list[str]", decode(stored.tags))),
        key=stored.key,
        owner=stored.owner,
        created=moment(stored.created),
        started=maybe_moment(stored.started),
        finished=maybe_moment(stored.finished),
        error=error_of(stored),
        forked_from=stored.forked_from,
    )


class _TaskResults(Mapping[str, TaskResult]):
    """The results of all tasks, made when they are asked for: most callers only want the context."""

    def __init__(self, rows: Iterable[StoredAttempt], tasks: Sequence[str]) -> None:
        self._source = rows
        self._tasks = tasks
        self._made: dict[str, TaskResult] = {}

    @cached_property
    def _rows(self) -> dict[str, list[StoredAttempt]]:
        rows: dict[str, list[StoredAttempt]] = {task: [] for task in self._tasks}
        for row in self._source:
            rows.setdefault(row.task, []).append(row)
        return rows

    def __getitem__(self, task: str) -> TaskResult:
        made = self._made.get(task)
        if made is None:
            made = self._made[task] = _task_result(task, self._rows[task])
        return made

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    def __repr__(self) -> str:
        return repr(dict(self))


def _task_result(task: str, rows: list[StoredAttempt]) -> TaskResult:
    history = tuple(_attempt_result(row) for row in rows)
    return TaskResult(task, _state_of(rows[-1]) if rows else TaskState.PENDING, history)


def _attempt_result(row: StoredAttempt) -> AttemptResult:
    error = None if row.error is None else _read_error(row.error)
    return AttemptResult(
        row.attempt, row.state, maybe_moment(row.started), maybe_moment(row.finished), row.reason, error
    )


def _read_patch(text: str, row: StoredAttempt, execution: str) -> Patch:
    try:
        return read_patch(text)
    except ContextError as error:
        what = f"the delta of attempt {row.attempt} of task {row.task!r} of execution {execution}"
        raise why_unreadable(text, what) or error from error


def _read_error(text: str) -> ErrorInfo:
    try:
        return msgspec.json.decode(text, type=ErrorInfo)
    except msgspec.DecodeError:
        return ErrorInfo("unreadable", clean(read_words(text, "the error"), 400))


def _state_of(row: StoredAttempt) -> TaskState:
    if row.retry_at is not None:
        return TaskState.WAITING
    return _TASK_STATE[row.state]


_TASK_STATE = {
    AttemptState.RUNNING: TaskState.RUNNING,
    AttemptState.DEFERRED: TaskState.WAITING,
    AttemptState.COMPLETED: TaskState.COMPLETED,
    AttemptState.FAILED: TaskState.FAILED,
    AttemptState.TIMED_OUT: TaskState.FAILED,
    AttemptState.INTERRUPTED: TaskState.PENDING,
    AttemptState.CANCELLED: TaskState.CANCELLED,
    AttemptState.SKIPPED: TaskState.SKIPPED,
}
