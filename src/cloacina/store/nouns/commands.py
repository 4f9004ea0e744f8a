"""Commands about executions: carried out at once on one that nobody owns, left for the owner of any other."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from cloacina.model.status import CommandKind, ExecutionStatus
from cloacina.store.nouns import events
from cloacina.store.nouns.batches import column
from cloacina.store.rows import Command, Event, StoredExecution
from cloacina.store.session import Session

# Whoever claims it, or gives it up, comes before or after the command.
_STANDING = "SELECT status, owner FROM executions WHERE id = ?1 /*pg FOR UPDATE*/"

_STATUS = "SELECT status FROM executions WHERE id = ?1"

_LEAVE = "INSERT INTO commands (id, execution, kind, sent) VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING"

OF_OWNER = """
    SELECT commands.id, execution, kind, sent FROM commands CROSS JOIN executions
    WHERE executions.id = execution AND executions.owner = ?1 ORDER BY sent, commands.id"""

OF_EXECUTIONS = """
    SELECT commands.id, execution, kind, sent FROM jsonb_each(?1) AS chosen CROSS JOIN commands
    WHERE execution = chosen.value ->> 0 ORDER BY sent, commands.id"""

_ANY = "SELECT EXISTS (SELECT 1 FROM commands)"

_OUTSTANDING = "SELECT EXISTS (SELECT 1 FROM commands WHERE id = ?1)"

_OBEYED = "DELETE FROM commands WHERE id IN (SELECT value ->> 0 FROM jsonb_each(?1))"

CANCEL_RUNNING = """
    UPDATE attempts SET state = 'cancelled', reason = 'cancelled', finished = ?2
    WHERE execution = ?1 AND state IN ('running', 'deferred')"""

CANCEL_WAITING = """
    INSERT INTO attempts (execution, task, attempt, state, finished, reason)
    SELECT execution, task, attempt + 1, 'cancelled', CAST(?2 AS BIGINT), 'cancelled' FROM attempts AS last
    WHERE execution = ?1 AND (state = 'interrupted' OR (state IN ('failed', 'timed_out') AND retry_at IS NOT NULL))
        AND NOT EXISTS (
            SELECT 1 FROM attempts AS later
            WHERE later.execution = last.execution AND later.task = last.task AND later.attempt > last.attempt)"""

DAG = """
    SELECT dag FROM executions JOIN workflow_versions
        ON workflow_versions.workflow = executions.workflow AND workflow_versions.version = executions.version
    WHERE executions.id = ?1"""

SKIP_UNSTARTED = """
    INSERT INTO attempts (execution, task, attempt, state, finished, reason)
    SELECT CAST(?1 AS TEXT), sent.value ->> 0, 0, 'skipped', CAST(?2 AS BIGINT), 'cancelled'
    FROM jsonb_each(?3) AS sent
    WHERE NOT EXISTS (SELECT 1 FROM attempts WHERE execution = ?1 AND task = sent.value ->> 0)"""

# What was parked is not any more: why it was stays in its events.
CANCEL = """
    UPDATE executions SET status = 'cancelled', finished = ?2, wake_at = NULL, error = NULL, parked_for = NULL
    WHERE id = ?1"""

# Its workflow may have a timeout, whose clock runs on: the next runner that looks at it will know.
PAUSE = """
    UPDATE executions
    SET status = 'paused',
        wake_at = CASE WHEN started IS NULL THEN NULL ELSE coalesce(wake_at, CAST(?2 AS BIGINT)) END
    WHERE id = ?1"""

# Whoever parked it could not store how these ended, and has cut them.
INTERRUPT = """
    UPDATE attempts SET state = 'interrupted', reason = 'store_refused', finished = ?2
    WHERE execution = ?1 AND state IN ('running', 'deferred')"""

RESUME = """
    UPDATE executions
    SET status = CASE WHEN started IS NULL THEN 'pending' ELSE 'running' END, wake_at = NULL, error = NULL,
        parked_for = NULL
    WHERE id = ?1"""


class _Task(msgspec.Struct):
    id: str


class _Dag(msgspec.Struct):
    tasks: list[_Task] = []


_decode = msgspec.json.Decoder(_Dag).decode


def send(session: Session, command: Command, again: bool) -> tuple[ExecutionStatus, bool] | None:
    """See `WriteStore.send`."""
    with session.transaction():
        row = session.row(_STANDING, (command.execution,))
        if row is None:
            return None
        status, owner = ExecutionStatus(row[0]), row[1]
        if again and not outstanding(session, command.id):
            return status, False  # somebody obeyed it meanwhile, and what others sent since then holds
        if owner is not None and not status.terminal:
            session.change(_LEAVE, command)
            return status, True
        settle(session, [command.execution])
        status = ExecutionStatus(session.value(_STATUS, (command.execution,)))
        if not again and not status.terminal:
            status = _carry_out(session, command, status)
        return status, False


def of_owner(session: Session, runner: str) -> list[Command]:
    """See `ReadStore.commands`."""
    return [Command(*row) for row in session.rows(OF_OWNER, (runner,))]


def outstanding(session: Session, command: str) -> bool:
    """See `ReadStore.outstanding`."""
    return bool(session.value(_OUTSTANDING, (command,)))


def obeyed(session: Session, commands: Sequence[str]) -> None:
    """Remove commands that were carried out, within the current transaction."""
    session.change(_OBEYED, (column(commands),))


def settle(session: Session, executions: Sequence[str]) -> None:
    """Carry out what was left for the owner of ``executions``, who has given them up, within the transaction.

    It has locked them before. Nobody may ever claim one that is paused or parked; and what is sent later must not
    take effect earlier.
    """
    if not executions or not session.value(_ANY):
        return
    left = [Command(*row) for row in session.rows(OF_EXECUTIONS, (column(executions),))]
    for command in left:
        status = ExecutionStatus(session.value(_STATUS, (command.execution,)))
        if not status.terminal:
            _carry_out(session, command, status)
    if left:
        obeyed(session, [command.id for command in left])


def attach(session: Session, claimed: list[StoredExecution]) -> list[StoredExecution]:
    """``claimed`` with the commands that were left for them and nobody has obeyed."""
    if not claimed or not session.value(_ANY):
        return claimed
    left: dict[str, list[Command]] = {}
    for row in session.rows(OF_EXECUTIONS, (column(stored.id for stored in claimed),)):
        left.setdefault(row[1], []).append(Command(*row))
    return [stored._replace(commands=tuple(left.get(stored.id, ()))) for stored in claimed]


def _carry_out(session: Session, command: Command, status: ExecutionStatus) -> ExecutionStatus:
    id, now = command.execution, command.sent
    if command.kind == CommandKind.CANCEL:
        _cancel(session, id, now)
        return ExecutionStatus.CANCELLED
    halted = status in (ExecutionStatus.PAUSED, ExecutionStatus.PARKED)
    if command.kind == CommandKind.PAUSE and not halted:
        session.change(PAUSE, (id, now))
        events.tell(session, [Event(id, now, "paused", "")])
    elif command.kind == CommandKind.RESUME and halted:
        if status is ExecutionStatus.PARKED:
            session.change(INTERRUPT, (id, now))
        session.change(RESUME, (id,))
        events.tell(session, [Event(id, now, "resumed", "")])
    return ExecutionStatus(session.value(_STATUS, (id,)))


def _cancel(session: Session, id: str, now: int) -> None:
    session.change(CANCEL_RUNNING, (id, now))
    session.change(CANCEL_WAITING, (id, now))
    session.change(SKIP_UNSTARTED, (id, now, column(_tasks(session, id))))
    session.change(CANCEL, (id, now))


def _tasks(session: Session, id: str) -> list[str]:
    """The tasks of an execution; none if nobody knows its DAG, or a hand has made it unreadable."""
    dag = session.value(DAG, (id,))
    try:
        return [] if dag is None else [task.id for task in _decode(dag).tasks]
    except msgspec.DecodeError:
        return []
