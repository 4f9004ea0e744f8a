"""Executions as read: rows and their attempts in as few statements as there can be.

Rows come back as one JSON text too, for the reason in `cloacina.store.nouns.batches`; where that text would be
long they are read one by one, and each is long enough to be worth it.
"""

from __future__ import annotations

from typing import Any

import msgspec

from cloacina.errors import StoreCorrupt
from cloacina.store.nouns.batches import CHUNK_BYTES
from cloacina.store.rows import StoredAttempt, StoredExecution
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
