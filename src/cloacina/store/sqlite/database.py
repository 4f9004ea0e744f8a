"""A database on SQLite: where its files are, and the two stores over it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from cloacina.errors import StoreError, StoreUnavailable, ValidationError
from cloacina.store.location import Location
from cloacina.store.nouns import reads
from cloacina.store.nouns.batches import encode
from cloacina.store.nouns.stores import CommonReader, CommonWriter
from cloacina.store.port import JoiningStore
from cloacina.store.rows import (
    ClaimRequest,
    ExecutionFilter,
    Group,
    NewExecution,
    StoredExecution,
)
from cloacina.store.sqlite import claims, groups, unowned
from cloacina.store.sqlite.copies.partial import being_made
from cloacina.store.sqlite.file.connection import Connection, create
from cloacina.store.sqlite.file.prepare import missing, prepare
from cloacina.store.sqlite.reads import load


class Database:
    """The SQLite database at a location. Nothing is opened before `writer` is called.

    ``busy_timeout`` is how many seconds a call waits for another connection's lock before it raises
    `StoreBusy`. The writer is opened first; a database in memory has one connection for both stores, so
    both are then used from one thread.
    """

    def __init__(self, location: Location, *, busy_timeout: float = 5.0) -> None:
        self._location = location.resolved()
        self._busy_timeout = busy_timeout
        self._in_memory: Connection | None = None
        self._wal = str(self._location.wal or "")
        self._written: Connection | None = None

    @property
    def location(self) -> Location:
        """Where the database is, with links followed."""
        return self._location

    @property
    def path(self) -> Path | None:
        """The database file, with links followed; None in memory."""
        return self._location.path

    @property
    def runners(self) -> Path | None:
        """The folder for the leases of runners; None in memory. It is not made here."""
        return self._location.runners

    @property
    def payloads(self) -> Path | None:
        """The folder for payload files; None in memory. It is not made here."""
        return self._location.payloads

    def writer(self, *, make: bool = True) -> SqliteWriter:
        """Make the file if there is none, check and migrate it, and open the store that writes.

        Raises `StoreCorrupt`, `SchemaTooNew`, `StoreUnavailable`, `StoreBusy` or `ForkedProcess`, and leaves
        nothing open then. Unless it is to ``make`` a database, one that is not there is `StoreUnavailable`.
        """
        if self._location.path is not None:
            if being_made(self._location.path):
                raise StoreUnavailable(
                    f"database {self._location} is being restored: start again when that has ended"
                )
            if make:
                create(self._location.path)
            elif not self._location.path.exists():
                raise missing(self._location, "is not there")
        connection = Connection(self._location, busy_timeout=self._busy_timeout)
        try:
            prepare(connection, make=make)
            connection.follow_wal()
        except BaseException:
            connection.close(checkpoint=False)
            raise
        if self._location.path is None:
            self._in_memory = connection
        self._written = connection
        return SqliteWriter(connection)

    def reader(self) -> SqliteReader:
        """Open the store that reads, on a connection of its own that cannot write."""
        if self._location.path is not None:
            connection = Connection(self._location, busy_timeout=self._busy_timeout)
            connection.rows("PRAGMA query_only = ON; SELECT 1 FROM meta")
            connection.follow_wal()
            return SqliteReader(connection, owned=True)
        if self._in_memory is None:
            raise StoreError("a database in memory is read through its writer; open the writer first")
        return SqliteReader(self._in_memory, owned=False)

    def check_files(self) -> None:
        """Raise `ForeignConnection` if the files are not those that the writer opened. Runs no SQL."""
        if self._written is not None:
            self._written.check_files()

    @property
    def wal(self) -> str:
        """The write-ahead log, which every commit writes to."""
        return self._wal

    def wal_signature(self) -> tuple[int, int] | None:
        """Size and modification time (ns) of the write-ahead log: a commit of any process changes them.

        None in memory or if there is no log. Runs no SQL.
        """
        try:
            found = os.stat(self._wal)  # noqa: PTH116 - looked at twenty times a second
        except OSError:
            return None
        return found.st_size, found.st_mtime_ns


class SqliteWriter(CommonWriter[Connection]):
    """`WriteStore` on SQLite. Each method is one transaction that takes the write lock at its start."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection)
        self._data_version: int = connection.value("PRAGMA data_version")

    def risk_power_loss(self) -> None:
        """Wait for the disk no more. For the files of tests, which need to outlive no power cut."""
        self._connection.rows("PRAGMA synchronous = OFF")

    def commit(self, group: Group) -> list[StoredExecution]:
        return groups.commit(self._connection, group)

    def claimable(self, request: ClaimRequest) -> bool:
        return claims.candidates(self._connection, replace(request, limit=min(request.limit, 1))) != "[]"

    def insert_unowned(self, rows: Sequence[NewExecution]) -> list[StoredExecution | None]:
        return unowned.insert(self._connection, rows)

    def joining(self) -> JoiningStore:
        raise ValidationError(
            f"connection= is for PostgreSQL: the SQLite file {self._connection.location} belongs to the engine, and no "
            "transaction of another connection can be joined; submit once yours is committed"
        )

    def foreign_change(self) -> bool:
        before, self._data_version = self._data_version, self._connection.value("PRAGMA data_version")
        return self._data_version != before

    def nobody_writes(self) -> bool:
        return self._connection.nobody_writes()

    def checkpoint_if_due(self) -> None:
        self._connection.checkpoint_if_due()

    def close(self) -> None:
        self._connection.close()


class SqliteReader(CommonReader[Connection]):
    """`ReadStore` on SQLite."""

    def __init__(self, connection: Connection, *, owned: bool) -> None:
        """``owned``: the connection is closed with the store."""
        super().__init__(connection)
        self._owned = owned

    def execution(self, id: str) -> StoredExecution | None:
        found = load(self._connection, encode([id]), attempts=True)
        return found[0] if found else None

    def executions(self, filter: ExecutionFilter) -> list[StoredExecution]:
        with self._connection.snapshot():
            ids = reads.listed_ids(self._connection, filter)
            return load(self._connection, encode(ids), attempts=False)

    def close(self) -> None:
        if self._owned:
            self._connection.close()
