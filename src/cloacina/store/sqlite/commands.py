"""Commands about executions: carried out at once on one that nobody owns, left for the owner of any other."""

from __future__ import annotations

from collections.abc import Sequence

from cloacina.model.status import CommandKind, ExecutionStatus
from cloacina.store.rows import Command, StoredExecution
from cloacina.store.sqlite.batches import encode
from cloacina.store.sqlite.file.connection import Connection

_STANDING = "SELECT status, owner FROM executions WHERE id = ?"

_STATUS = "SELECT status FROM executions WHERE id = ?"

_LEAVE = "INSERT INTO commands (id, execution, kind, sent) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING"

_OF_OWNER = """
    SELECT commands.id, execution, kind, sent
    FROM commands CROSS JOIN executions ON executions.id = execution
    WHERE executions.owner = ? ORDER BY sent, commands.id"""

_OF_EXECUTIONS = """
    SELECT commands.id, execution, kind, sent
    FROM json_each(?) AS chosen CROSS JOIN commands ON execution = chosen.value ORDER BY sent, commands.id"""

_ANY = "SELECT EXISTS (SELECT 1 FROM commands)"

_OUTSTANDING = "SELECT EXISTS (SELECT 1 FROM commands WHERE id = ?)"

_OBEYED = "DELETE FROM commands WHERE id IN (SELECT value FROM json_each(?))"

_TELL = "INSERT INTO events (execution, at, kind, detail) VALUES (?1, ?2, ?3, '')"

_CANCEL_RUNNING = """
    UPDATE attempts SET state = 'cancelled', reason = 'cancelled', finished = ?2
    WHERE execution = ?1 AND state IN ('running', 'deferred')"""

# A bare column beside max() comes from the row with the maximum (SQLite, "Bare columns in an aggregate query").
_CANCEL_WAITING = """
    INSERT INTO attempts (execution, task, attempt, state, finished, reason)
    SELECT ?1, task, last + 1, 'cancelled', ?2, 'cancelled' FROM (
        SELECT task, max(attempt) AS last, state, retry_at FROM attempts WHERE execution = ?1 GROUP BY task)
    WHERE state = 'interrupted' OR (state IN ('failed', 'timed_out') AND retry_at IS NOT NULL)"""

_SKIP_UNSTARTED = """
    INSERT INTO attempts (execution, task, attempt, state, finished, reason)
    SELECT ?1, task.value ->> 'id', 0, 'skipped', ?2, 'cancelled'
    FROM executions JOIN workflow_versions USING (workflow, version)
        CROSS JOIN json_each(workflow_versions.dag, '$.tasks') AS task
    WHERE executions.id = ?1 AND NOT EXISTS (
        SELECT 1 FROM attempts WHERE execution = ?1 AND attempts.task = task.value ->> 'id')"""

_CANCEL = "UPDATE executions SET status = 'cancelled', finished = ?2, wake_at = NULL WHERE id = ?1"

# Its workflow may have a timeout, whose clock runs on: the next runner that looks at it will know.
_PAUSE = """
    UPDATE executions
    SET status = 'paused', wake_at = CASE WHEN started IS NULL THEN NULL ELSE coalesce(wake_at, ?2) END
    WHERE id = ?1"""

# Whoever parked it could not store how these ended, and has cut them.
_INTERRUPT = """
    UPDATE attempts SET state = 'interrupted', reason = 'store_refused', finished = ?2
    WHERE execution = ?1 AND state IN ('running', 'deferred')"""

_RESUME = """
    UPDATE executions
    SET status = CASE WHEN started IS NULL THEN 'pending' ELSE 'running' END, wake_at = NULL, error = NULL,
        parked_for = NULL
    WHERE id = ?1"""


def send(connection: Connection, command: Command, again: bool) -> tuple[ExecutionStatus, bool] | None:
    """See `WriteStore.send`."""
    with connection.transaction():
        row = connection.row(_STANDING, (command.execution,))
        if row is None:
            return None
        status, owner = ExecutionStatus(row[0]), row[1]
        if again and not outstanding(connection, command.id):
            return status, False  # somebody obeyed it meanwhile, and what others sent since then holds
        if owner is not None and not status.terminal:
            connection.change(_LEAVE, command)
            return status, True
        settle(connection, [command.execution])
        status = ExecutionStatus(connection.value(_STATUS, (command.execution,)))
        if not again and not status.terminal:
            status = _carry_out(connection, command, status)
        return status, False


def of_owner(connection: Connection, runner: str) -> list[Command]:
    """See `ReadStore.commands`."""
    return [Command(*row) for row in connection.rows(_OF_OWNER, (runner,))]


def outstanding(connection: Connection, command: str) -> bool:
    """See `ReadStore.outstanding`."""
    return bool(connection.value(_OUTSTANDING, (command,)))


def obeyed(connection: Connection, commands: Sequence[str]) -> None:
    """Remove commands that were carried out, within the current transaction."""
    connection.change(_OBEYED, (encode(commands),))


def settle(connection: Connection, executions: Sequence[str]) -> None:
    """Carry out what was left for the owner of ``executions``, who has given them up, within the transaction.

    Nobody may ever claim one that is paused or parked; and what is sent later must not take effect earlier.
    """
    if not executions or not connection.value(_ANY):
        return
    left = [Command(*row) for row in connection.rows(_OF_EXECUTIONS, (encode(executions),))]
    for command in left:
        status = ExecutionStatus(connection.value(_STATUS, (command.execution,)))
        if not status.terminal:
            _carry_out(connection, command, status)
    if left:
        obeyed(connection, [command.id for command in left])


def attach(connection: Connection, claimed: list[StoredExecution]) -> list[StoredExecution]:
    """``claimed`` with the commands that were left for them and nobody has obeyed."""
    if not claimed or not connection.value(_ANY):
        return claimed
    left: dict[str, list[Command]] = {}
    for row in connection.rows(_OF_EXECUTIONS, (encode([stored.id for stored in claimed]),)):
        left.setdefault(row[1], []).append(Command(*row))
    return [stored._replace(commands=tuple(left.get(stored.id, ()))) for stored in claimed]


def _carry_out(connection: Connection, command: Command, status: ExecutionStatus) -> ExecutionStatus:
    id, now = command.execution, command.sent
    if command.kind == CommandKind.CANCEL:
        for statement in (_CANCEL_RUNNING, _CANCEL_WAITING, _SKIP_UNSTARTED, _CANCEL):
            connection.change(statement, (id, now))
        return ExecutionStatus.CANCELLED
    halted = status in (ExecutionStatus.PAUSED, ExecutionStatus.PARKED)
    if command.kind == CommandKind.PAUSE and not halted:
        connection.change(_PAUSE, (id, now))
        connection.change(_TELL, (id, now, "paused"))
    elif command.kind == CommandKind.RESUME and halted:
        if status is ExecutionStatus.PARKED:
            connection.change(_INTERRUPT, (id, now))
        connection.change(_RESUME, (id,))
        connection.change(_TELL, (id, now, "resumed"))
    return ExecutionStatus(connection.value(_STATUS, (id,)))
