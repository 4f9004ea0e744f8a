"""Executions as read on PostgreSQL: rows and their attempts in two statements, however many there are."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any

import msgspec

from cloacina.errors import StoreCorrupt
from cloacina.store.nouns.batches import column
from cloacina.store.postgres.server.connection import Connection
from cloacina.store.rows import StoredExecution

_COLUMNS = (
    "id", "workflow", "version", "status", "input", "result", "key", "priority", "tags", "owner", "forked_from",
    "created", "started", "finished", "wake_at", "error",
)  # fmt: skip

_ATTEMPTS = """
    SELECT execution, task, attempt, state, runner, started, finished, retry_at, delta, error, reason, suspect
    FROM attempts WHERE execution IN (SELECT value ->> 0 FROM json_each(?1)) ORDER BY execution, task, attempt"""


def columns(table: str) -> str:
    """The columns of ``table`` that make a `StoredExecution`, in their order."""
    return ", ".join(f"{table}.{name}" for name in _COLUMNS)


_CHOSEN = (
    f"SELECT {columns('executions')} FROM executions WHERE id IN (SELECT value ->> 0 FROM json_each(?1))"
)


def load(connection: Connection, ids: Sequence[str], *, attempts: bool) -> list[StoredExecution]:
    """The executions that have these ids, in that order, with their attempts if asked.

    Raises `StoreCorrupt` if a row holds something that no version of cloacina has written.
    """
    if not ids:
        return []
    chosen = column(ids)
    with connection.snapshot():
        rows = {row[0]: row for row in connection.rows(_CHOSEN, (chosen,))}
        tried = attempts_of(connection, ids) if attempts else {}
    return read(connection.location, [(*rows[id], tried.get(id, ())) for id in ids if id in rows])


def attempts_of(connection: Connection, ids: Sequence[str]) -> dict[str, list[tuple[Any, ...]]]:
    """The rows of all attempts of the executions that have these ids, by execution, in their order."""
    if not ids:
        return {}
    tried = connection.rows(_ATTEMPTS, (column(ids),))
    return {id: [row[1:] for row in own] for id, own in groupby(tried, key=itemgetter(0))}


def read(location: object, rows: Sequence[tuple[Any, ...]]) -> list[StoredExecution]:
    """Rows of `columns`, perhaps with their attempts, as values. Raises `StoreCorrupt` as `load` does."""
    try:
        return msgspec.convert(rows, list[StoredExecution])
    except msgspec.ValidationError as error:
        named = ", ".join(row[0] for row in rows[:3])
        raise StoreCorrupt(
            f"database {location}: a row of execution {named} was changed by hand ({error}); mend it"
        ) from error
