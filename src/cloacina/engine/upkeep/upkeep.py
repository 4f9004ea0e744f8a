"""The upkeep of an engine's database: old executions are removed, its files are watched, backups are made."""

from __future__ import annotations

from collections.abc import Callable

from cloacina.clock import Clock
from cloacina.engine.service import Service
from cloacina.engine.storage.backups import Backups
from cloacina.engine.storage.storage import Storage
from cloacina.engine.upkeep.retention import Retention
from cloacina.errors import ForeignConnection
from cloacina.settings import Settings


class Upkeep:
    """From the start of an engine to its end. ``unsafe`` is called, again and again, when the files are not its own."""

    def __init__(
        self, storage: Storage, settings: Settings, clock: Clock, unsafe: Callable[[ForeignConnection], None]
    ) -> None:
        self._storage = storage
        self._unsafe = unsafe
        self._watch = Service("watch", self._look, settings.poll_interval, clock)
        self.retention = Retention(storage.writer, storage.reader, settings, clock)
        self.backups = Backups(storage)

    def start(self) -> None:
        """Begin; what is in memory has no files, and nothing in it is old."""
        self.retention.start(at_once=self._storage.shared)
        if self._storage.folder is not None:
            self._watch.start()

    async def stop(self) -> None:
        """End it, and give up backups that are being made."""
        await self._watch.stop()
        await self.retention.stop()
        await self.backups.stop()

    async def _look(self) -> None:
        """A runner that writes nothing would not notice by itself that its database was moved or replaced."""
        try:
            self._storage.check_files()
        except ForeignConnection as error:
            self._unsafe(error)
