"""Executions without owner: stored by a submit that no runner takes at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import asyncpg

from cloacina.errors import KeyBusy, StoreBusy
from cloacina.store.nouns.batches import column
from cloacina.store.postgres import executions
from cloacina.store.postgres.server.connection import Connection
from cloacina.store.rows import NewExecution, StoredExecution

# In the order of the keys, so that two that submit the same ones never wait for each other in a ring.
_INSERT = """
    INSERT INTO {s}.executions
        (id, workflow, version, status, input, key, priority, tags, owner, created, started)
    SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::bigint[],
        $8::text[], $9::text[], $10::bigint[], $11::bigint[])
        AS sent (id, workflow, version, status, input, key, priority, tags, owner, created, started)
    ORDER BY key, id ON CONFLICT DO NOTHING RETURNING 1"""

_HOLDERS = """
    SELECT key, id FROM executions
    WHERE key IS NOT NULL AND key IN (SELECT value ->> 0 FROM json_each(?1))"""


def insert(connection: Connection, rows: Sequence[NewExecution]) -> list[StoredExecution | None]:
    """See `WriteStore.insert_unowned`.

    A row whose key somebody else is just storing, in a transaction of his own, waits for that to end; raises
    `KeyBusy` if it takes longer than the session waits.
    """
    if not rows:
        return []
    while True:
        if _stored(connection, rows) == len(rows):
            return [None] * len(rows)
        holders = _holders(connection, rows)
        if holders is not None:
            return holders


def _stored(connection: Connection, rows: Sequence[NewExecution]) -> int:
    """Insert what has no conflict; return how many that are."""
    values: list[Any] = [list(values) for values in zip(*rows, strict=True)]
    text = _INSERT.replace("{s}", f'"{connection.location.schema}"')
    try:
        return len(connection.records(text, values))
    except StoreBusy as busy:
        if not isinstance(busy.__cause__, asyncpg.LockNotAvailableError):
            raise
        raise KeyBusy(
            f"database {connection.location}: a transaction that has not ended stores the same idempotency key, or has "
            "locked the table (CREATE INDEX, ALTER TABLE); nothing was stored: try again when it has ended"
        ) from busy


def _holders(connection: Connection, rows: Sequence[NewExecution]) -> list[StoredExecution | None] | None:
    """For each row the execution that holds its key, or None if that is the row itself.

    Nothing at all if a key has no holder, since that was removed after the insert had found it.
    """
    keys = {row.key for row in rows if row.key is not None}
    by_key: dict[str | None, str] = dict(connection.rows(_HOLDERS, (column(keys),)))
    holders = [by_key.get(row.key, row.id) for row in rows]
    lost = sorted({holder for row, holder in zip(rows, holders, strict=True) if holder != row.id})
    loaded = {stored.id: stored for stored in executions.load(connection, lost, attempts=False)}
    if keys != by_key.keys() or len(loaded) < len(lost):
        return None
    return [loaded[holder] if holder != row.id else None for row, holder in zip(rows, holders, strict=True)]
