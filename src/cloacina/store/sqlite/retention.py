"""Retention: finished executions that are old enough, found in the order of their age and removed in batches.

The ids of executions begin with the time at which they were made (UUIDv7), so those made before a moment are
the first ones in the order of ids: no index on the time of their end is needed, for which every completion
would pay. An execution ends after it was made; where a clock that ran back makes that wrong, it is removed later,
never earlier, since its end is compared too.
"""

from __future__ import annotations

from collections.abc import Sequence

from cloacina.model.status import ExecutionStatus
from cloacina.store.rows import Expired, ExpiryLook
from cloacina.store.sqlite.batches import decode_counts, encode
from cloacina.store.sqlite.file.connection import Connection

# Completed executions are nearly all, so they are found by the primary key; the others have an index.
_LOOK = """
    SELECT count(*), max(id), json_group_array(json_array(id, (
            SELECT count(*) FROM attempts WHERE attempts.execution = seen.id)))
        FILTER (WHERE status = ?1 AND finished < ?2)
    FROM (SELECT id, status, finished FROM executions {index}
        WHERE id > ?3 AND id < ?4 {condition} ORDER BY id LIMIT ?5) AS seen"""

LOOK_AT_ALL = _LOOK.format(index="", condition="")
LOOK_AT_STATUS = _LOOK.format(
    index="INDEXED BY executions_status", condition="AND status = ?1 AND status <> 'completed'"
)

REMOVE = """
    DELETE FROM executions
    WHERE id IN (SELECT value FROM json_each(?)) AND status IN ('completed', 'failed', 'cancelled')
    RETURNING id"""

REMOVE_PARTS = tuple(
    f"DELETE FROM {table} WHERE execution IN (SELECT value FROM json_each(?))"
    for table in ("attempts", "checkpoints", "events", "commands")
)

_OVER = """
    state IN ('stopped', 'dead') AND started < ?
    AND id NOT IN (SELECT owner FROM executions INDEXED BY executions_owner WHERE owner IS NOT NULL)"""

_ANY_RUNNER = f"SELECT EXISTS (SELECT 1 FROM runners WHERE {_OVER})"
_REMOVE_RUNNERS = f"DELETE FROM runners WHERE {_OVER}"
_REMOVE_OFFERS = (
    "DELETE FROM runner_workflows WHERE runner NOT IN (SELECT id FROM runners WHERE state = 'alive')"
)


def expired(connection: Connection, look: ExpiryLook) -> Expired:
    """See `ReadStore.expired`."""
    text = LOOK_AT_ALL if look.status is ExecutionStatus.COMPLETED else LOOK_AT_STATUS
    made_before = _least_id(look.before)
    found = connection.row(text, (look.status, look.before, look.after, made_before, look.rows))
    seen, last, ids = found or (0, None, "[]")
    return Expired(tuple(decode_counts(ids)), last if seen == look.rows else None)


def prune(connection: Connection, executions: Sequence[str]) -> list[str]:
    """See `WriteStore.prune`."""
    if not executions:
        return []
    with connection.transaction():
        removed = [row[0] for row in connection.rows(REMOVE, (encode(executions),))]
        ids = encode(removed)
        for statement in REMOVE_PARTS if removed else ():
            connection.change(statement, (ids,))
    return removed


def forget_runners(connection: Connection, before: int) -> int:
    """See `WriteStore.forget_runners`. Takes the write lock only if there is a row to remove."""
    if not connection.value(_ANY_RUNNER, (before,)):
        return 0
    with connection.transaction():
        removed = connection.change(_REMOVE_RUNNERS, (before,))
        connection.change(_REMOVE_OFFERS)
        return removed


def _least_id(moment: int) -> str:
    """What sorts before every id made at ``moment``, in microseconds, or later, and after every earlier one."""
    text = f"{max(moment // 1000, 0):012x}"
    return f"{text[:8]}-{text[8:]}"
