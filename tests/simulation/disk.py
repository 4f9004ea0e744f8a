"""The one database of a simulation, the stores through which each process sees it, and what can be wrong with it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from enum import StrEnum
from typing import Any, TypeVar

import apsw

from cloacina.errors import Fenced, StoreBusy, StoreError, StoreRefused, StoreTimeout, StoreUnavailable
from cloacina.store.location import parse_location
from cloacina.store.sqlite.database import Database, SqliteReader, SqliteWriter
from simulation.loop import Process

T = TypeVar("T")
Change = tuple[str, "tuple[Any, ...] | None", "tuple[Any, ...] | None"]
"""A table, and one of its rows before and after."""


class Hiccup(StrEnum):
    """What becomes of one job of a store."""

    BUSY = "busy"
    UNAVAILABLE = "unavailable"
    TIMEOUT = "timeout"
    REFUSED = "refused"
    REPLY_LOST = "reply lost"
    """It took its whole effect, and the answer says that nobody knows."""


_ERRORS: dict[Hiccup, type[StoreError]] = {
    Hiccup.BUSY: StoreBusy,
    Hiccup.UNAVAILABLE: StoreUnavailable,
    Hiccup.TIMEOUT: StoreTimeout,
    Hiccup.REFUSED: StoreRefused,
    Hiccup.REPLY_LOST: StoreUnavailable,
}


class Disk:
    """The database in memory. ``committed`` is told every change of a commit, and by whom it was made."""

    def __init__(
        self,
        committed: Callable[[Process | None, str, list[Change]], None],
        happened: Callable[[str], None],
    ) -> None:
        self._database = Database(parse_location("sqlite://:memory:"))
        self._connection = self._database.writer()._connection
        self._committed = committed
        self._happened = happened
        self._changes: list[Change] = []
        self._now: tuple[Process | None, str] = (None, "prepare")
        self.commits = 0
        self.of_process: Counter[str] = Counter()
        self.jobs: Counter[str] = Counter()
        self.hiccups: dict[tuple[str, int], Hiccup] = {}
        """What is to happen to the n-th job of a process, by its name and n."""
        self.down: set[str] = set()
        """The processes that do not reach the database."""
        self.outages = 0
        """If not 0, nobody reaches it."""
        raw: Any = self._connection._raw
        raw.preupdate_hook(self._note)
        raw.set_commit_hook(self._commit)
        raw.set_rollback_hook(self._changes.clear)

    def writer(self, process: Process) -> SimulatedStore:
        """The store that ``process`` writes through."""
        return SimulatedStore(self, process, SqliteWriter(self._connection))

    def reader(self, process: Process) -> SimulatedStore:
        """The store that ``process`` reads through."""
        return SimulatedStore(self, process, SqliteReader(self._connection, owned=False))

    def rows(self, sql: str, *params: object) -> list[tuple[Any, ...]]:
        """What somebody outside sees."""
        return self._connection.rows(sql, params)

    def close(self) -> None:
        self._connection.close()

    def reached_by(self, process: Process) -> bool:
        """True if a process reaches the database now."""
        return not self.outages and process.name not in self.down

    def do(self, process: Process, name: str, job: Callable[[], T]) -> T:
        """A job of ``process``, with what happens to it."""
        self.jobs[process.name] += 1
        hiccup = self.hiccups.get((process.name, self.jobs[process.name]))
        if not self.reached_by(process):
            raise StoreUnavailable("simulated: the database is down")
        if hiccup is not None and (hiccup is not Hiccup.REFUSED or name == "commit"):
            self._happened(f"a job was {hiccup}")
            if hiccup is not Hiccup.REPLY_LOST:
                raise _ERRORS[hiccup](f"simulated: {hiccup}")
        self._now = (process, name)
        before = self.commits
        try:
            result = job()
        except Fenced:
            self._happened("a group of a dead runner was refused")
            raise
        except StoreRefused:
            self._happened("a job was refused by the database")
            raise
        if self.commits == before and name in ("commit", "recover", "void"):
            self._happened(f"a {name} changed nothing, since it had been done")
        if hiccup is Hiccup.REPLY_LOST:
            self._happened(f"the reply of {name} was lost")
            raise StoreUnavailable("simulated: the reply was lost")
        return result

    def _note(self, update: apsw.PreUpdate) -> None:
        self._changes.append((update.table_name, update.old, update.new))

    def _commit(self) -> bool:
        if self._changes:
            changes, self._changes = self._changes, []
            process, name = self._now
            self.commits += 1
            if process is not None:
                self.of_process[process.name] += 1
            self._committed(process, name, changes)
        return False


class SimulatedStore:
    """A store of one process: every method is a job of its own, which can fail."""

    def __init__(self, disk: Disk, process: Process, store: SqliteWriter | SqliteReader) -> None:
        self._disk = disk
        self._process = process
        self._store = store
        self._seen = self._foreign()

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)

        def job(*arguments: Any, **named: Any) -> Any:
            return self._disk.do(self._process, name, lambda: method(*arguments, **named))

        return job

    def foreign_change(self) -> bool:
        before, self._seen = self._seen, self._foreign()
        return self._seen != before

    def _foreign(self) -> int:
        return self._disk.commits - self._disk.of_process[self._process.name]

    def nobody_writes(self) -> bool:
        return True

    def checkpoint_if_due(self) -> None:
        return None

    def close(self) -> None:
        return None
