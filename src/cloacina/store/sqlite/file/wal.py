"""The write-ahead log: proof that it is still the one we write to, and when to copy it into the database."""

from __future__ import annotations

import contextlib

import apsw

from cloacina.errors import ForeignConnection
from cloacina.observe.logs import get_logger
from cloacina.store.location import Location
from cloacina.store.sqlite.file.guard import Identity, identify

CHECKPOINT_PAGES = 1_000
"""Pages (4 KiB) that the log may grow by before a checkpoint: about 4 MB, SQLite's own default."""

LARGE_PAGES = 16_000
"""Pages (about 64 MB) beyond which a checkpoint also tries to empty the log, if nobody reads from it."""

ALARM_PAGES = 250_000
"""Pages (about 1 GB) beyond which a log that cannot be emptied is complained of."""

log = get_logger("store")


class Wal:
    """The log of the writer's connection."""

    __slots__ = (
        "_alarmed",
        "_busy_ms",
        "_connection",
        "_copied_at",
        "_identities",
        "_location",
        "_pages",
        "_paths",
    )

    def __init__(
        self, connection: apsw.Connection, location: Location, opened: Identity | None, busy_ms: int
    ) -> None:
        """``opened``: the database file before it was opened, which it must still be.

        ``busy_ms``: the milliseconds that the connection waits for a lock, when this log lets it.
        """
        self._connection = connection
        self._busy_ms = busy_ms
        self._location = location
        self._paths = location.files
        self._identities = self._identify()
        if self._identities[0] != opened:
            raise ForeignConnection(
                f"database {location} was replaced while it was being opened, perhaps by a restore; open it again"
            )
        self._pages = 0
        self._copied_at = 0
        self._alarmed = False
        connection.set_wal_hook(self._grown)

    def verify(self) -> None:
        """Raise `ForeignConnection` if the database, its log or the log's index is not the file that it was.

        To be called after each commit and before it is acknowledged: what was committed to a log that is no
        longer there is lost when this process ends; and two indexes are two sets of locks on one log.
        """
        if not self.intact():
            raise ForeignConnection(
                f"database {self._location}: the file or its write-ahead log was removed or replaced while it "
                "was open, so commits are no longer safe; stop this process, find what opened, moved or "
                "deleted the file, and start again"
            )

    def intact(self) -> bool:
        """True if the database and its log are the files that they were."""
        return None not in self._identities and self._identify() == self._identities

    def checkpoint_if_due(self) -> None:
        """Copy the log into the database if it grew by `CHECKPOINT_PAGES` since that was last tried.

        Waits for nobody: what readers still need stays in the log. Beyond `LARGE_PAGES` the log is emptied
        as soon as no reader holds it.
        """
        if self._pages - self._copied_at < CHECKPOINT_PAGES:
            return
        self._copied_at = self._pages
        self._connection.set_busy_timeout(0)
        try:
            self._checkpoint(apsw.SQLITE_CHECKPOINT_PASSIVE)
            if self._pages > LARGE_PAGES:
                self._checkpoint(apsw.SQLITE_CHECKPOINT_TRUNCATE)
                self._complain()
        finally:
            self._connection.set_busy_timeout(self._busy_ms)

    def _complain(self) -> None:
        """Say once that the log is held, for as long as it is."""
        held = self._pages > ALARM_PAGES and not self._empty()
        if held and not self._alarmed:
            log.warning(
                "the write-ahead log %s has more than %d pages and cannot be emptied: somebody has been reading the "
                "database all the time; find that program and end its query",
                self._location.wal, ALARM_PAGES,
            )  # fmt: skip
        self._alarmed = held

    def _empty(self) -> bool:
        try:
            return self._location.wal is None or self._location.wal.stat().st_size == 0
        except OSError:
            return True

    def _checkpoint(self, mode: int) -> None:
        with contextlib.suppress(apsw.BusyError, apsw.LockedError):
            self._connection.wal_checkpoint(mode=mode)

    def _grown(self, connection: apsw.Connection, database: str, pages: int) -> int:
        """Called by SQLite after each commit of this connection, with the length of the log."""
        self._pages = pages
        self._copied_at = min(self._copied_at, pages)
        return apsw.SQLITE_OK

    def _identify(self) -> tuple[Identity | None, ...]:
        return tuple(identify(path) for path in self._paths)
