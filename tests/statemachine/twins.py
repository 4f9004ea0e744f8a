"""Twins: a store on SQLite and one on PostgreSQL that are told the same things, and must answer and hold the same."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NamedTuple

from cloacina.errors import CloacinaError, StoreRefused
from cloacina.store.location import parse_location
from cloacina.store.port import ReadStore, WriteStore
from cloacina.store.postgres.database import PostgresDatabase
from cloacina.store.postgres.location import server_location
from cloacina.store.sqlite.database import Database
from support.postgres.server import PostgresServer

TABLES = {
    "executions": "id, workflow, version, status, input, result, key, priority, tags, owner, forked_from, created, "
    "started, finished, wake_at, error, parked_for",
    "attempts": "execution, task, attempt, state, runner, started, finished, retry_at, delta, error, reason, suspect",
    "checkpoints": "execution, task, name, value, stored",
    "runners": "id, host, pid, started, state, group_no",
    "runner_workflows": "workflow, version, runner",
    "workflow_versions": "workflow, version, dag, registered",
    "commands": "id, execution, kind, sent",
    "events": "execution, at, kind, detail",
}


_NO_VALUE = re.compile("a row cannot be stored|refused the content|a row that is there twice")

NEVER = "this can never be stored"
"""What is said of it here. Whether that, or that its writer is dead, is found first is left to the store."""

_ONLY_LOOK = {"claimable", "missing"}


class Refusal(NamedTuple):
    """An error, as far as it must be the same."""

    kind: str
    text: str


class Twin:
    """One of the two."""

    def __init__(self, database: Any) -> None:
        self.writer: WriteStore = database.writer()
        self.reader: ReadStore = database.reader()
        self._name = str(database.location)

    def ask(self, what: Callable[[WriteStore, ReadStore], Any]) -> Any:
        """The answer, or the error."""
        try:
            return what(self.writer, self.reader)
        except CloacinaError as error:
            text = re.sub(r"\s+", " ", str(error).replace(self._name, "<database>"))
            return Refusal(type(error).__name__, _told(text) if isinstance(error, StoreRefused) else text)

    def rows(self) -> dict[str, list[tuple[Any, ...]]]:
        """All that is stored."""
        session: Any = self.writer
        return {
            table: sorted(session._connection.rows(f"SELECT {columns} FROM {table}"), key=repr)
            for table, columns in TABLES.items()
        }

    def empty(self) -> None:
        session: Any = self.writer
        for table in TABLES:
            session._connection.change(f"DELETE FROM {table}")

    def close(self) -> None:
        self.reader.close()
        self.writer.close()


class Twins:
    """The two. `ask` asks both the same."""

    def __init__(self, server: PostgresServer, schema: str) -> None:
        self.sqlite = Twin(Database(parse_location("sqlite://:memory:")))
        self.postgres = Twin(PostgresDatabase(server_location(server.url(), schema)))

    def ask(self, what: str, *args: Any, in_order: bool = True, **named: Any) -> Any:
        """What both answer. Raises `AssertionError` if they do not agree, in that or in what they hold then."""
        writes = hasattr(WriteStore, what) and what not in _ONLY_LOOK

        def call(writer: WriteStore, reader: ReadStore) -> Any:
            return getattr(writer if hasattr(WriteStore, what) else reader, what)(*args, **named)

        first, second = self.sqlite.ask(call), self.postgres.ask(call)
        if not in_order:
            first, second = map(_sorted, (first, second))
        refused = (
            isinstance(first, Refusal) and isinstance(second, Refusal) and NEVER in (first.text, second.text)
        )
        assert refused or _exact(first) == _exact(second), f"SQLite answers {first}, and PostgreSQL {second}"
        if writes:
            rows, others = self.sqlite.rows(), self.postgres.rows()
            for table in TABLES:
                assert _exact(rows[table]) == _exact(others[table]), (
                    f"{table} on SQLite: {rows[table]}, on PostgreSQL: {others[table]}"
                )
        return first

    def empty(self) -> None:
        for twin in (self.sqlite, self.postgres):
            twin.empty()

    def close(self) -> None:
        self.sqlite.close()
        self.postgres.close()


def _sorted(answer: Any) -> Any:
    if isinstance(answer, Refusal):
        return answer
    return sorted(answer.items() if isinstance(answer, dict) else answer)


def _told(text: str) -> str:
    """A refusal without what a driver or the database said of it, in words of its own."""
    complaint, _, rows = text.partition(" (")[0].rpartition(": ")
    if _NO_VALUE.search(text):
        return NEVER
    return f"{complaint}: {sorted(rows.split(', '))}"


def _exact(value: Any) -> str:
    """With the types: 1 is not True, and not 1.0."""
    return repr(value)
