"""Sessions for the SQL of bodies: opened when they are needed, kept for a while for the next, without our settings."""

from __future__ import annotations

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
    """See the module's text. Belongs to the event loop on which it is used."""

    def __init__(self, location: ServerLocation, clock: Clock) -> None:
        self.location = location
        self.closed = False
        self._clock = clock
        self._open: set[asyncpg.Connection] = set()
        self._idle: dict[asyncpg.Connection, Timer] = {}
        self._pooled = False

    async def begin(self, script: str) -> asyncpg.Connection:
        """A session in which ``script``, which begins a transaction, was run. Raises `StoreError`."""
        while self._idle:
            raw, timer = self._idle.popitem()
            timer.cancel()
            if await self._ran(raw, script):
                return raw
        raw, self._pooled = await connect(self.location, settings=_SETTINGS, defaults={})
        if self.closed:
            raw.terminate()
            raise TransactionError("the runner of this body was stopped while its transaction began")
        self._open.add(raw)
        if not await self._ran(raw, script):
            raise translate(ConnectionError("the connection was lost"), str(self.location))
        return raw

    async def give_back(self, raw: asyncpg.Connection) -> None:
        """Keep a session, in which no transaction is open, for the next who needs one; raises nothing."""
        if raw.is_closed() or self.closed:
            self.drop(raw)
            return
        try:
            if not self._pooled:  # else a session is one transaction, and nothing is left of it
                await raw.execute(_CLEAN, timeout=5.0)
        except BaseException as error:
            self.drop(raw)
            if not isinstance(error, Exception):
                raise
            return
        self._idle[raw] = self._clock.call_later(IDLE_SECONDS, partial(self._forget, raw))

    def drop(self, raw: asyncpg.Connection) -> None:
        """End a session without a word; the server rolls back what is open in it."""
        self._open.discard(raw)
        raw.terminate()

    def close(self) -> None:
        """End all sessions."""
        self.closed = True
        for timer in self._idle.values():
            timer.cancel()
        self._idle.clear()
        for raw in tuple(self._open):
            self.drop(raw)

    async def _ran(self, raw: asyncpg.Connection, script: str) -> bool:
        """Run a script; False if the connection is lost, which a session that was idle may have been for long."""
        try:
            await raw.execute(script, timeout=10.0)
        except BaseException as error:
            self.drop(raw)
            if not isinstance(error, DRIVER_ERRORS):
                raise
            if lost_connection(error):
                return False
            raise translate(error, str(self.location)) from error
        return True

    def _forget(self, raw: asyncpg.Connection) -> None:
        del self._idle[raw]
        self.drop(raw)
