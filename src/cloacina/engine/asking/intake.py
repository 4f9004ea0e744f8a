"""The intake: executions that are stored without an owner, many with one commit.

That is where keyed submits go (their key decides which of two submitters made the execution), `submit_many`,
and every submit that comes while the runner has no room. Nothing here touches a runner's row: the id, which
the submitter made, and the key resolve whatever became unclear.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import NamedTuple

from cloacina.clock import Clock
from cloacina.engine.asking.joining import Joint
from cloacina.engine.storage.storage import Storage
from cloacina.engine.storage.store_thread import StoreThread
from cloacina.errors import KeyBusy, QueueFull, StoreRefused
from cloacina.store.port import WriteStore
from cloacina.store.rows import Fork, NewExecution, StoredExecution

Answer = Callable[[StoredExecution | None, BaseException | None], None]

MOST_ROWS = 10_000

KEY_PATIENCE = 2.0
"""Seconds that a submit waits for somebody else's transaction that stores the same idempotency key."""

KEY_PAUSE = 0.1
"""Seconds between two tries meanwhile."""


class Intake:
    """Gathers rows while one insert is in flight, then inserts them all: see the module's text.

    Rows with a key go their own way, through ``submitter``: on PostgreSQL they may have to wait for a transaction
    that is storing the same key, and nobody else shall.
    """

    def __init__(self, storage: Storage, max_pending: int, clock: Clock, stored: Callable[[], None]) -> None:
        self._plain = _Line(storage.writer, clock, stored)
        self._keyed = _Line(storage.submitter, clock, stored)
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
            return await line.thread.run(lambda store: store.insert_unowned(rows), lambda _: self._stored())
        finally:
            self._coming -= len(rows)

    async def add_forks(self, forks: Sequence[Fork], *, once: bool) -> list[str | None]:
        """Insert all forks in one transaction, or none: see `WriteStore.insert_forks`."""
        await self._take_room(len(forks))
        try:
            return await self._plain.thread.run(
                lambda store: store.insert_forks(forks, once), lambda _: self._stored()
            )
        finally:
            self._coming -= len(forks)

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


class _Asked(NamedTuple):
    """A row that is to be inserted, and who is told; a transaction that stores its key is waited for ``until`` then."""

    row: NewExecution
    answer: Answer
    until: float


class _Line:
    """Rows that wait for one thread: those that come while an insert is in flight go with the next one.

    A row whose key is in somebody else's open transaction is tried again until it has waited for long enough. The
    thread does not wait for that, so rows with other keys pass it by.
    """

    def __init__(self, thread: StoreThread[WriteStore], clock: Clock, stored: Callable[[], None]) -> None:
        self.thread = thread
        self._clock = clock
        self._stored = stored
        self._waiting: list[_Asked] = []
        self._busy = False
        self._stuck: dict[str | None, list[_Asked]] = {}
        """Those that are tried again later, by their key."""

    def put(self, row: NewExecution, answer: Answer) -> None:
        if row.key is None:
            self._waiting.append(_Asked(row, answer, 0.0))
        else:
            asked = _Asked(row, answer, self._clock.monotonic() + KEY_PATIENCE)
            self._stuck.get(row.key, self._waiting).append(asked)
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
        self._insert(batch, then=self._flush)

    def _insert(self, batch: list[_Asked], then: Callable[[], None] | None = None) -> None:
        rows = [asked.row for asked in batch]

        def done(holders: list[StoredExecution | None] | None, error: BaseException | None) -> None:
            if holders is not None:
                for asked, holder in zip(batch, holders, strict=True):
                    asked.answer(holder, None)
                self._stored()
            elif isinstance(error, KeyBusy):
                self._wait_for_key(batch, error)
            elif isinstance(error, StoreRefused) and len(batch) > 1:
                for asked in batch:  # let only the one suffer that was refused
                    self._insert([asked])
            else:
                for asked in batch:
                    asked.answer(None, error)
            if then is not None:
                then()

        self.thread.call(lambda store: store.insert_unowned(rows), done)

    def _wait_for_key(self, batch: list[_Asked], error: KeyBusy) -> None:
        """One of the keys is in somebody else's open transaction: part those that have it from the others."""
        by_key: dict[str | None, list[_Asked]] = {}
        for asked in batch:
            by_key.setdefault(asked.row.key, []).append(asked)
        if len(by_key) > 1:
            for part in by_key.values():
                self._insert(part)
            return
        now = self._clock.monotonic()
        for asked in batch:
            if asked.until <= now:
                asked.answer(None, error)
            else:
                if not self._stuck:
                    self._clock.call_later(KEY_PAUSE, self._try_again)
                self._stuck.setdefault(asked.row.key, []).append(asked)

    def _try_again(self) -> None:
        stuck, self._stuck = self._stuck, {}
        for batch in stuck.values():
            self._insert(batch)
