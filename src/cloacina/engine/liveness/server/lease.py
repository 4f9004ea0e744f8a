"""The lease of a runner on a server: a row that is renewed as long as the runner lives, and a lock beside it.

All of it happens on the thread of the session, so a blocked event loop is no death. An outage of the database is none
either: nothing is given up, no body starts once the lease has run out, and after the outage it is renewed, unless
somebody declared the runner dead meanwhile. A loop that is blocked for too long makes the thread give the lease up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from cloacina.clock import Clock
from cloacina.engine.liveness.pulse import Pulse
from cloacina.engine.liveness.server.session import ServerSession
from cloacina.errors import StoreError
from cloacina.logic.deaths import Look
from cloacina.observe.logs import get_logger
from cloacina.settings import Settings
from cloacina.store.postgres.leases import Leases, Seen, lock_key

log = get_logger("lease")

_GONE = "its lease is gone: another runner declared it dead"


class ServerLease:
    """See the module's text. ``lost`` is called on the loop when the lease was given up or taken away."""

    def __init__(
        self,
        session: ServerSession,
        runner: str,
        settings: Settings,
        clock: Clock,
        lost: Callable[[str], None],
    ) -> None:
        self._session = session
        self._runner = runner
        self._lease = settings.lease
        self._pause = min(settings.lease / 3, settings.loop_block_limit / 6, 5.0)
        self._renew_every = max(1, round(settings.lease / 3 / self._pause))
        """Of how many wake-ups each renews the lease."""
        self._clock = clock
        self._lost = lost
        self._pulse = Pulse(clock, settings.loop_block_limit)
        self._renewed = clock.monotonic()
        self._idle = 0
        """Wake-ups since the lease was renewed."""
        self._key: int | None = None
        self._held = False
        self._keeping: asyncio.Task[None] | None = None

    async def hold(self) -> None:
        await self._session.call(self._hold())
        self._pulse.start()

    def fresh(self) -> bool:
        return self._held and self._clock.monotonic() - self._renewed < self._lease

    def release(self) -> None:
        self._held = False
        self._session.begin(self._end)

    async def look(self) -> Look | None:
        """Look at all other runners, and renew the lease with that; None if the server does not answer."""
        return await self._session.call(self._look())

    # On the session's thread.

    async def arrive(self, leases: Leases, number: int) -> None:
        """Take the lock on a new connection, and renew the lease, which is made with the first."""
        key = None if leases.pooled else lock_key(leases.instance, self._runner, number)
        if key is not None and not await leases.lock(key):
            key = None  # whoever has it, the lease alone decides
        asked = self._clock.monotonic()
        if not self._held:
            await leases.take(self._runner, self._lease, key)
            self._note(asked)
        elif await leases.renew(self._runner, self._lease, key):
            self._note(asked)
        else:
            self._lose(_GONE)
        self._key = key

    async def _hold(self) -> None:
        arrived = 0
        while arrived != self._session.number:  # else the connection was lost meanwhile, and its lock with it
            arrived = await self._session.persist(self._arrive_now)
        self._held = True
        self._session.guest = self
        self._keeping = asyncio.create_task(self._keep())

    async def _arrive_now(self, leases: Leases) -> int:
        number = self._session.number
        await self.arrive(leases, number)
        return number

    async def _keep(self) -> None:
        while self._held:
            await asyncio.sleep(self._pause)
            why = self._pulse.trouble()
            self._idle += 1
            if why is not None:
                await self._give_up(why)
            elif self._idle >= self._renew_every:
                await self._renew()

    async def _renew(self) -> None:
        leases = self._session.leases
        asked = self._clock.monotonic()
        try:
            if leases is None:
                return
            if await leases.renew(self._runner, self._lease, self._key):
                self._note(asked)
            else:
                self._lose(_GONE)
        except StoreError as error:
            log.debug("the lease was not renewed: %s", error)

    async def _look(self) -> Look | None:
        leases, number = self._session.leases, self._session.number
        asked = self._clock.monotonic()
        try:
            if leases is None or not self._held:
                return None
            seen: Seen = await leases.look(self._runner, self._lease, self._key)
        except StoreError as error:
            log.debug("the other runners were not seen: %s", error)
            return None
        if seen.renewed:
            self._note(asked)
        else:
            self._lose(_GONE)
        return Look(asked, number, seen.now, seen.up_since, seen.signs)

    def _note(self, asked: float) -> None:
        """The lease runs from no earlier than ``asked``."""
        self._renewed = asked
        self._idle = 0

    async def _give_up(self, why: str) -> None:
        self._lose(why)
        try:
            if self._session.leases is not None:
                await self._session.leases.give_up(self._runner)
        except StoreError as error:
            log.warning("that the runner gave up could not be stored; its lease runs out: %s", error)

    def _lose(self, why: str) -> None:
        if not self._held:
            return
        log.error("the runner gives up what it owns: %s", why)
        self._leave()
        self._session.post(lambda: self._lost(why))

    def _leave(self) -> None:
        self._held = False
        if self._session.guest is self:
            self._session.guest = None

    async def _end(self) -> None:
        self._leave()
        if self._keeping is not None:
            self._keeping.cancel()
        try:
            if self._session.leases is not None:
                await self._session.leases.remove(self._runner, self._key)
        except StoreError as error:
            log.debug("the lease of runner %s was not removed; others do it: %s", self._runner, error)
