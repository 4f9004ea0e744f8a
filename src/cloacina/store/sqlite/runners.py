"""Runners: their rows, what they offer, and what becomes of their work when they are gone."""

from __future__ import annotations

from collections.abc import Sequence

from cloacina.model.status import Reason, RunnerState
from cloacina.store.rows import RunnerRow
from cloacina.store.sqlite.batches import encode
from cloacina.store.sqlite.connection import Connection

_REGISTER = "INSERT INTO runners (id, host, pid, started, state, group_no) VALUES (?, ?, ?, ?, ?, ?)"

_KNOWN = """
    INSERT INTO workflow_versions (workflow, version, dag, registered)
    SELECT value ->> 0, value ->> 1, value ->> 2, ?2 FROM jsonb_each(?1) WHERE true
    ON CONFLICT DO NOTHING"""

_OFFER = """
    INSERT INTO runner_workflows (workflow, version, runner)
    SELECT value ->> 0, value ->> 1, ?2 FROM jsonb_each(?1) WHERE true
    ON CONFLICT DO NOTHING"""

_END = "UPDATE runners SET state = ?2 WHERE id = ?1 AND state = 'alive'"

_WITHDRAW = "DELETE FROM runner_workflows WHERE runner = ?"

_INTERRUPT = """
    UPDATE attempts SET state = 'interrupted', reason = ?2, finished = ?3
    WHERE runner = ?1 AND state = 'running' AND execution IN (
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

_VERSIONS = "SELECT version FROM workflow_versions WHERE workflow = ? ORDER BY registered, rowid"

_OFFERED = """
    SELECT runner FROM runner_workflows JOIN runners ON runners.id = runner AND runners.state = 'alive'
    WHERE workflow = ? AND version = ? ORDER BY runner"""


def register(connection: Connection, row: RunnerRow) -> None:
    """See `WriteStore.register_runner`."""
    with connection.transaction():
        connection.change(_REGISTER, row)


def offer(connection: Connection, runner: str, versions: Sequence[tuple[str, str, str]], now: int) -> None:
    """See `WriteStore.register_versions`."""
    text = encode(versions)
    with connection.transaction():
        connection.change(_KNOWN, (text, now))
        connection.change(_OFFER, (text, runner))


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


def alive(connection: Connection) -> list[RunnerRow]:
    """See `ReadStore.runners`."""
    return [RunnerRow(*row) for row in connection.rows(_ALIVE)]


def versions(connection: Connection, workflow: str) -> list[str]:
    """See `ReadStore.versions`."""
    return [row[0] for row in connection.rows(_VERSIONS, (workflow,))]


def offered(connection: Connection, workflow: str, version: str) -> list[str]:
    """See `ReadStore.offered`."""
    return [row[0] for row in connection.rows(_OFFERED, (workflow, version))]


def _free(connection: Connection, runner: str, reason: Reason, now: int) -> int:
    stopped = reason is Reason.SHUTDOWN
    connection.change(_END, (runner, RunnerState.STOPPED if stopped else RunnerState.DEAD))
    connection.change(_WITHDRAW, (runner,))
    connection.change(_INTERRUPT, (runner, reason, now))
    kind, detail = ("released" if stopped else "recovered"), f"runner {runner}: {reason}"
    connection.change(_TELL, (runner, now, kind, detail))
    return connection.change(_FREE, (runner,))
