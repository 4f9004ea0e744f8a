"""The storage of an engine: one database, a thread that writes to it and one that reads."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from os import PathLike
from pathlib import Path

from cloacina.clock import Randomness
from cloacina.engine.storage.file_watch import FileWatch
from cloacina.engine.storage.store_thread import StoreThread
from cloacina.observe.logs import get_logger
from cloacina.store.filesystem import shared
from cloacina.store.location import Location, parse_location
from cloacina.store.payloads.payloads import Payloads
from cloacina.store.payloads.place import PayloadHome
from cloacina.store.payloads.stores import decoding_store, encoding_store
from cloacina.store.port import ReadStore, WriteStore
from cloacina.store.sqlite.copies.backup import back_up
from cloacina.store.sqlite.database import Database

log = get_logger("store")


class Storage:
    """Opened and closed as a whole. A database in memory has one thread for both stores.

    With ``payloads``, both are wrapped in stores that encode and decode; without, nothing is between.
    """

    writer: StoreThread[WriteStore]
    reader: StoreThread[ReadStore]
    _home: PayloadHome

    def __init__(self, url: str | PathLike[str], payloads: Payloads | None = None) -> None:
        self._database = Database(parse_location(url))
        self._payloads = payloads

    @property
    def folder(self) -> Path | None:
        """Where the leases of runners lie; None for a database in memory."""
        return self._database.runners

    def watch(self) -> FileWatch | None:
        """A watch on what every commit writes to; None in memory, or where there is no such thing."""
        return None if self.folder is None else FileWatch.of(str(self._database.wal))

    def signature(self) -> object:
        """A value that differs after every commit by anyone; runs no SQL."""
        return self._database.wal_signature()

    def check_files(self) -> None:
        """Raise `ForeignConnection` if the database was moved or replaced since it was opened; runs no SQL."""
        self._database.check_files()

    def back_up(self, target: Location, *, overwrite: bool, go_on: Callable[[], bool]) -> Path:
        """See `cloacina.store.sqlite.copies.backup.back_up`. Blocks; for a thread of its own."""
        return back_up(self._database.location, target, overwrite=overwrite, go_on=go_on)

    async def open(self, randomness: Randomness) -> None:
        """Open both stores. Raises `StoreError` and leaves nothing open if that fails."""
        loop = asyncio.get_running_loop()
        database = self._database
        self._warn_of_sharing()
        self.writer = StoreThread("writer", loop, randomness)
        try:
            store = await self.writer.open(self._open_writer)
            self.writer.afterwards(store.checkpoint_if_due)
            if self.folder is None:
                self.reader = StoreThread[ReadStore].beside(self.writer, self._decoding(database.reader()))
            else:
                self.reader = StoreThread("reader", loop, randomness)
                await self.reader.open(lambda: self._decoding(database.reader()))
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Close both stores and end their threads; what waits for the database gives up."""
        if self.folder is not None and hasattr(self, "reader"):
            await self.reader.stop(lambda store: store.close())
        await self.writer.stop(lambda store: store.close())

    def _warn_of_sharing(self) -> None:
        kind = shared(self._database.path) if self._database.path is not None else None
        if kind is not None:
            log.warning(
                "database %s is on a file system of type %s, which other machines may write to as well: locks do not "
                "keep them apart there, and commits can be lost; put the file on a local disk",
                self._database.path, kind,
            )  # fmt: skip

    def _open_writer(self) -> WriteStore:
        if self._payloads is None:
            return self._database.writer()
        folder = self._database.payloads
        self._payloads.check(folder)
        store = self._database.writer()
        try:
            self._home = PayloadHome(store.instance(), folder)
        except BaseException:
            store.close()
            raise
        return encoding_store(store, self._payloads, self._home)

    def _decoding(self, store: ReadStore) -> ReadStore:
        return store if self._payloads is None else decoding_store(store, self._payloads, self._home)
