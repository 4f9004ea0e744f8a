"""What travels between the engine and a store: plain rows, and the group that one commit writes.

Times are microseconds since the epoch, UTC. Every JSON document travels as its text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from cloacina.model.status import AttemptState, ExecutionStatus, Reason


class NewExecution(NamedTuple):
    """One row to insert into ``executions``. ``owner`` is None for one that any runner may claim."""

    id: str
    workflow: str
    version: str
    status: ExecutionStatus
    input: str
    key: str | None
    priority: int
    tags: str
    owner: str | None
    created: int
    started: int | None


class AttemptStart(NamedTuple):
    """A running attempt to insert. ``suspect``: it runs alone, because its task crashed runners before."""

    execution: str
    task: str
    attempt: int
    runner: str
    started: int
    suspect: int = 0


class AttemptEnd(NamedTuple):
    """The end of an attempt that must be running in the store, or the whole group is refused."""

    execution: str
    task: str
    attempt: int
    state: AttemptState
    finished: int
    retry_at: int | None = None
    delta: str | None = None
    error: str | None = None
    reason: Reason | None = None


class Verdict(NamedTuple):
    """A row to insert for something that ended without running: a skip, a cancelled wait, a poisoned task."""

    execution: str
    task: str
    attempt: int
    state: AttemptState
    finished: int
    reason: Reason
    error: str | None = None


class Progress(NamedTuple):
    """The new state of an execution that ``owner`` must own; ``next_owner`` None gives it up."""

    id: str
    owner: str
    status: ExecutionStatus
    next_owner: str | None
    started: int | None = None
    finished: int | None = None
    wake_at: int | None = None
    result: str | None = None
    error: str | None = None


class Event(NamedTuple):
    """A rare fact about an execution, kept for its reader: parked, recovered, released."""

    execution: str
    at: int
    kind: str
    detail: str


class Shift(NamedTuple):
    """An attempt that is deferred, or runs again after it was; it must be in state ``before``."""

    execution: str
    task: str
    attempt: int
    before: AttemptState
    state: AttemptState


class Checkpoint(NamedTuple):
    """A named value to insert, which a task's later attempts read."""

    execution: str
    task: str
    name: str
    value: str
    stored: int


class Item(NamedTuple):
    """All that one group writes for one execution; never split."""

    execution: str
    new: NewExecution | None = None
    starts: Sequence[AttemptStart] = ()
    ends: Sequence[AttemptEnd] = ()
    verdicts: Sequence[Verdict] = ()
    progress: Progress | None = None
    events: Sequence[Event] = ()
    shifts: Sequence[Shift] = ()
    checkpoints: Sequence[Checkpoint] = ()
    obeyed: Sequence[str] = ()
    """The ids of commands that take effect with this item, and are removed with it."""


@dataclass(frozen=True, slots=True)
class ClaimRequest:
    """Ask for up to ``limit`` unowned executions of these ``(workflow, version)`` pairs, due at ``now``."""

    versions: tuple[tuple[str, str], ...]
    limit: int
    now: int


@dataclass(frozen=True, slots=True)
class Group:
    """What one commit of a runner writes. ``number`` is bound to this content for ever."""

    runner: str
    number: int
    items: tuple[Item, ...]
    claim: ClaimRequest | None = None


class StoredAttempt(NamedTuple):
    """One row of ``attempts`` as read."""

    task: str
    attempt: int
    state: AttemptState
    runner: str | None
    started: int | None
    finished: int | None
    retry_at: int | None
    delta: str | None
    error: str | None
    reason: Reason | None
    suspect: int


class Command(NamedTuple):
    """A wish about an execution, for its owner to carry out."""

    id: str
    execution: str
    kind: str
    sent: int


class StoredExecution(NamedTuple):
    """One row of ``executions`` as read, with its attempts in the order (task, attempt) if asked for."""

    id: str
    workflow: str
    version: str
    status: ExecutionStatus
    input: str
    result: str | None
    key: str | None
    priority: int
    tags: str
    owner: str | None
    forked_from: str | None
    created: int
    started: int | None
    finished: int | None
    wake_at: int | None
    error: str | None
    attempts: tuple[StoredAttempt, ...] = ()
    commands: tuple[Command, ...] = ()
    """Commands that nobody has obeyed; only with an execution that was claimed."""


class Fork(NamedTuple):
    """A new execution made from parts of an old one, to insert as a whole, without an owner."""

    new: NewExecution
    forked_from: str
    attempts: tuple[StoredAttempt, ...]
    checkpoints: tuple[Checkpoint, ...]


class LastAttempt(NamedTuple):
    """How the last attempt of a task stands, or the row of its skip."""

    task: str
    state: AttemptState
    retry_at: int | None


class InFlight(NamedTuple):
    """A live execution with what was touched of it: ``rows`` rows of attempts, the last one of each task."""

    id: str
    workflow: str
    version: str
    status: ExecutionStatus
    rows: int
    tasks: tuple[LastAttempt, ...]


class Rewrite(NamedTuple):
    """An unowned execution of version ``before`` with so many ``rows`` of attempts is to have ``version``.

    Without ``version`` it cannot be taken over, and is parked. ``why`` is for its reader; checkpoints of the tasks
    in ``stale`` are removed.
    """

    execution: str
    before: str
    rows: int
    version: str | None
    why: str
    stale: tuple[str, ...] = ()


class RunnerRow(NamedTuple):
    """One row of ``runners``."""

    id: str
    host: str
    pid: int
    started: int
    state: str
    group_no: int


@dataclass(frozen=True, slots=True)
class ExecutionFilter:
    """Which executions to list; every field that is given must hold. Newest first; ``before`` is a keyset."""

    workflow: str | None = None
    status: tuple[ExecutionStatus, ...] = ()
    tag: str | None = None
    before: str | None = None
    limit: int = 100


@dataclass(frozen=True, slots=True)
class ExpiryLook:
    """Look at the ``rows`` executions that follow the id ``after`` for such as ended so before ``before``."""

    status: ExecutionStatus
    before: int
    after: str
    rows: int


class Expired(NamedTuple):
    """What one look found: ids with the number of their attempts, and the id to go on after, None at the end."""

    executions: tuple[tuple[str, int], ...]
    last: str | None
