"""The storage of an engine: one database, and the threads that serve its stores."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from os import PathLike
from pathlib import Path
from typing import Any, cast

from cloacina.clock import Clock
from cloacina.engine.machine import Machine
from cloacina.engine.storage.file_watch import FileWatch
from cloacina.engine.storage.line import Voice
from cloacina.engine.storage.store_thread import StoreThread
from cloacina.store.location import Location, read_location
from cloacina.store.payloads.payloads import Payloads
from cloacina.store.payloads.place import PayloadHome
from cloacina.store.payloads.stores import EncodingStore, decoding_store, encoding_store
from cloacina.store.port import JoiningStore, ReadStore, WriteStore
from cloacina.store.postgres.location import ServerLocation
from cloacina.store.rows import Item
from cloacina.store.transactions import Transactions


class Storage:
    """Opened and closed as a whole.

    What a database can do only where it is stands in its `Backend`. With ``payloads``, the stores are wrapped in
    stores that encode and decode; without, nothing is between.
    """

    writer: StoreThread[WriteStore]
    submitter: StoreThread[WriteStore]
    """Stores executions without owner, and may have to wait for somebody else's transaction."""
    reader: StoreThread[ReadStore]
    _home: PayloadHome

    def __init__(
        self,
        url: str | PathLike[str],
        payloads: Payloads | None = None,
        schema: str | None = None,
        *,
        allow_unsafe: bool = False,
        make: bool = True,
        machine: Machine | None = None,
    ) -> None:
        """Unless it is to ``make`` the database, one that is not there is an error when it is opened."""
        self.machine = machine or Machine()
        self._backend = self.machine.backend(read_location(url, schema), allow_unsafe=allow_unsafe)
        self._writing = self._backend.writer if make else self._backend.visitor
        self._payloads = payloads
        self._joining: JoiningStore | None = None

    @property
    def shared(self) -> bool:
        """True if other processes may use the database too."""
        return self.folder is not None or self.server is not None

    @property
    def encodes(self) -> bool:
        """True if payloads go through codecs, which may take their time."""
        return self._payloads is not None

    @property
    def folder(self) -> Path | None:
        """Where the leases of runners lie; None for a database in memory or on a server."""
        return self._backend.folder

    @property
    def server(self) -> ServerLocation | None:
        """Where the database is on a server; None on SQLite."""
        return self._backend.server

    def watch(self) -> FileWatch | None:
        """A watch on what every commit writes to; None where there is no such thing."""
        return self._backend.watch()

    def signature(self) -> object:
        """A value that differs after every commit by anyone; runs no SQL."""
        return self._backend.signature()

    def check_files(self) -> None:
        """Raise `ForeignConnection` if the database was moved or replaced since it was opened; runs no SQL."""
        self._backend.check_files()

    def back_up(self, target: Location, *, overwrite: bool, go_on: Callable[[], bool]) -> Path:
        """See `cloacina.store.sqlite.copies.backup.back_up`. Blocks; for a thread of its own."""
        return self._backend.back_up(target, overwrite=overwrite, go_on=go_on)

    async def open(self, patience: float = 0.0) -> None:
        """Open the stores; a database that cannot be reached is waited for ``patience`` seconds.

        Raises `StoreError` and leaves nothing open if that fails.
        """
        backend, voice = self._backend, Voice()
        backend.warn()
        self.writer = self._thread("writer", voice)
        try:
            store = await self.writer.open(self._open_writer, patience)
            self.writer.afterwards(store.checkpoint_if_due)
            submitter = backend.submitter
            if submitter is None:
                self.submitter = self.writer
            else:
                self.submitter = self._thread("submitter", voice)
                await self.submitter.open(lambda: self._encoding(submitter()), patience)
            if backend.one_thread:
                self.reader = self.writer.beside(self._decoding(backend.reader()))
            else:
                self.reader = self._thread("reader", voice)
                await self.reader.open(lambda: self._decoding(backend.reader()), patience)
        except BaseException:
            await self.close()
            raise

    async def joining(self) -> JoiningStore:
        """What stores within a transaction of somebody else's; waits for the writer the first time only.

        Raises as `WriteStore.joining` does.
        """
        if self._joining is None:
            made: JoiningStore = await self.writer.run(lambda store: store.joining())
            self._joining = made
        return self._joining

    @property
    def has_transactions(self) -> bool:
        """True if bodies can have transactions."""
        return self._backend.transactions is not None

    def transactions(self, clock: Clock, most: int) -> Transactions | None:
        """Transactions for bodies, of which at most ``most`` are open; None where there are none."""
        make = self._backend.transactions
        return None if make is None else make(clock, most)

    async def encoded(self, item: Item) -> Item:
        """``item`` as the writer would store it. Raises `StoreError`."""
        if self._payloads is None:
            return item
        return await self.writer.run(lambda store: cast(EncodingStore, store).encoded(item))

    async def close(self) -> None:
        """Close the stores and end their threads; what waits for the database gives up."""
        if not self._backend.one_thread and hasattr(self, "reader"):
            await self.reader.stop(lambda store: store.close())
        if hasattr(self, "submitter") and self.submitter is not self.writer:
            await self.submitter.stop(lambda store: store.close())
        await self.writer.stop(lambda store: store.close())

    def _thread(self, name: str, voice: Voice) -> StoreThread[Any]:
        loop = asyncio.get_running_loop()
        return StoreThread(self.machine.line(name, loop, voice), loop)

    def _open_writer(self) -> WriteStore:
        if self._payloads is None:
            return self._writing()
        folder = self._backend.payloads
        self._payloads.check(folder)
        store = self._writing()
        try:
            self._home = PayloadHome(store.instance(), folder)
        except BaseException:
            store.close()
            raise
        return self._encoding(store)

    def _encoding(self, store: WriteStore) -> WriteStore:
        return store if self._payloads is None else encoding_store(store, self._payloads, self._home)

    def _decoding(self, store: ReadStore) -> ReadStore:
        return store if self._payloads is None else decoding_store(store, self._payloads, self._home)
