"""The states of executions, tasks and attempts: closed lists, and the moves that are allowed."""

from __future__ import annotations

from enum import StrEnum
from typing import TypeVar

from cloacina.errors import ExecutionError


class ExecutionStatus(StrEnum):
    """Where an execution stands."""

    PENDING = "pending"
    RUNNING = "running"
    PAUSED = "paused"
    PARKED = "parked"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def terminal(self) -> bool:
        """True if the execution has ended; such a state never changes."""
        return self in (ExecutionStatus.COMPLETED, ExecutionStatus.FAILED, ExecutionStatus.CANCELLED)


class TaskState(StrEnum):
    """Where a task stands within its execution."""

    PENDING = "pending"
    RUNNING = "running"
    WAITING = "waiting"
    COMPLETED = "completed"
    FAILED = "failed"
    SKIPPED = "skipped"
    CANCELLED = "cancelled"

    @property
    def terminal(self) -> bool:
        """True if the task has ended; such a state never changes."""
        return self in _ENDED_TASKS


class AttemptState(StrEnum):
    """Where an attempt stands. ``SKIPPED`` is the row, numbered 0, of a task that never ran."""

    RUNNING = "running"
    DEFERRED = "deferred"
    COMPLETED = "completed"
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    INTERRUPTED = "interrupted"
    CANCELLED = "cancelled"
    SKIPPED = "skipped"


class Reason(StrEnum):
    """Why a task was skipped, why an attempt was interrupted, or why an execution was parked."""

    DEPENDENCY_FAILED = "dependency_failed"
    DEPENDENCIES_SKIPPED = "dependencies_skipped"
    RULE_NOT_MET = "rule_not_met"
    EXECUTION_TIMEOUT = "execution_timeout"
    CANCELLED = "cancelled"
    INVALID_INPUT = "invalid_input"

    CRASH = "crash"
    SHUTDOWN = "shutdown"
    LOST_LEASE = "lost_lease"
    LOST_CONNECTION = "lost_connection"
    DEFERRED = "deferred"

    CONTEXT = "context"
    POISONED = "poisoned"
    STORE_REFUSED = "store_refused"
    VERSION = "version"


class CommandKind(StrEnum):
    """What can be asked of an execution's owner."""

    CANCEL = "cancel"
    PAUSE = "pause"
    RESUME = "resume"


class RunnerState(StrEnum):
    """Where a runner stands: only an alive one may write for what it owns."""

    ALIVE = "alive"
    STOPPED = "stopped"
    DEAD = "dead"


_ENDED_TASKS = frozenset({TaskState.COMPLETED, TaskState.FAILED, TaskState.SKIPPED, TaskState.CANCELLED})

_EXECUTION, _TASK, _ATTEMPT = ExecutionStatus, TaskState, AttemptState
_State = TypeVar("_State", ExecutionStatus, TaskState, AttemptState)

# A StrEnum member equals its word, so each kind of state has a table of its own.
_MOVES: dict[type[StrEnum], dict[StrEnum, frozenset[StrEnum]]] = {
    ExecutionStatus: {
        _EXECUTION.PENDING: frozenset(set(_EXECUTION) - {_EXECUTION.PENDING}),
        _EXECUTION.RUNNING: frozenset(set(_EXECUTION) - {_EXECUTION.RUNNING}),
        _EXECUTION.PAUSED: frozenset(set(_EXECUTION) - {_EXECUTION.PAUSED, _EXECUTION.COMPLETED}),
        _EXECUTION.PARKED: frozenset(set(_EXECUTION) - {_EXECUTION.PARKED, _EXECUTION.COMPLETED}),
    },
    TaskState: {
        _TASK.PENDING: frozenset({_TASK.RUNNING, _TASK.FAILED, _TASK.SKIPPED, _TASK.CANCELLED}),
        _TASK.RUNNING: frozenset(set(_TASK) - {_TASK.RUNNING, _TASK.SKIPPED}),
        _TASK.WAITING: frozenset({_TASK.RUNNING, _TASK.FAILED, _TASK.CANCELLED}),
    },
    AttemptState: {
        _ATTEMPT.RUNNING: frozenset(set(_ATTEMPT) - {_ATTEMPT.RUNNING, _ATTEMPT.SKIPPED}),
        _ATTEMPT.DEFERRED: frozenset(
            set(_ATTEMPT) - {_ATTEMPT.DEFERRED, _ATTEMPT.SKIPPED, _ATTEMPT.COMPLETED}
        ),
    },
}


def check_move(before: _State, after: _State) -> _State:
    """Return ``after`` if a thing in state ``before`` may move there.

    Raises `ExecutionError` if the move is not in the table: that is a defect of the engine.
    """
    if after not in _MOVES[type(before)].get(before, frozenset()):
        raise ExecutionError(f"illegal move of {type(before).__name__}: {before} to {after}")
    return after
