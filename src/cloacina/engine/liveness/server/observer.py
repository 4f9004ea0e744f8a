"""The observer on a server: reads the leases of all runners with one statement, now and then, unless it is alone."""

from __future__ import annotations

from collections.abc import Callable

from cloacina.engine.liveness.server.lease import ServerLease
from cloacina.engine.liveness.server.session import ServerSession
from cloacina.engine.storage.store_thread import StoreThread
from cloacina.errors import StoreError
from cloacina.logic.deaths import Look, Patience, Watch, judge, suspects
from cloacina.model.status import Reason
from cloacina.observe.logs import get_logger
from cloacina.settings import Settings
from cloacina.store.port import ReadStore

log = get_logger("recovery")

APART = 1.5
"""How many poll intervals lie between the two looks that it takes to find a runner dead."""

EVERY = 2
"""Of so many chances to look one is used, while nobody is suspect."""


class ServerObserver:
    """See the module's text, and `cloacina.logic.deaths` for what it makes of what it sees."""

    def __init__(
        self,
        session: ServerSession,
        lease: Callable[[], ServerLease | None],
        reader: StoreThread[ReadStore],
        settings: Settings,
    ) -> None:
        self._session = session
        self._lease = lease
        self._reader = reader
        self.interval = APART * settings.poll_interval
        self.alive: frozenset[str] = frozenset()
        unbroken = EVERY * self.interval
        gap = max(settings.lease / 3, 2 * unbroken)
        self._patience = Patience(0.9 * self.interval, unbroken, settings.lease, gap)
        self._watch: Watch | None = None
        self._rested = EVERY

    async def learn(self) -> None:
        """While there are others, each look shows all of them."""
        if len(self.alive) < 2:
            rows = await self._reader.run(lambda store: store.runners())
            self.alive = frozenset(row.id for row in rows)

    async def dead(self, mine: str) -> dict[str, Reason]:
        self._rested += 1
        if self._watch is not None and (self.alive <= {mine} or self._rested < EVERY):
            return {}
        lease = self._lease()
        look = None if lease is None else await lease.look()
        if look is None:
            return {}
        return self._judge(look, mine)

    async def bury(self, runner: str) -> None:
        self.alive -= {runner}
        try:
            await self._session.call(self._session.persist(lambda leases: leases.remove(runner)))
        except StoreError as error:
            log.warning("the lease of runner %s was not removed: %s", runner, error)

    def _judge(self, look: Look, mine: str) -> dict[str, Reason]:
        self.alive = frozenset((mine, *look.signs))
        watch = self._watch or Watch(look.session, look.at, self._patience.unbroken)
        self._watch, dead = judge(watch, look, self._patience)
        self._rested = EVERY - 1 if suspects(look) else 0
        return dead
