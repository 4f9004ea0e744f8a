"""Recovery: finding dead runners and freeing what they owned.

Everybody may do it, again and again, and die in the middle of it: declaring a runner dead is one transaction
that changes nothing the second time. While no other process does anything, a look costs no SQL.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from cloacina.clock import Clock
from cloacina.engine.liveness.observer import Observer
from cloacina.engine.storage.storage import Storage
from cloacina.errors import StoreBusy
from cloacina.model.status import Reason
from cloacina.observe.logs import get_logger
from cloacina.store.port import WriteStore

log = get_logger("recovery")

SAY_AGAIN_AFTER = 60.0
"""Seconds for which a dead runner's row is locked by somebody else, until that is told, and told again."""


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
        self._observer = observer
        self._clock = clock
        self._found = found
        self._busy: dict[str, float] = {}
        """Dead runners whose rows are locked, and since when; or when that was told."""
        self.me = ""
        """The id of this process's own runner."""

    @property
    def peers(self) -> int:
        """How many other runners are alive, as far as is known."""
        return len(self._observer.alive - {self.me})

    async def start(self) -> None:
        """Free everything whose owner is dead, at the start of a runner."""
        await self.learn_runners()
        await self._bury()
        now = self._clock.now()
        freed = await self._writer.run(lambda store: store.free_orphans(now))
        if freed:
            log.warning("executions freed whose owner nobody knows: %d", freed)

    async def tick(self) -> None:
        """One look at the leases."""
        if await self._bury():
            await self._found()

    async def learn_runners(self) -> None:
        """Another process wrote: perhaps there are new runners."""
        await self._observer.learn()

    async def recover(self, runner: str, reason: Reason) -> bool:
        """Declare one runner dead; False if it, or somebody who does the same, is just writing: look again later."""
        now = self._clock.now()

        def once(store: WriteStore) -> int | None:
            try:
                return store.recover(runner, reason, now)
            except StoreBusy:
                return None

        freed = await self._writer.run(once)
        if freed is None:
            self._say_busy(runner)
            return False
        self._busy.pop(runner, None)
        if freed:
            log.warning("runner %s is dead (%s); executions freed: %d", runner, reason, freed)
        return True

    def _say_busy(self, runner: str) -> None:
        """Say that a runner stays busy, once in a while: a moment is nothing unusual."""
        now = self._clock.monotonic()
        if now - self._busy.setdefault(runner, now) >= SAY_AGAIN_AFTER:
            self._busy[runner] = now
            log.warning(
                "runner %s is dead, and what it owned cannot be freed: for a minute somebody has had its row locked; "
                "it is tried again, find who holds the locks",
                runner,
            )

    async def _bury(self) -> bool:
        buried = False
        for runner, reason in (await self._observer.dead(self.me)).items():
            if await self.recover(runner, reason):
                await self._observer.bury(runner)
                buried = True
        return buried
