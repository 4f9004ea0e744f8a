"""Databases: the one that a round is measured on, a new file on SQLite or a new schema on PostgreSQL."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

from cloacina.client import Client
from cloacina.runner import Runner

Store = Literal["sqlite", "postgres"]
STORES: tuple[Store, ...] = get_args(Store)

TABLES = ("executions", "attempts")
"""What a history is made of."""


class Database(NamedTuple):
    """A file, or a schema on a server. As a tuple of texts it travels on command lines: ``Database(*argv)``."""

    url: str
    schema: str = ""
    """Empty on SQLite, where ``url`` is a path."""

    def runner(self, **options: Any) -> Runner:
        """A runner on this database; ``options`` are those of `Runner`."""
        return Runner(self.url, **self._where(), **options)

    def client(self) -> Client:
        return Client(self.url, **self._where())

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """The answer to a query over the engine's own tables."""
        if not self.schema:
            from cloacina.store.sqlite.copies.readonly import open_readonly

            with open_readonly(Path(self.url)) as reader:
                return [tuple(row.values()) for row in reader.query(query)]
        with connected(self.url) as server:
            server.execute(f"SET search_path = {self.schema}")
            return list(server.execute(query).fetchall())

    def copy_from(self, source: Database) -> None:
        """Become a copy of a closed database, and leave nothing for the disk to do during the measurement.

        On PostgreSQL this one must have its tables already; the history is copied.
        """
        if not self.schema:
            shutil.copyfile(source.url, self.url)
            _flush(Path(self.url))
            return
        with connected(self.url) as server:
            for table in TABLES:
                server.execute(f"INSERT INTO {self.schema}.{table} SELECT * FROM {source.schema}.{table}")
            settle(server, self)

    def _where(self) -> dict[str, Any]:
        return {"schema": self.schema} if self.schema else {}


@contextmanager
def connected(url: str) -> Iterator[Any]:
    """A connection to a server outside any transaction, for what is no part of a measurement."""
    import psycopg

    with psycopg.connect(url, autocommit=True) as connection:
        yield connection


def settle(server: Any, database: Database) -> None:
    """Do now what autovacuum and the checkpointer would do during the measurement, after a mass of inserts."""
    for table in TABLES:
        server.execute(f"VACUUM (ANALYZE) {database.schema}.{table}")
    checkpoint(server)


def checkpoint(server: Any) -> None:
    """Let the server write now what it has yet to write, if the user may ask for that."""
    import psycopg

    with suppress(psycopg.errors.InsufficientPrivilege):
        server.execute("CHECKPOINT")


def drop(url: str, prefix: str) -> None:
    """Remove the schemas whose names begin with ``prefix``; what they left to be written is nobody else's burden."""
    with connected(url) as server:
        names = server.execute("SELECT nspname FROM pg_namespace WHERE starts_with(nspname, %s)", (prefix,))
        for (name,) in names.fetchall():
            server.execute(f"SET client_min_messages = error; DROP SCHEMA {name} CASCADE")
        checkpoint(server)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
