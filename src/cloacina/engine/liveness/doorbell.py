"""The doorbell: how a process learns, without SQL, that another one has written to the database."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

from cloacina.clock import Clock, SystemClock, Timer
from cloacina.engine.storage.file_watch import FileWatch
from cloacina.engine.storage.storage import Storage
from cloacina.observe.logs import get_logger

log = get_logger("doorbell")

INTERVAL = 0.05
"""Seconds between looks at the size and time of the write-ahead log."""

AGAIN, SLOW = 0.02, 1.0
"""The same where the kernel can watch the log: after a change, and while it watches. The first must be longer
than a tick of a file system's clock."""


class Doorbell:
    """Calls ``rung`` soon after another process committed.

    A look costs one ``stat``. A log that changed is asked, with one pragma, whether it was somebody else; and
    asked once more at the next look, since two commits can leave one size and one time if the second is in the
    same tick of the file system's clock and writes over old pages. While nothing changes, a `FileWatch` takes
    the place of most looks where there is one; not if time is driven by hand, since looks are then too.
    """

    def __init__(self, storage: Storage, clock: Clock, rung: Callable[[], Awaitable[None]]) -> None:
        self._storage = storage
        self._clock = clock
        self._rung = rung
        self._watch: FileWatch | None = None
        self._seen: object = None
        self._doubtful = False
        self._timer: Timer | None = None
        self._answering: asyncio.Task[None] | None = None
        self._listeners: set[asyncio.Future[None]] = set()
        self._stopped = True

    def start(self) -> None:
        """Begin to look; what was written until now rings no bell."""
        self._stopped = False
        if isinstance(self._clock, SystemClock):
            self._watch = self._storage.watch()
        self._seen = self._storage.signature()
        self._look_again()

    async def stop(self) -> None:
        """Look no more; wait for what a ring has begun."""
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()
        if self._watch is not None:
            self._watch.close()
        if self._answering is not None:
            await asyncio.wait({self._answering})
        self._wake()

    def listen(self) -> asyncio.Future[None]:
        """A future that is set when the bell has rung once more, or has been taken down."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._listeners.add(future)
        return future

    def look(self) -> None:
        """One look."""
        if not self._changed():
            watched = self._watch is not None and self._watch.arm(self._look_now)
            # What was written after the look and before the watch began would not be told.
            if not self._changed():
                self._timer = self._clock.call_later(SLOW if watched else INTERVAL, self.look)
                return
        self._answering = asyncio.get_running_loop().create_task(self._answer())

    def _changed(self) -> bool:
        signature = self._storage.signature()
        changed = signature != self._seen
        look_closer = changed or self._doubtful
        self._seen, self._doubtful = signature, changed
        return look_closer

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
            if await self._storage.writer.run(lambda store: store.foreign_change()):
                await self._rung()
                self._wake()
        except Exception:
            log.exception(
                "looking after what another process wrote failed; it is tried again after its next write"
            )
        self._answering = None
        if not self._stopped:
            self._look_again()

    def _wake(self) -> None:
        listeners, self._listeners = self._listeners, set()
        for future in listeners:
            with suppress(asyncio.InvalidStateError):
                future.set_result(None)
