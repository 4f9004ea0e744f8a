"""The doorbell: how a process learns that another one has written to the database, and how it tells others."""

from __future__ import annotations

import asyncio
from contextlib import suppress


class Doorbell:
    """One that nobody rings, since no other process can see the database. The others override what they need."""

    def __init__(self) -> None:
        self._listeners: set[asyncio.Future[None]] = set()

    def start(self) -> None:
        """Begin to hear; what was committed until now need not ring the bell."""

    def ring(self) -> None:
        """Tell other processes that something was committed that may concern them. Costs nothing worth counting."""

    async def stop(self) -> None:
        """Hear nothing more; wait for what a ring has begun."""
        self.wake()

    def listen(self) -> asyncio.Future[None]:
        """A future that is set when the bell has rung once more, or has been taken down."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._listeners.add(future)
        return future

    def wake(self) -> None:
        """The bell has rung: tell those who listen."""
        listeners, self._listeners = self._listeners, set()
        for future in listeners:
            with suppress(asyncio.InvalidStateError):
                future.set_result(None)
