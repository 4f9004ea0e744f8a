"""Sessions for the SQL of bodies: few, opened when they are needed, kept for a while, without the engine's settings."""

from __future__ import annotations

import asyncio
from collections import deque
from functools import partial

import asyncpg

from cloacina.clock import Clock, Timer
from cloacina.errors import TransactionError
from cloacina.store.postgres.location import ServerLocation
from cloacina.store.postgres.server.connect import SETTINGS, connect
from cloacina.store.postgres.server.errors import DRIVER_ERRORS, lost_connection, translate

IDLE_SECONDS = 60.0
"""How long a session is kept that nobody uses."""

# The user's SQL finds his own tables, by the search path and with the plans that it would have anywhere else.
_SETTINGS = {
    "application_name": "cloacina transaction",
    **{name: value for name, value in SETTINGS.items() if name.startswith("tcp_")},
}

# DISCARD ALL without what it does to prepared statements, which the driver keeps for the next body.
_CLEAN = """
    CLOSE ALL; SET SESSION AUTHORIZATION DEFAULT; RESET ALL; UNLISTEN *; SELECT pg_catalog.pg_advisory_unlock_all();
    DISCARD TEMP; DISCARD SEQUENCES"""


class Sessions:
    """See the module's text. At most ``most`` are open. Belongs to the event loop on which it is used."""

    def __init__(self, location: ServerLocation, clock: Clock, most: int) -> None:
        self.location = location
        self.free = most
        """How many more may be used."""
        self._clock = clock
        self._closed = False
        self._pooled = False
        self._turns: deque[asyncio.Future[None]] = deque()
        self._used: set[asyncpg.Connection] = set()
        self._idle: dict[asyncpg.Connection, Timer] = {}

    async def turn(self) -> None:
        """Wait until a session may be used; who has waited has to `begin`."""
        if self.free:
            self.free -= 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._turns.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():
                self._next()
            raise

    async def begin(self, script: str) -> asyncpg.Connection:
        """A session in which ``script``, which begins a transaction, was run. Raises `StoreError`."""
        try:
            raw = await self._begun(script)
        except BaseException:
            self._next()
            raise
        if self._closed:
            raw.terminate()
            raise TransactionError("the runner of this body was stopped while its transaction began")
        self._used.add(raw)
        return raw

    async def give_back(self, raw: asyncpg.Connection) -> None:
        """Keep a session, in which no transaction is open, for the next who needs one; raises nothing."""
        try:
            if raw.is_in_transaction():
                self.drop(raw)
            elif not self._pooled:  # else a session is one transaction, and nothing is left of it
                await raw.execute(_CLEAN, timeout=5.0)
        except Exception:
            self.drop(raw)
        if raw in self._used:
            self._used.discard(raw)
            self._idle[raw] = self._clock.call_later(IDLE_SECONDS, partial(self._forget, raw))
            self._next()

    def drop(self, raw: asyncpg.Connection) -> None:
        """End a session that is used without a word; the server rolls back what is open in it."""
        raw.terminate()
        if raw in self._used:
            self._used.discard(raw)
            self._next()

    def close(self) -> None:
        """End all sessions."""
        self._closed = True
        for timer in self._idle.values():
            timer.cancel()
        for raw in (*self._idle, *self._used):
            raw.terminate()
        self._idle.clear()
        self._used.clear()

    async def _begun(self, script: str) -> asyncpg.Connection:
        while self._idle:
            raw, timer = self._idle.popitem()
            timer.cancel()
            if await self._ran(raw, script):
                return raw
        raw, self._pooled = await connect(self.location, settings=_SETTINGS, defaults={})
        if not await self._ran(raw, script):
            raise translate(ConnectionError("the connection was lost"), str(self.location))
        return raw

    async def _ran(self, raw: asyncpg.Connection, script: str) -> bool:
        """Run a script; False if the connection is lost, as one that was idle may have been for long."""
        try:
            await raw.execute(script, timeout=10.0)
        except BaseException as error:
            raw.terminate()
            if not isinstance(error, DRIVER_ERRORS):
                raise
            if lost_connection(error):
                return False
            raise translate(error, str(self.location)) from error
        return True

    def _next(self) -> None:
        """A session may be used: by the first who waits."""
        while self._turns:
            turn = self._turns.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self.free += 1

    def _forget(self, raw: asyncpg.Connection) -> None:
        del self._idle[raw]
        raw.terminate()
