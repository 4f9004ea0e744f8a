"""Runners: their rows, and what becomes of their work when they are gone."""

from __future__ import annotations

from cloacina.model.status import Reason, RunnerState
from cloacina.store.rows import RunnerRow
from cloacina.store.sqlite import commands
from cloacina.store.sqlite.file.connection import Connection

_REGISTER = "INSERT INTO runners (id, host, pid, started, state, group_no) VALUES (?, ?, ?, ?, ?, ?)"

_END = "UPDATE runners SET state = ?2 WHERE id = ?1 AND state = 'alive'"

_WITHDRAW = "DELETE FROM runner_workflows WHERE runner = ?"

_INTERRUPT = """
    UPDATE attempts
    SET state = 'interrupted', reason = CASE WHEN state = 'deferred' THEN 'deferred' ELSE ?2 END, finished = ?3
    WHERE runner = ?1 AND state IN ('running', 'deferred') AND execution IN (
        SELECT id FROM executions INDEXED BY executions_owner WHERE owner = ?1)"""

_TELL = """
    INSERT INTO events (execution, at, kind, detail)
    SELECT id, ?2, ?3, ?4 FROM executions INDEXED BY executions_owner
    WHERE owner = ?1 AND status IN ('pending', 'running', 'paused', 'parked')"""

_FREE = """
    UPDATE executions SET owner = NULL
    WHERE rowid IN (SELECT rowid FROM executions INDEXED BY executions_owner
        WHERE owner = ? AND status IN ('pending', 'running', 'paused', 'parked'))"""

_ORPHANS = """
    SELECT DISTINCT owner FROM executions INDEXED BY executions_owner
    WHERE owner IS NOT NULL AND status IN ('pending', 'running', 'paused', 'parked')
        AND owner NOT IN (SELECT id FROM runners WHERE state = 'alive')"""

_ALIVE = "SELECT id, host, pid, started, state, group_no FROM runners WHERE state = 'alive' ORDER BY id"

_HAS_COMMANDS = "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = ?)"


def register(connection: Connection, row: RunnerRow) -> None:
    """See `WriteStore.register_runner`."""
    with connection.transaction():
        connection.change(_REGISTER, row)


def recover(connection: Connection, runner: str, reason: Reason, now: int) -> int:
    """See `WriteStore.recover`."""
    with connection.transaction():
        return _free(connection, runner, reason, now)


def free_orphans(connection: Connection, now: int) -> int:
    """See `WriteStore.free_orphans`. Takes the write lock only if there is something to free."""
    if not connection.rows(_ORPHANS):
        return 0
    with connection.transaction():
        return sum(_free(connection, owner, Reason.CRASH, now) for (owner,) in connection.rows(_ORPHANS))


def free_everything(connection: Connection, now: int) -> None:
    """Declare every runner dead and free what it owned, within the current transaction; none has crashed.

    The schema may be an older one, without commands.
    """
    has_commands = bool(connection.value(_HAS_COMMANDS, ("commands",)))
    owners = {row.id for row in alive(connection)} | {row[0] for row in connection.rows(_ORPHANS)}
    for owner in sorted(owners):
        _free(connection, owner, Reason.LOST_LEASE, now, has_commands)


def alive(connection: Connection) -> list[RunnerRow]:
    """See `ReadStore.runners`."""
    return [RunnerRow(*row) for row in connection.rows(_ALIVE)]


def _free(connection: Connection, runner: str, reason: Reason, now: int, has_commands: bool = True) -> int:
    stopped = reason is Reason.SHUTDOWN
    connection.change(_END, (runner, RunnerState.STOPPED if stopped else RunnerState.DEAD))
    connection.change(_WITHDRAW, (runner,))
    connection.change(_INTERRUPT, (runner, reason, now))
    kind, detail = ("released" if stopped else "recovered"), f"runner {runner}: {reason}"
    connection.change(_TELL, (runner, now, kind, detail))
    left = {one.execution for one in commands.of_owner(connection, runner)} if has_commands else set[str]()
    freed = connection.change(_FREE, (runner,))
    commands.settle(connection, sorted(left))
    return freed
