"""Executions without owner: stored by a submit that no runner takes at once, and cancelled where they are."""

from __future__ import annotations

from collections.abc import Sequence

from cloacina.model.status import ExecutionStatus
from cloacina.store.rows import NewExecution, StoredExecution
from cloacina.store.sqlite import reads
from cloacina.store.sqlite.batches import batches, encode
from cloacina.store.sqlite.connection import Connection
from cloacina.store.sqlite.groups import NEW_EXECUTIONS

_INSERT = NEW_EXECUTIONS._replace(
    write=f"{NEW_EXECUTIONS.write} WHERE true ON CONFLICT DO NOTHING",
)

_HOLDERS = """
    SELECT executions.key, executions.id FROM json_each(?) AS sent
    CROSS JOIN executions ON executions.key = sent.value AND executions.key IS NOT NULL"""

_STANDING = "SELECT status, owner FROM executions WHERE id = ?"

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


def insert(connection: Connection, rows: Sequence[NewExecution]) -> list[StoredExecution | None]:
    """See `WriteStore.insert_unowned`."""
    prepared = list(batches(_INSERT, rows))
    with connection.transaction():
        stored = sum(connection.change(batch.kind.write, (batch.text,)) for batch in prepared)
        if stored == len(rows):
            return [None] * len(rows)
        return _holders(connection, rows)


def cancel(connection: Connection, execution: str, now: int) -> ExecutionStatus | None:
    """See `WriteStore.cancel_unowned`."""
    with connection.transaction():
        row = connection.row(_STANDING, (execution,))
        if row is None:
            return None
        status, owner = ExecutionStatus(row[0]), row[1]
        if status.terminal or owner is not None:
            return status
        for statement in (_CANCEL_RUNNING, _CANCEL_WAITING, _SKIP_UNSTARTED, _CANCEL):
            connection.change(statement, (execution, now))
        return ExecutionStatus.CANCELLED


def _holders(connection: Connection, rows: Sequence[NewExecution]) -> list[StoredExecution | None]:
    """For each row the execution that holds its key, or None if that is the row itself."""
    keys = encode([row.key for row in rows if row.key is not None])
    by_key: dict[str | None, str] = dict(connection.rows(_HOLDERS, (keys,)))
    holders = [by_key.get(row.key, row.id) for row in rows]
    lost = {holder for row, holder in zip(rows, holders, strict=True) if holder != row.id}
    loaded = {stored.id: stored for stored in reads.load(connection, encode(lost), attempts=False)}
    return [loaded[holder] if holder != row.id else None for row, holder in zip(rows, holders, strict=True)]
