"""The observer on SQLite: looks at the lease files of all other runners, without any SQL."""

from __future__ import annotations

import fcntl
import os
from dataclasses import dataclass
from pathlib import Path

from cloacina.clock import Clock
from cloacina.engine.liveness.files.lease import read_note, remove_file
from cloacina.engine.storage.store_thread import StoreThread
from cloacina.model.status import Reason
from cloacina.store.port import ReadStore

_UNWRITTEN = 30.0
"""Seconds that the owner of a file may take to write into it; as long as a lease."""


@dataclass(slots=True)
class _Seen:
    mtime: int
    since: float


class LeaseFiles:
    """The lease files of all runners of one database, and what their locks and times tell."""

    def __init__(self, folder: Path, clock: Clock) -> None:
        self._folder = folder
        self._clock = clock
        self._seen: dict[str, _Seen] = {}

    def names(self) -> list[str]:
        """The ids of all runners that have a file."""
        try:
            return sorted(entry.name for entry in self._folder.iterdir())
        except FileNotFoundError:
            return []

    def dead(self, mine: str) -> dict[str, Reason]:
        """The dead among the runners that have a file, but for ``mine``, with the reason their attempts are given."""
        found: dict[str, Reason] = {}
        files = self.names()
        self._seen = {name: seen for name, seen in self._seen.items() if name in files}
        for name in files:
            if name != mine and (reason := self._judge(name)) is not None:
                found[name] = reason
        return found

    def remove(self, runner: str) -> None:
        """Remove the file of a runner that is committed dead."""
        self._seen.pop(runner, None)
        remove_file(self._folder / runner)

    def _judge(self, name: str) -> Reason | None:
        try:
            fd = os.open(self._folder / name, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            try:
                fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return self._frozen(name, fd)
            note = read_note(fd)
            if note is None:
                # Being made: its owner creates the file before it locks it.
                return self._frozen(name, fd)
            return Reason.LOST_LEASE if note.given_up else Reason.CRASH
        finally:
            os.close(fd)

    def _frozen(self, name: str, fd: int) -> Reason | None:
        mtime, now = os.fstat(fd).st_mtime_ns, self._clock.monotonic()
        seen = self._seen.get(name)
        if seen is None or seen.mtime != mtime:
            self._seen[name] = _Seen(mtime, now)
            return None
        note = read_note(fd)
        lease = note.lease if note is not None else _UNWRITTEN
        return Reason.LOST_LEASE if now - seen.since >= lease else None


class FileObserver:
    """See the module's text. A runner that counts as alive and has no file is dead as well."""

    def __init__(self, folder: Path, clock: Clock, reader: StoreThread[ReadStore], interval: float) -> None:
        self._files = LeaseFiles(folder, clock)
        self._reader = reader
        self.interval = interval
        self.alive: frozenset[str] = frozenset()

    async def learn(self) -> None:
        rows = await self._reader.run(lambda store: store.runners())
        self.alive = frozenset(row.id for row in rows)

    async def dead(self, mine: str) -> dict[str, Reason]:
        dead = self._files.dead(mine)
        files = set(self._files.names())
        for runner in self.alive:
            if runner not in files and runner != mine:
                dead[runner] = Reason.CRASH
        return dead

    async def bury(self, runner: str) -> None:
        self.alive -= {runner}
        self._files.remove(runner)
