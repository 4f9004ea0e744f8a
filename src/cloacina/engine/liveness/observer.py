"""The observer: sees from their leases which other runners are dead."""

from __future__ import annotations

from typing import Protocol

from cloacina.model.status import Reason


class Observer(Protocol):
    """What recovery needs of it."""

    interval: float
    """Seconds between looks."""
    alive: frozenset[str]
    """The runners that count as alive, as far as is known."""

    async def learn(self) -> None:
        """Another process wrote: perhaps there are new runners."""
        ...

    async def dead(self, mine: str) -> dict[str, Reason]:
        """One look: the dead but for ``mine``, with the reason that their attempts are given."""
        ...

    async def bury(self, runner: str) -> None:
        """Remove the lease of a runner that is committed dead."""
        ...
