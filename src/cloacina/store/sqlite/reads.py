"""Executions as read: rows and their attempts in as few statements as there can be.

Rows come back as one JSON text too, for the reason in `batches`; where that text would be long they are
read one by one, and each is long enough to be worth it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from cloacina.errors import StoreCorrupt
from cloacina.store.rows import ExecutionFilter, StoredAttempt, StoredExecution
from cloacina.store.sqlite.batches import CHUNK_BYTES, decode_ids, encode
from cloacina.store.sqlite.file.connection import Connection

_EXECUTION = """id, workflow, version, status, input, result, key, priority, tags, owner, forked_from,
        created, started, finished, wake_at, error"""
_ATTEMPT = "task, attempt, state, runner, started, finished, retry_at, delta, error, reason, suspect"

# A cross join keeps the order of its tables, so the rows come in the order of the ids.
_CHOSEN = "FROM (SELECT value AS chosen FROM json_each(?)) CROSS JOIN executions ON executions.id = chosen"

_BYTES = f"""
    SELECT total(octet_length(input) + coalesce(octet_length(result), 0)) {_CHOSEN}"""
_ATTEMPT_BYTES = """
    SELECT total(coalesce(octet_length(delta), 0) + coalesce(octet_length(error), 0))
    FROM (SELECT value AS chosen FROM json_each(?)) CROSS JOIN attempts ON attempts.execution = chosen"""

_PACKED = f"SELECT json_group_array(json_array({_EXECUTION})) {_CHOSEN}"
_PACKED_WITH_ATTEMPTS = f"""
    SELECT json_group_array(json_array({_EXECUTION}, json((
        SELECT json_group_array(json_array({_ATTEMPT})) FROM (
            SELECT {_ATTEMPT} FROM attempts AS own WHERE own.execution = executions.id ORDER BY task, attempt)))))
    {_CHOSEN}"""
_ROWS = f"SELECT {_EXECUTION} {_CHOSEN}"
_ATTEMPT_ROWS = f"SELECT {_ATTEMPT} FROM attempts WHERE execution = ? ORDER BY task, attempt"

_OWNED = """
    SELECT json_group_array(id) FROM executions INDEXED BY executions_owner
    WHERE owner = ? AND status IN ('pending', 'running', 'paused', 'parked')"""

_ENDED = """
    SELECT json_group_array(chosen)
    FROM (SELECT value AS chosen FROM json_each(?)) LEFT JOIN executions ON executions.id = chosen
    WHERE id IS NULL OR status = 'parked' OR status IN ('completed', 'failed', 'cancelled')"""

_MISSING = """
    SELECT json_group_array(value) FROM json_each(?)
    WHERE NOT EXISTS (SELECT 1 FROM executions WHERE id = value)"""

_PENDING = """
    SELECT (SELECT count(*) FROM executions INDEXED BY executions_claim
            WHERE owner IS NULL AND status IN ('pending', 'running') AND wake_at IS NULL)
        + (SELECT count(*) FROM executions INDEXED BY executions_wake
            WHERE owner IS NULL AND status IN ('pending', 'running', 'paused') AND wake_at IS NOT NULL)
        + (SELECT count(*) FROM executions INDEXED BY executions_status
            WHERE status <> 'completed' AND status IN ('paused', 'parked') AND owner IS NULL)"""

# One look into the index for each version that somebody could claim; others never wake anyone.
_NEXT_WAKE_UP = """
    SELECT min((
        SELECT min(wake_at) FROM executions INDEXED BY executions_wake
        WHERE executions.workflow = offered.workflow AND executions.version = offered.version
            AND owner IS NULL AND status IN ('pending', 'running', 'paused') AND wake_at IS NOT NULL))
    FROM (SELECT value ->> 0 AS workflow, value ->> 1 AS version FROM json_each(?)) AS offered"""

_decode = msgspec.json.Decoder(list[StoredExecution]).decode


def load(connection: Connection, ids: str, *, attempts: bool) -> list[StoredExecution]:
    """The executions whose ids stand in ``ids``, a JSON array, in that order, with their attempts if asked.

    Raises `StoreCorrupt` if a row holds something that no version of cloacina has written.
    """
    if ids == "[]":
        return []
    try:
        with connection.snapshot():
            return _load(connection, ids, attempts)
    except msgspec.ValidationError as error:
        raise StoreCorrupt(
            f"database {connection.location}: a row of execution {ids[:300]} was changed by hand ({error}); mend it"
        ) from error


def owned(connection: Connection, runner: str) -> str:
    """The ids, as a JSON array, of every live execution that ``runner`` owns."""
    ids: str = connection.value(_OWNED, (runner,))
    return ids


def listed(connection: Connection, filter: ExecutionFilter) -> list[StoredExecution]:
    """See `ReadStore.executions`."""
    with connection.snapshot():
        return load(connection, _listed_ids(connection, filter), attempts=False)


def ended(connection: Connection, ids: Sequence[str]) -> list[str]:
    """See `ReadStore.ended`."""
    return decode_ids(connection.value(_ENDED, (encode(ids),)))


def pending(connection: Connection) -> int:
    """See `ReadStore.pending`."""
    count: int = connection.value(_PENDING)
    return count


def missing(connection: Connection, ids: Sequence[str]) -> list[str]:
    """See `WriteStore.missing`."""
    return decode_ids(connection.value(_MISSING, (encode(ids),)))


def instance(connection: Connection) -> str:
    """See `WriteStore.instance`."""
    return str(connection.value("SELECT value FROM meta WHERE key = 'instance'"))


def next_wake_up(connection: Connection, versions: Sequence[tuple[str, str]]) -> int | None:
    """See `ReadStore.next_wake_up`."""
    moment: int | None = connection.value(_NEXT_WAKE_UP, (encode(versions),))
    return moment


def _listed_ids(connection: Connection, filter: ExecutionFilter) -> str:
    """One query for each status, since an index yields the rows of only one in the order of their ids."""
    ids: list[str] = []
    for status in set(filter.status) or (None,):
        ids += _listed_with(connection, filter, status)
    return encode(sorted(ids, reverse=True)[: filter.limit])


def _listed_with(connection: Connection, filter: ExecutionFilter, status: str | None) -> list[str]:
    conditions = ["true"]
    values: list[object] = []
    if status is not None:
        conditions.append("status = ?" if status == "completed" else "status = ? AND status <> 'completed'")
        values.append(status)
    if filter.workflow is not None:
        conditions.append("workflow = ?")
        values.append(filter.workflow)
    if filter.tag is not None:
        conditions.append("EXISTS (SELECT 1 FROM json_each(tags) AS tag WHERE tag.value = ?)")
        values.append(filter.tag)
    if filter.before is not None:
        conditions.append("id < ?")
        values.append(filter.before)
    text = f"SELECT id FROM executions WHERE {' AND '.join(conditions)} ORDER BY id DESC LIMIT ?"
    return [row[0] for row in connection.rows(text, (*values, filter.limit))]


def _load(connection: Connection, ids: str, attempts: bool) -> list[StoredExecution]:
    length = connection.value(_BYTES, (ids,))
    if attempts:
        length += connection.value(_ATTEMPT_BYTES, (ids,))
    if length > CHUNK_BYTES:
        return _load_one_by_one(connection, ids, attempts)
    return _decode(connection.value(_PACKED_WITH_ATTEMPTS if attempts else _PACKED, (ids,)))


def _load_one_by_one(connection: Connection, ids: str, attempts: bool) -> list[StoredExecution]:
    return [
        _stored((*row, _attempts(connection, row[0]) if attempts else ()))
        for row in connection.rows(_ROWS, (ids,))
    ]


def _attempts(connection: Connection, execution: str) -> tuple[StoredAttempt, ...]:
    rows = connection.rows(_ATTEMPT_ROWS, (execution,))
    return tuple(msgspec.convert(row, StoredAttempt) for row in rows)


def _stored(row: tuple[Any, ...]) -> StoredExecution:
    return msgspec.convert(row, StoredExecution)
