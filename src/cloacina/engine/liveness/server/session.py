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
from math import inf
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
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._ended = asyncio.Event()
        self._stop, self._hurry, self._wanted = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._patience = 0.0
        self._errands: set[asyncio.Task[None]] = set()
        self._said = -inf
        self._ringing = self._told = self._opened_once = False
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
        self._begin_thread()
        await self._opened

    async def close(self) -> None:
        """End the session, once what was begun is done, unless that takes too long."""
        if self._loop is not None:
            self._tell(self._stop.set)
            await self._ended.wait()
            self._end_thread()

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
        assert self._loop is not None
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
            if self._loop is not None:
                self._loop.call_soon_threadsafe(call)

    def _begin(self, errand: Callable[[], Coroutine[Any, Any, None]]) -> None:
        task = asyncio.get_running_loop().create_task(errand())
        self._errands.add(task)
        task.add_done_callback(self._errands.discard)

    def _begin_thread(self) -> None:
        loop = self._loop = asyncio.SelectorEventLoop()

        def serve() -> None:
            try:
                loop.run_until_complete(self._live())
            finally:
                self.post(self._ended.set)

        self._thread = threading.Thread(target=serve, name="cloacina-lease", daemon=True)
        self._thread.start()

    def _end_thread(self) -> None:
        assert self._loop is not None and self._thread is not None
        self._thread.join()
        self._loop.close()

    async def _live(self) -> None:
        asyncio.create_task(self._ring_when_wanted())  # noqa: RUF006 - its event has it
        staying = asyncio.create_task(self._stay())
        stop = asyncio.create_task(self._stop.wait())
        await asyncio.wait({staying, stop}, return_when=asyncio.FIRST_COMPLETED)
        if self.leases is not None:
            await self._finish(self.leases)
        tasks = self._tasks()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _stay(self) -> None:
        """Be connected, for ever; if there is no first connection, nothing."""
        pause = FIRST_PAUSE
        while True:
            try:
                leases = await self._connect()
            except Exception as error:
                if not self._opened_once and (self._patience <= 0 or not _passes(error)):
                    self.post(partial(_settle, self._opened, error))
                    return
                self._say(error)
                self._patience -= pause
            else:
                since = asyncio.get_running_loop().time()
                await leases.lost.wait()
                self.leases = None
                if asyncio.get_running_loop().time() - since >= STEADY:
                    pause = FIRST_PAUSE
            pause = await self._rest(pause, self._stop)

    async def _connect(self) -> Leases:
        leases = await self._reach()
        try:
            self.number += 1
            if self.guest is not None:
                await self.guest.arrive(leases, self.number)
            if not leases.pooled:
                await leases.listen(self._hear)
        except BaseException:
            leases.drop()
            raise
        self.leases = leases
        self._said = -inf
        if self._opened_once:
            self._hear()
            self._wanted.set()
        else:
            self._opened_once = True
            self._say_how(leases)
            self.post(partial(_settle, self._opened, None))
        return leases

    def _tasks(self) -> list[asyncio.Task[Any]]:
        """All that is being done on the session's thread, but for its life itself."""
        return [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]

    async def _reach(self) -> Leases:
        return await Leases.open(self._location)

    async def _finish(self, leases: Leases) -> None:
        """Do what was begun, ring if that is due, and say goodbye."""
        with suppress(TimeoutError, StoreError):
            async with asyncio.timeout(CLOSE_PATIENCE):
                while self._errands:
                    await asyncio.wait(set(self._errands))
                if self._ringing:
                    await leases.ring()
        await leases.close()

    def _hear(self) -> None:
        if not self._told:
            self._told = True
            self.post(self._pass_on)

    def _pass_on(self) -> None:
        self.heard()

    async def _ring_when_wanted(self) -> None:
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            self._ringing = False
            pause = RING_PAUSE
            try:
                if self.leases is not None:  # the next connection begins with a ring
                    await self.leases.ring()
            except StoreError:
                self._wanted.set()
                pause = LONGEST_PAUSE
            await asyncio.sleep(pause)

    async def _rest(self, pause: float, until: asyncio.Event) -> float:
        """Wait for about ``pause`` seconds, or until an event; return the next pause."""
        with suppress(TimeoutError):
            async with asyncio.timeout(pause * (0.5 + self._randomness.random() / 2)):
                await until.wait()
        return min(2 * pause, LONGEST_PAUSE)

    def _say(self, error: Exception) -> None:
        now = asyncio.get_running_loop().time()
        if now - self._said >= SAY_AGAIN_AFTER:
            self._said = now
            defect = None if isinstance(error, StoreError) else error
            log.warning("the connection for leases is lost, trying again: %s", error, exc_info=defect)

    def _say_how(self, leases: Leases) -> None:
        if leases.pooled:
            log.warning(
                "database %s is behind a pooler: runners have no locks and hear nothing of each other there, so that "
                "each looks for work by itself, and a dead one is found when its lease has run out; give the URL of "
                "the server itself for both",
                self._location,
            )


def _passes(error: Exception) -> bool:
    return isinstance(error, StoreError) and error.retryable


def _settle(opened: asyncio.Future[None], error: Exception | None) -> None:
    if not opened.done():
        if error is None:
            opened.set_result(None)
        else:
            opened.set_exception(error)
