"""One connection to a database: how it is opened, how it runs SQL, and the transaction that writes."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Any

import apsw

from cloacina.errors import (
    ForeignConnection,
    ForkedProcess,
    StoreBusy,
    StoreCorrupt,
    StoreError,
    StoreUnavailable,
)
from cloacina.store.location import Location
from cloacina.store.sqlite.file import guard
from cloacina.store.sqlite.file.errors import translate
from cloacina.store.sqlite.file.wal import Wal

_DRIVER_ERRORS = (apsw.Error, MemoryError, UnicodeError, OverflowError)

TICK_STEPS = 20_000
"""Instructions of SQLite's machine between two looks whether a copy is still wanted: about a millisecond."""

_creating = threading.Lock()

_SETTINGS = """
PRAGMA foreign_keys = ON;
PRAGMA trusted_schema = OFF;
PRAGMA cell_size_check = ON;
PRAGMA mmap_size = 0;
PRAGMA temp_store = MEMORY;
PRAGMA cache_size = -8000;
PRAGMA journal_size_limit = 67108864;
PRAGMA synchronous = FULL;
PRAGMA wal_autocheckpoint = 0;
"""


class Connection:
    """A connection of this process. Every error that it raises is one of `StoreError`."""

    __slots__ = (
        "_busy_ms", "_identity", "_pid", "_raw", "_stopped", "_wal", "_within", "location", "read_only",
    )  # fmt: skip

    def __init__(self, location: Location, *, busy_timeout: float, read_only: bool = False) -> None:
        """Open the database at ``location``, which exists; a lock is waited for ``busy_timeout`` seconds.

        One that is ``read_only`` can be had without the right to write to the file, and never changes it.
        """
        guard.refuse_inherited(location)
        self.location = location
        self.read_only = read_only
        self._identity = guard.identify(location.path) if location.path else None
        self._pid = os.getpid()
        self._busy_ms = round(busy_timeout * 1000)
        self._stopped: StoreError | None = None
        self._wal: Wal | None = None
        self._within = False
        try:
            flags = apsw.SQLITE_OPEN_READONLY if read_only else apsw.SQLITE_OPEN_READWRITE
            self._raw = apsw.Connection(str(location), flags=flags)
        except _DRIVER_ERRORS as error:
            raise translate(error, str(location)) from error
        if location.path:
            guard.watch(self._raw, location)
        try:
            self._set_up()
        except BaseException:
            self.close(checkpoint=False)
            raise

    def change(self, sql: str, params: Sequence[object] = ()) -> int:
        """Run one statement that writes; return how many rows it changed."""
        self._run(sql, params)
        return self._raw.changes()

    def rows(self, sql: str, params: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """Run one statement and return its rows."""
        cursor = self._run(sql, params)
        try:
            return list(cursor)
        except _DRIVER_ERRORS as error:
            raise translate(error, str(self.location)) from error

    def row(self, sql: str, params: Sequence[object] = ()) -> tuple[Any, ...] | None:
        """The first row of a statement, or None."""
        rows = self.rows(sql, params)
        return rows[0] if rows else None

    def value(self, sql: str, params: Sequence[object] = ()) -> Any:
        """The first column of the first row of a statement, or None."""
        row = self.row(sql, params)
        return row[0] if row else None

    def nobody_writes(self) -> bool:
        """True if no connection is in the middle of a transaction that writes; waits for nobody, writes nothing."""
        self._raw.set_busy_timeout(0)
        try:
            self._run("BEGIN IMMEDIATE")
            self._run("ROLLBACK")
        except StoreBusy:
            return False
        finally:
            self._raw.set_busy_timeout(self._busy_ms)
        return True

    @contextlib.contextmanager
    def transaction(self) -> Generator[None, None, None]:
        """A transaction that writes: committed at the end, rolled back if anything is raised.

        When it ends without an error, what it wrote is on the disk, in the log that belongs to the file. There is none
        within another, or within a snapshot: its end would be the end of both.
        """
        if self._within:
            raise RuntimeError("a transaction within another one: take the inner one out")
        if self._stopped is not None:
            raise type(self._stopped)(*self._stopped.args)
        self._roll_back()
        self._within = True
        try:
            self._run("BEGIN IMMEDIATE")
            yield
            self._run("COMMIT")
            if self._wal is not None:
                self._wal.verify()
        except (StoreCorrupt, ForeignConnection) as error:
            self._stopped = error
            raise
        finally:
            self._within = False
            self._roll_back()

    @contextlib.contextmanager
    def snapshot(self) -> Generator[None, None, None]:
        """Let several statements that read see one state of the database; nothing if one is under way."""
        if self._in_transaction():
            yield
            return
        self._run("BEGIN DEFERRED")
        self._within = True
        try:
            yield
        finally:
            self._within = False
            self._roll_back()

    def follow_wal(self) -> None:
        """From now on check the write-ahead log after each commit, and count its pages.

        Raises `ForeignConnection` if the file was replaced while it was being opened.
        """
        if self.location.path:
            self.rows("SELECT 1 FROM sqlite_schema")  # a log that was not used yet is not there yet
            guard.watch(self._raw, self.location)
            self._wal = Wal(self._raw, self.location, self._identity, self._busy_ms)

    def check_files(self) -> None:
        """See `Wal.verify`. Runs no SQL and may be called on any thread."""
        if self._wal is not None:
            self._wal.verify()

    def copy_into(self, path: Path, tick: Callable[[], bool]) -> None:
        """Copy the database as it is now, without its free pages, into the empty file at ``path``.

        ``tick`` is called again and again; when it answers True the copy is given up with `apsw.InterruptError`.
        Raises the driver's own errors, since they may be about either file.
        """
        self._check_process()
        self._raw.set_progress_handler(tick, TICK_STEPS)
        try:
            self._raw.execute("VACUUM INTO ?", (str(path),))  # pyright: ignore[reportUnknownMemberType]
        finally:
            self._raw.set_progress_handler(None)

    def checkpoint_if_due(self) -> None:
        """See `Wal.checkpoint_if_due`."""
        if self._wal is not None:
            self._check_process()
            try:
                self._wal.checkpoint_if_due()
            except _DRIVER_ERRORS as error:
                raise translate(error, str(self.location)) from error

    def close(self, *, checkpoint: bool = True) -> None:
        """Close, which copies the log into the file if no other connection is open; twice does nothing.

        In a forked child nothing is closed. Without ``checkpoint``, and if the connection was stopped or its
        files were replaced, they are left as they are.
        """
        if self._pid != os.getpid():
            return
        guard.unwatch(self._raw)
        replaced = self._wal is not None and not self._wal.intact()
        with contextlib.suppress(apsw.Error):
            if self._stopped is not None or replaced or not checkpoint:
                self._raw.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
            self._raw.close(True)

    def _set_up(self) -> None:
        self._raw.set_busy_timeout(self._busy_ms)
        if self._raw.readonly("main") and not self.read_only:
            raise StoreUnavailable(
                f"database {self.location} is read-only; make the file writable for this user and process"
            )
        self._raw.config(apsw.SQLITE_DBCONFIG_DEFENSIVE, 1)
        self.rows(_SETTINGS)

    def _run(self, sql: str, params: Sequence[object] = ()) -> apsw.Cursor:
        self._check_process()
        try:
            return self._raw.execute(sql, params)  # pyright: ignore[reportUnknownMemberType]
        except _DRIVER_ERRORS as error:
            raise translate(error, str(self.location)) from error

    def _in_transaction(self) -> bool:
        try:
            return self._raw.in_transaction
        except _DRIVER_ERRORS as error:
            raise translate(error, str(self.location)) from error

    def _check_process(self) -> None:
        if self._pid != os.getpid():
            raise ForkedProcess(
                f"database {self.location} was opened by process {self._pid}, and process {os.getpid()} was "
                "forked from it; open it again after the fork, or start the child with 'spawn'"
            )

    def _roll_back(self) -> None:
        """End a transaction that an error left open. What SQLite rolled back by itself is not there."""
        if self._pid == os.getpid():
            with contextlib.suppress(apsw.Error):
                if self._raw.in_transaction:
                    self._raw.execute("ROLLBACK")  # pyright: ignore[reportUnknownMemberType]


def create(path: Path) -> bool:
    """Make the database file, empty, readable and writable by its owner only; return False if it was there.

    Raises `StoreUnavailable`. Never opens a file that exists, and one at a time in this process: closing a
    descriptor drops the locks of a connection that the process may have on that file.
    """
    with _creating:
        if guard.identify(path) is not None:
            return False
        try:
            _create(path)
        except FileExistsError:
            return False
        except OSError as error:
            raise StoreUnavailable(
                f"database {path} cannot be created: {error.strerror}; check the rights and the space of its folder"
            ) from error
        return True


def _create(path: Path) -> None:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.fchmod(descriptor, 0o600)
    finally:
        os.close(descriptor)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
