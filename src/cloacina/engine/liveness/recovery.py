"""Recovery: finding dead runners and freeing what they owned.

Everybody may do it, again and again, and die in the middle of it: declaring a runner dead is one transaction
that changes nothing the second time. While no other process does anything, a look costs no SQL.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from cloacina.clock import Clock
from cloacina.engine.liveness.lease import Observer
from cloacina.engine.storage.storage import Storage
from cloacina.model.status import Reason
from cloacina.observe.logs import get_logger

log = get_logger("recovery")


class Recovery:
    """The sweep of one engine: see the module's text. ``found`` is called when there may be new work."""

    def __init__(
        self,
        storage: Storage,
        observer: Observer,
        clock: Clock,
        found: Callable[[], Awaitable[None]],
    ) -> None:
        self._writer = storage.writer
        self._reader = storage.reader
        self._observer = observer
        self._clock = clock
        self._found = found
        self._alive: frozenset[str] = frozenset()
        self.me = ""
        """The id of this process's own runner."""

    async def start(self) -> None:
        """Free everything whose owner is dead, at the start of a runner."""
        await self.learn_runners()
        await self._bury()
        now = self._clock.now()
        freed = await self._writer.run(lambda store: store.free_orphans(now))
        if freed:
            log.warning("executions freed whose owner nobody knows: %d", freed)

    async def tick(self) -> None:
        """One look at the lease files."""
        if await self._bury():
            await self._found()

    async def learn_runners(self) -> None:
        """Another process wrote: perhaps there are new runners."""
        rows = await self._reader.run(lambda store: store.runners())
        self._alive = frozenset(row.id for row in rows)

    async def recover(self, runner: str, reason: Reason) -> None:
        """Declare one runner dead."""
        now = self._clock.now()
        freed = await self._writer.run(lambda store: store.recover(runner, reason, now))
        self._alive -= {runner}
        if freed:
            log.warning("runner %s is dead (%s); executions freed: %d", runner, reason, freed)

    async def _bury(self) -> bool:
        dead = self._observer.dead(self.me)
        files = set(self._observer.files())
        for runner in self._alive:
            if runner not in files and runner != self.me:
                dead[runner] = Reason.CRASH
        for runner, reason in dead.items():
            await self.recover(runner, reason)
            self._observer.remove(runner)
        return bool(dead)
