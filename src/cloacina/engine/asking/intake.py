"""The intake: executions that are stored without an owner, many with one commit.

That is where keyed submits go (their key decides which of two submitters made the execution), `submit_many`,
and every submit that comes while the runner has no room. Nothing here touches a runner's row: the id, which
the submitter made, and the key resolve whatever became unclear.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from cloacina.engine.asking.joining import Joint
from cloacina.engine.storage.storage import Storage
from cloacina.engine.storage.store_thread import StoreThread
from cloacina.errors import KeyBusy, QueueFull, StoreRefused
from cloacina.store.port import WriteStore
from cloacina.store.rows import Fork, NewExecution, StoredExecution

Answer = Callable[[StoredExecution | None, BaseException | None], None]

MOST_ROWS = 10_000


class Intake:
    """Gathers rows while one insert is in flight, then inserts them all: see the module's text.

    Rows with a key go their own way, through ``submitter``: on PostgreSQL they may have to wait for a transaction
    that is storing the same key, and nobody else shall.
    """

    def __init__(self, storage: Storage, max_pending: int, stored: Callable[[], None]) -> None:
        self._plain = _Line(storage.writer, stored)
        self._keyed = _Line(storage.submitter, stored)
        self._reader = storage.reader
        self._max_pending = max_pending
        self._stored = stored
        self._coming = 0
        """Executions that were let in and perhaps are not stored yet."""

    def put(self, row: NewExecution, answer: Answer) -> None:
        """Insert ``row``; ``answer`` gets None, or the execution that holds its key, or the error."""
        (self._plain if row.key is None else self._keyed).put(row, answer)

    async def add(self, row: NewExecution, joint: Joint | None = None) -> StoredExecution | None:
        """Insert ``row``, within the transaction at ``joint`` if given; return None, or the execution with its key."""
        if joint is not None:
            return (await self.add_all([row], joint))[0]
        future: asyncio.Future[StoredExecution | None] = asyncio.get_running_loop().create_future()

        def answer(holder: StoredExecution | None, error: BaseException | None) -> None:
            if future.done():
                return
            if error is None:
                future.set_result(holder)
            else:
                future.set_exception(error)

        await self._take_room(1)
        try:
            self.put(row, answer)
            return await future
        finally:
            self._coming -= 1

    async def add_all(
        self, rows: Sequence[NewExecution], joint: Joint | None = None
    ) -> list[StoredExecution | None]:
        """Insert all rows in one transaction, or none; an answer per row as in `add`."""
        await self._take_room(len(rows))
        try:
            if joint is not None:
                return await joint.insert(rows)
            line = self._plain if all(row.key is None for row in rows) else self._keyed
            answers = await line.thread.run(lambda store: store.insert_unowned(rows))
        finally:
            self._coming -= len(rows)
        self._stored()
        return answers

    async def add_forks(self, forks: Sequence[Fork], *, once: bool) -> list[str | None]:
        """Insert all forks in one transaction, or none: see `WriteStore.insert_forks`."""
        await self._take_room(len(forks))
        try:
            answers = await self._plain.thread.run(lambda store: store.insert_forks(forks, once))
        finally:
            self._coming -= len(forks)
        self._stored()
        return answers

    async def _take_room(self, more: int) -> None:
        """Let ``more`` executions in, or raise `QueueFull` if they would pass the bound on unowned ones."""
        if self._max_pending:
            pending = await self._reader.run(lambda store: store.pending()) + self._coming
            if pending + more > self._max_pending:
                raise QueueFull(
                    f"{pending} executions wait already, and max_pending is {self._max_pending}: "
                    "try again later, or raise the bound"
                )
        self._coming += more


class _Line:
    """Rows that wait for one thread: those that come while an insert is in flight go with the next one."""

    def __init__(self, thread: StoreThread[WriteStore], stored: Callable[[], None]) -> None:
        self.thread = thread
        self._stored = stored
        self._waiting: list[tuple[NewExecution, Answer]] = []
        self._busy = False

    def put(self, row: NewExecution, answer: Answer) -> None:
        self._waiting.append((row, answer))
        self._poke()

    def _poke(self) -> None:
        if not self._busy:
            self._busy = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        if not self._waiting:
            self._busy = False
            return
        batch, self._waiting = self._waiting[:MOST_ROWS], self._waiting[MOST_ROWS:]
        rows = [row for row, _ in batch]

        def done(holders: list[StoredExecution | None] | None, error: BaseException | None) -> None:
            if holders is not None:
                for (_, answer), holder in zip(batch, holders, strict=True):
                    answer(holder, None)
                self._stored()
            elif len(batch) > 1 and isinstance(error, (StoreRefused, KeyBusy)):
                self._one_by_one(batch)
            else:
                for _, answer in batch:
                    answer(None, error)
            self._flush()

        self.thread.call(lambda store: store.insert_unowned(rows), done)

    def _one_by_one(self, batch: list[tuple[NewExecution, Answer]]) -> None:
        """One of several rows was refused: let only that one suffer."""
        for row, answer in batch:
            self._insert_alone(row, answer)

    def _insert_alone(self, row: NewExecution, answer: Answer) -> None:
        def done(holders: list[StoredExecution | None] | None, error: BaseException | None) -> None:
            answer(holders[0] if holders else None, error)
            if error is None:
                self._stored()

        self.thread.call(lambda store: store.insert_unowned([row]), done)
