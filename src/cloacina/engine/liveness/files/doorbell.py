"""The doorbell on SQLite: a process learns, without SQL, that another one has written to the database."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from math import inf
from typing import cast

from cloacina.clock import SystemClock, Timer
from cloacina.engine.liveness.doorbell import Doorbell
from cloacina.engine.storage.file_watch import FileWatch
from cloacina.engine.storage.storage import Storage
from cloacina.observe.logs import get_logger
from cloacina.store.port import FileStore, WriteStore

log = get_logger("doorbell")

INTERVAL = 0.05
"""Seconds between looks at the size and time of the write-ahead log."""

AGAIN, SLOW = 0.02, 1.0
"""The same where the kernel can watch the log: after a change, and while it watches. The first must be longer
than a tick of a file system's clock."""


class FileDoorbell(Doorbell):
    """Calls ``rung`` soon after another process committed.

    A look costs one ``stat``. When the log changed, the database is asked, with one pragma, whether it was
    somebody else; and asked again after pauses that double, for two reasons. Two commits can leave one size and
    one time if the second is in the same tick of the file system's clock and writes over old pages. And SQLite
    writes the log first and makes the commit visible, in shared memory, only once the disk has taken it: nothing
    more is seen of the file then, however long that took. So it is asked until nobody holds the lock for writing,
    and a commit is noticed after twice its own time at most.
    While nothing changes, a `FileWatch` takes the place of most looks where there is one; not if time is driven
    by hand, since looks are then too.
    """

    def __init__(self, storage: Storage, rung: Callable[[], Awaitable[None]]) -> None:
        super().__init__()
        self._storage = storage
        self._clock = storage.machine.clock
        self._rung = rung
        self._watch: FileWatch | None = None
        self._seen: object = None
        self._written = self._ask_at = 0.0
        """When the log was last seen to change, and when to ask again, in seconds."""
        self._owed = False
        """True if ``rung`` has yet to be called, because it failed."""
        self._timer: Timer | None = None
        self._answering: asyncio.Task[None] | None = None
        self._stopped = True

    def start(self) -> None:
        self._stopped = False
        if isinstance(self._clock, SystemClock):
            self._watch = self._storage.watch()
        self._seen = self._storage.signature()
        self._written = self._ask_at = self._clock.monotonic()
        self._look_again()

    async def stop(self) -> None:
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()
        if self._watch is not None:
            self._watch.close()
        if self._answering is not None:
            await asyncio.wait({self._answering})
        self.wake()

    def look(self) -> None:
        """One look."""
        if not self._changed():
            watched = self._watch is not None and self._watch.arm(self._look_now)
            # What was written after the look and before the watch began would not be told.
            if not self._changed():
                ask_in = max(AGAIN, self._ask_at - self._clock.monotonic())
                self._timer = self._clock.call_later(min(SLOW if watched else INTERVAL, ask_in), self.look)
                return
        self._answering = asyncio.get_running_loop().create_task(self._answer())

    def _changed(self) -> bool:
        """True if the database is to be asked now."""
        signature, now = self._storage.signature(), self._clock.monotonic()
        if signature != self._seen:
            self._seen, self._written = signature, now
        elif now < self._ask_at:
            return False
        self._ask_at = now + (now - self._written)
        return True

    def _look_now(self) -> None:
        """The log was written to."""
        if not self._stopped and self._answering is None:
            if self._timer is not None:
                self._timer.cancel()
            self.look()

    def _look_again(self) -> None:
        pause = INTERVAL if self._watch is None else AGAIN
        self._timer = self._clock.call_later(pause, self.look)

    async def _answer(self) -> None:
        try:
            again = self._clock.monotonic() > self._written
            if again and await self._storage.writer.run(_nobody_writes):
                self._ask_at = inf
            if await self._storage.writer.run(_foreign_change) or self._owed:
                self._owed = True
                await self._rung()
                self._owed = False
                self.wake()
        except Exception:
            log.exception("looking after what another process wrote failed; it is tried again")
            self._ask_at = self._clock.monotonic() + INTERVAL
        self._answering = None
        if not self._stopped:
            self._look_again()


def _nobody_writes(store: WriteStore) -> bool:
    return cast(FileStore, store).nobody_writes()


def _foreign_change(store: WriteStore) -> bool:
    return cast(FileStore, store).foreign_change()
