"""The session of a process on a server, on a thread of its own, opened again after every outage until it is closed.

It is apart from the sessions of the stores, so that a lease is renewed and the bell is heard whatever those are busy
with, and whatever the event loop does. On a new connection the runner's lease comes first, and takes its lock again.
Then the session listens, and only then the bell rings once, here and elsewhere, for what was missed meanwhile.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from functools import partial
from typing import Any, Protocol, TypeVar

from cloacina.clock import Clock, Randomness
from cloacina.engine.mailbox import Mailbox
from cloacina.errors import StoreError, StoreUnavailable
from cloacina.observe.logs import get_logger
from cloacina.store.postgres.leases import Leases
from cloacina.store.postgres.location import ServerLocation

log = get_logger("lease")
T = TypeVar("T")

FIRST_PAUSE, LONGEST_PAUSE = 0.005, 2.0
"""Seconds before a connection is tried again; they double."""

STEADY = 0.1
"""Seconds that a connection must last for the pauses to begin anew."""

SAY_AGAIN_AFTER = 60.0

RING_PAUSE = 0.025
"""Seconds between two rings: those who hear one look once for all that was committed until then."""

CLOSE_PATIENCE = 2.0
"""Seconds that may go by at the end until all is done that was begun."""


class Guest(Protocol):
    """Who is served first on every new connection."""

    async def arrive(self, leases: Leases, number: int) -> None:
        """There is a connection, the ``number``-th. Raises `StoreError` if it is of no use."""
        ...


class ServerSession:
    """See the module's text. Made on an event loop, on which ``heard`` is called when the bell rang elsewhere."""

    def __init__(self, location: ServerLocation, clock: Clock, randomness: Randomness) -> None:
        self._location = location
        self._clock = clock
        self._randomness = randomness
        self._mailbox = Mailbox(asyncio.get_running_loop())
        self._loop = asyncio.SelectorEventLoop()
        self._thread = threading.Thread(target=self._serve, name="cloacina-lease", daemon=True)
        self._opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._ended = asyncio.Event()
        self._stop, self._hurry, self._wanted = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._patience = 0.0
        self._errands: set[asyncio.Task[None]] = set()
        self._said = -SAY_AGAIN_AFTER
        self._ringing = self._told = False
        self.leases: Leases | None = None
        """The connection; None while there is none. To be used on the session's thread only."""
        self.number = 0
        """How many connections there have been."""
        self.guest: Guest | None = None
        self.heard: Callable[[], None] = self.hear_again

    # For the event loop on which it was made.

    async def open(self, patience: float) -> None:
        """Connect; a server that cannot be reached is waited for ``patience`` seconds. Raises `StoreError`."""
        self._patience = patience
        self._thread.start()
        await self._opened

    async def close(self) -> None:
        """End the session, once what was begun is done, unless that takes too long."""
        if self._thread.is_alive():
            self._tell(self._stop.set)
            await self._ended.wait()
            self._thread.join()

    def give_up(self) -> None:
        """Let nobody wait any more for a connection that is not there."""
        self._tell(self._hurry.set)

    @property
    def listening(self) -> bool:
        """True if a ring of another process is heard."""
        leases = self.leases
        return leases is not None and not leases.pooled

    def ring(self) -> None:
        """Ring the bell soon, once for all calls until then."""
        if not self._ringing:
            self._ringing = True
            self._tell(self._wanted.set)

    def hear_again(self) -> None:
        """Who was told that the bell rang looks now: tell him of the next ring."""
        self._told = False

    def call(self, work: Coroutine[Any, Any, T]) -> asyncio.Future[T]:
        """Do ``work`` on the session's thread; the future belongs to the running loop."""
        return asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._loop))

    def begin(self, errand: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Have an errand done on the session's thread; only `close` waits for it."""
        self._tell(partial(self._begin, errand))

    # For what runs on the session's thread.

    async def persist(self, job: Callable[[Leases], Awaitable[T]]) -> T:
        """Do ``job``, on this connection or a later one; it may be done twice. Raises what no wait can mend."""
        pause = FIRST_PAUSE
        while True:
            try:
                if self.leases is None:
                    raise StoreUnavailable(f"database {self._location}: the connection for leases is lost")
                return await job(self.leases)
            except StoreError as error:
                if not error.retryable or self._hurry.is_set():
                    raise
            pause = await self._rest(pause, self._hurry)

    def post(self, call: Callable[[], None]) -> None:
        """Run ``call`` on the event loop on which the session was made."""
        self._mailbox.post(call)

    # Its life.

    def _tell(self, call: Callable[[], None]) -> None:
        with suppress(RuntimeError):  # it is closed
            self._loop.call_soon_threadsafe(call)

    def _serve(self) -> None:
        try:
            self._loop.run_until_complete(self._live())
        finally:
            self._loop.close()
            self.post(self._ended.set)

    async def _live(self) -> None:
        ringing = self._loop.create_task(self._ring())
        pause = FIRST_PAUSE
        while not self._stop.is_set():
            try:
                leases = await self._connect()
            except StoreError as error:
                if self.number == 0 and (not error.retryable or self._patience <= 0):
                    self.post(partial(self._opened.set_exception, error))
                    break
                self._say(error)
                self._patience -= pause
                pause = await self._rest(pause, self._stop)
                continue
            since = self._clock.monotonic()
            await self._either(leases.lost, self._stop)
            if self._stop.is_set():
                await self._finish(leases)
            self.leases = None
            if self._clock.monotonic() - since >= STEADY:
                pause = FIRST_PAUSE
            ...
        ringing.cancel()
