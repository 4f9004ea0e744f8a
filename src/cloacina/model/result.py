"""What an execution came to: its status, its context, and the history of every task."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import msgspec

from cloacina.errors import StoreCorrupt
from cloacina.model.context.context import Context
from cloacina.model.status import AttemptState, ExecutionStatus, Reason, TaskState


class ErrorInfo(msgspec.Struct, frozen=True):
    """An error as it is stored: its type's qualified name, its message, its traceback as text."""

    type: str
    message: str
    traceback: str = ""

    def __str__(self) -> str:
        return f"{self.type}: {self.message}" if self.message else self.type

    def __repr__(self) -> str:
        return f"ErrorInfo({str(self)!r:.200})"


class AttemptResult(msgspec.Struct, frozen=True):
    """One attempt, or the row numbered 0 of a task that never ran. Times are None if it never started."""

    number: int
    state: AttemptState
    started: datetime | None
    finished: datetime | None
    reason: Reason | None
    error: ErrorInfo | None


class TaskResult(msgspec.Struct, frozen=True):
    """What became of one task."""

    id: str
    state: TaskState
    history: tuple[AttemptResult, ...] = ()

    @property
    def attempts(self) -> int:
        """How many attempts were started."""
        return sum(1 for attempt in self.history if attempt.started is not None)

    @property
    def reason(self) -> Reason | None:
        """Why it was skipped, cancelled or poisoned, if it was."""
        return self.history[-1].reason if self.history else None

    @property
    def error(self) -> ErrorInfo | None:
        """The error of the last attempt that had one."""
        return next((attempt.error for attempt in reversed(self.history) if attempt.error), None)

    @property
    def started(self) -> datetime | None:
        """When its first attempt started."""
        return next((attempt.started for attempt in self.history if attempt.started), None)

    @property
    def finished(self) -> datetime | None:
        """When it ended."""
        return self.history[-1].finished if self.history and self.state.terminal else None


_ALWAYS_TOLD = (TaskState.COMPLETED, TaskState.FAILED, TaskState.SKIPPED)


class ExecutionResult(msgspec.Struct, frozen=True):
    """A finished (or, from `Runner.get`, a current) execution.

    ``context`` is read-only: the input, and once the execution has ended what its Completed tasks changed. (Of one
    that was cancelled while no runner had it, paused for instance, it is the input alone: to merge the changes of
    its tasks takes the workflow's code, and nobody was there who has it.)
    ``tasks`` has every task by its id; ``error`` says why the execution failed; ``forked_from`` is the id of the
    execution that it does again in part, with times of what was copied from there.
    """

    id: str
    workflow: str
    version: str
    status: ExecutionStatus
    context: Context
    tasks: Mapping[str, TaskResult]
    created: datetime
    started: datetime | None
    finished: datetime | None
    error: str | None = None
    tags: tuple[str, ...] = ()
    forked_from: str | None = None

    @property
    def duration(self) -> timedelta | None:
        """From the first start to the end."""
        if self.started is None or self.finished is None:
            return None
        return self.finished - self.started

    @property
    def summary(self) -> str:
        """One line: ``etl completed in 0.42s (4 completed, 0 failed, 3 skipped)``."""
        counts: dict[TaskState, int] = dict.fromkeys(_ALWAYS_TOLD, 0)
        for task in self.tasks.values():
            counts[task.state] = counts.get(task.state, 0) + 1
        took = "" if self.duration is None else f" in {self.duration.total_seconds():.2f}s"
        told = ", ".join(f"{number} {state}" for state, number in counts.items())
        why = f": {self.error}" if self.error else ""
        return f"{self.workflow} {self.status}{took} ({told}){why}"

    def __str__(self) -> str:
        return self.summary


def moment(micros: int) -> datetime:
    """Microseconds since the epoch as an aware datetime in UTC. Raises `StoreCorrupt` if there is no such time."""
    try:
        return _EPOCH + timedelta(microseconds=micros)
    except OverflowError:
        raise StoreCorrupt(
            f"a stored time, {micros} microseconds, is none: the row is damaged, or was changed by hand; mend it, or "
            "restore the file from a backup"
        ) from None


def maybe_moment(micros: int | None) -> datetime | None:
    """`moment`, or None where there is none."""
    return None if micros is None else moment(micros)


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class ExecutionInfo:
    """An execution in a list: what it is and how it stands, without its tasks."""

    id: str
    workflow: str
    version: str
    status: ExecutionStatus
    priority: int
    tags: tuple[str, ...]
    key: str | None
    owner: str | None
    created: datetime
    started: datetime | None
    finished: datetime | None
    error: str | None
    forked_from: str | None = None

    def __str__(self) -> str:
        why = f": {self.error}" if self.error else ""
        return f"{self.id} {self.workflow} {self.status}, submitted {self.created:%Y-%m-%d %H:%M:%S} UTC{why}"


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why an execution is where it is. ``tasks`` has the tasks that have not ended, with a reason each."""

    execution: str
    status: ExecutionStatus
    reason: str
    tasks: Mapping[str, str]

    def __str__(self) -> str:
        lines = [f"{self.execution} is {self.status}: {self.reason}"]
        return "\n".join([*lines, *(f"  {task}: {why}" for task, why in self.tasks.items())])


@dataclass(frozen=True, slots=True)
class ForkResult:
    """What a bulk made of one execution: ``fork`` is the id of the new one, None if there is none.

    ``tasks`` are those that are done again, ``refused`` says why nothing is. After a dry run ``fork`` is None.
    """

    execution: str
    fork: str | None
    tasks: tuple[str, ...]
    refused: str | None

    def __str__(self) -> str:
        if self.refused is not None:
            return f"{self.execution}: {self.refused}"
        does = "would do again" if self.fork is None else f"{self.fork} does again"
        return f"{self.execution}: {does} {', '.join(self.tasks)}"
