"""The lease of a runner: the proof that it is alive."""

from __future__ import annotations

from typing import Protocol


class Lease(Protocol):
    """The proof that a runner is alive, as the engine sees it."""

    async def hold(self) -> None:
        """Take it and keep it, until `release`."""
        ...

    def fresh(self) -> bool:
        """True if the last sign of life is younger than the lease: bodies may start."""
        ...

    def release(self) -> None:
        """Let go: the runner is committed as stopped or dead."""
        ...


class MemoryLease:
    """The lease of a runner on a database in memory, which no other process can see."""

    async def hold(self) -> None:
        return None

    def fresh(self) -> bool:
        return True

    def release(self) -> None:
        return None
