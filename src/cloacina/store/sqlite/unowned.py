"""Executions without owner: stored by a submit that no runner takes at once."""

from __future__ import annotations

from collections.abc import Sequence

from cloacina.store.nouns.batches import batches, encode
from cloacina.store.rows import NewExecution, StoredExecution
from cloacina.store.sqlite import reads
from cloacina.store.sqlite.file.connection import Connection
from cloacina.store.sqlite.groups import NEW_EXECUTIONS

_INSERT = NEW_EXECUTIONS._replace(
    write=f"{NEW_EXECUTIONS.write} WHERE true ON CONFLICT DO NOTHING",
)

_HOLDERS = """
    SELECT executions.key, executions.id FROM json_each(?) AS sent
    CROSS JOIN executions ON executions.key = sent.value AND executions.key IS NOT NULL"""


def insert(connection: Connection, rows: Sequence[NewExecution]) -> list[StoredExecution | None]:
    """See `WriteStore.insert_unowned`."""
    prepared = list(batches(_INSERT, rows))
    with connection.transaction():
        stored = sum(connection.change(batch.kind.write, (batch.text,)) for batch in prepared)
        if stored == len(rows):
            return [None] * len(rows)
        return _holders(connection, rows)


def _holders(connection: Connection, rows: Sequence[NewExecution]) -> list[StoredExecution | None]:
    """For each row the execution that holds its key, or None if that is the row itself."""
    keys = encode([row.key for row in rows if row.key is not None])
    by_key: dict[str | None, str] = dict(connection.rows(_HOLDERS, (keys,)))
    holders = [by_key.get(row.key, row.id) for row in rows]
    lost = {holder for row, holder in zip(rows, holders, strict=True) if holder != row.id}
    loaded = {stored.id: stored for stored in reads.load(connection, encode(lost), attempts=False)}
    return [loaded[holder] if holder != row.id else None for row, holder in zip(rows, holders, strict=True)]
