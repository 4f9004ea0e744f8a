"""The doorbell: how a process learns, without SQL, that another one has written to the database."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

from cloacina.clock import Clock, Timer
from cloacina.engine.storage.storage import Storage
from cloacina.observe.logs import get_logger

log = get_logger("doorbell")

INTERVAL = 0.05
"""Seconds between looks at the size and time of the write-ahead log."""


class Doorbell:
    """Calls ``rung`` soon after another process committed.

    A look costs one ``stat``. A log that changed is asked, with one pragma, whether it was somebody else; and
    asked once more at the next look, since two commits can leave one size and one time if the second is in the
    same tick of the file system's clock and writes over old pages.
    """

    def __init__(self, storage: Storage, clock: Clock, rung: Callable[[], Awaitable[None]]) -> None:
        self._storage = storage
        self._clock = clock
        self._rung = rung
        self._seen: object = None
        self._doubtful = False
        self._timer: Timer | None = None
        self._answering: asyncio.Task[None] | None = None
        self._listeners: set[asyncio.Future[None]] = set()
        self._stopped = True

    def start(self) -> None:
        """Look for the first time after one interval; what was written until now rings no bell."""
        self._stopped = False
        self._seen = self._storage.signature()
        self._wait()

    async def stop(self) -> None:
        """Look no more; wait for what a ring has begun."""
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()
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
        signature = self._storage.signature()
        changed = signature != self._seen
        if changed or self._doubtful:
            self._seen, self._doubtful = signature, changed
            self._answering = asyncio.get_running_loop().create_task(self._answer())
        else:
            self._wait()

    def _wait(self) -> None:
        self._timer = self._clock.call_later(INTERVAL, self.look)

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
            self._wait()

    def _wake(self) -> None:
        listeners, self._listeners = self._listeners, set()
        for future in listeners:
            with suppress(asyncio.InvalidStateError):
                future.set_result(None)
