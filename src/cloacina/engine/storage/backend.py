"""The backend of a storage: what a database can do only where it is, in a file or on a server."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Protocol

from cloacina.clock import Clock
from cloacina.engine.storage.file_watch import FileWatch
from cloacina.errors import ValidationError
from cloacina.observe.logs import get_logger
from cloacina.store.filesystem import shared
from cloacina.store.location import Location
from cloacina.store.port import ReadStore, WriteStore
from cloacina.store.postgres.driver import driver_needed
from cloacina.store.postgres.location import ServerLocation
from cloacina.store.sqlite.copies.backup import back_up
from cloacina.store.sqlite.database import Database
from cloacina.store.transactions import Transactions

log = get_logger("store")


class Backend(Protocol):
    """Opens the stores; see `cloacina.engine.storage.storage.Storage` for the rest."""

    one_thread: bool
    """True if the reader must be used on the writer's thread."""
    folder: Path | None
    payloads: Path | None
    """Where payloads are kept that are too large for the database; None if the user must say."""
    server: ServerLocation | None
    writer: Callable[[], WriteStore]
    """Makes the database if there is none."""
    visitor: Callable[[], WriteStore]
    """The writer of a database that somebody else has made; `StoreUnavailable` if nobody has."""
    submitter: Callable[[], WriteStore] | None
    """None if submits wait for nobody but the writer."""
    reader: Callable[[], ReadStore]
    transactions: Callable[[Clock, int], Transactions] | None
    """None if bodies can have no transactions."""

    def warn(self) -> None: ...

    def watch(self) -> FileWatch | None: ...

    def signature(self) -> object: ...

    def check_files(self) -> None: ...

    def back_up(self, target: Location, *, overwrite: bool, go_on: Callable[[], bool]) -> Path: ...


class FileBackend:
    """SQLite: a file that other processes may open, or memory that belongs to this one."""

    server: ServerLocation | None = None
    submitter: Callable[[], WriteStore] | None = None
    transactions: Callable[[Clock, int], Transactions] | None = None

    def __init__(self, location: Location) -> None:
        self._database = Database(location)
        self.folder = self._database.runners
        self.payloads = self._database.payloads
        self.one_thread = self.folder is None
        self.writer: Callable[[], WriteStore] = self._database.writer
        self.visitor: Callable[[], WriteStore] = partial(self._database.writer, make=False)
        self.reader: Callable[[], ReadStore] = self._database.reader
        self.check_files = self._database.check_files
        self.signature = self._database.wal_signature

    def warn(self) -> None:
        kind = shared(self._database.path) if self._database.path is not None else None
        if kind is not None:
            log.warning(
                "database %s is on a file system of type %s, which other machines may write to as well: locks do not "
                "keep them apart there, and commits can be lost; put the file on a local disk",
                self._database.path, kind,
            )  # fmt: skip

    def watch(self) -> FileWatch | None:
        return None if self.folder is None else FileWatch.of(str(self._database.wal))

    def back_up(self, target: Location, *, overwrite: bool, go_on: Callable[[], bool]) -> Path:
        return back_up(self._database.location, target, overwrite=overwrite, go_on=go_on)


class ServerBackend:
    """PostgreSQL: a schema that any number of processes use. Raises `MissingExtra` without its driver."""

    one_thread = False
    folder: Path | None = None
    payloads: Path | None = None

    def __init__(self, location: ServerLocation, *, allow_unsafe: bool = False) -> None:
        with driver_needed():
            from cloacina.store.postgres.database import PostgresDatabase
            from cloacina.store.postgres.transactions.transaction import PostgresTransactions
        database = PostgresDatabase(location, allow_unsafe=allow_unsafe)
        self.server: ServerLocation | None = location
        self.writer: Callable[[], WriteStore] = database.writer
        self.visitor: Callable[[], WriteStore] = partial(database.writer, make=False)
        self.submitter: Callable[[], WriteStore] | None = database.submitter
        self.reader: Callable[[], ReadStore] = database.reader
        self.looking: Callable[[], ReadStore] = database.looking
        self.transactions: Callable[[Clock, int], Transactions] | None = partial(
            PostgresTransactions, location
        )

    def warn(self) -> None:
        """Nothing: what is wrong with a server is found when it is opened."""

    def watch(self) -> FileWatch | None:
        return None

    def signature(self) -> object:
        return None

    def check_files(self) -> None:
        """Nothing: there are no files."""

    def back_up(self, target: Location, *, overwrite: bool, go_on: Callable[[], bool]) -> Path:
        raise ValidationError(
            f"backup copies an SQLite file, and this database is on a server: use pg_dump, for {self.server}"
        )
