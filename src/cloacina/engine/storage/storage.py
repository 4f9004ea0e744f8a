"""The storage of an engine: one database, a thread that writes to it and one that reads."""

from __future__ import annotations

import asyncio
from os import PathLike
from pathlib import Path

from cloacina.clock import Randomness
from cloacina.engine.storage.store_thread import StoreThread
from cloacina.store.location import parse_location
from cloacina.store.port import ReadStore, WriteStore
from cloacina.store.sqlite.database import Database


class Storage:
    """Opened and closed as a whole. A database in memory has one thread for both stores."""

    writer: StoreThread[WriteStore]
    reader: StoreThread[ReadStore]

    def __init__(self, url: str | PathLike[str]) -> None:
        self._database = Database(parse_location(url))

    @property
    def folder(self) -> Path | None:
        """Where the leases of runners lie; None for a database in memory."""
        return self._database.runners

    def signature(self) -> object:
        """A value that differs after every commit by anyone; runs no SQL."""
        return self._database.wal_signature()

    async def open(self, randomness: Randomness) -> None:
        """Open both stores. Raises `StoreError` and leaves nothing open if that fails."""
        loop = asyncio.get_running_loop()
        database = self._database
        self.writer = StoreThread("writer", loop, randomness)
        try:
            store = await self.writer.open(database.writer)
            self.writer.afterwards(store.checkpoint_if_due)
            if self.folder is None:
                self.reader = StoreThread[ReadStore].beside(self.writer, database.reader())
            else:
                self.reader = StoreThread("reader", loop, randomness)
                await self.reader.open(database.reader)
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Close both stores and end their threads; what waits for the database gives up."""
        if self.folder is not None and hasattr(self, "reader"):
            await self.reader.stop(lambda store: store.close())
        await self.writer.stop(lambda store: store.close())
