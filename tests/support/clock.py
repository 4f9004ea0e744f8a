"""A clock that only moves when a test says so."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count

from cloacina.clock import SystemClock, Timer
from cloacina.engine.liveness.doorbell import Doorbell
from cloacina.engine.service import Service


class HandTimer:
    def __init__(self) -> None:
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class HandClock:
    """Time stands still until `advance`. ``real=True`` keeps monotonic time real, for leases."""

    def __init__(self) -> None:
        self._start = self._now = SystemClock().now()
        self._leap = 0
        self._order = count()
        self._timers: list[tuple[int, int, HandTimer, Callable[[], None]]] = []

    def now(self) -> int:
        return self._now

    def monotonic(self) -> float:
        return (self._now - self._start) / 1e6

    def call_later(self, delay: float, callback: Callable[[], None]) -> Timer:
        timer = HandTimer()
        due = self._now + round(delay * 1e6)
        if _of_a_service(callback):
            due = max(due, self._leap)
        heappush(self._timers, (due, next(self._order), timer, callback))
        return timer

    def advance(self, seconds: float) -> int:
        """Move on, and call what is due in its order; return how many calls were made.

        On the way over more than an hour, services have one turn, not thousands.
        """
        until = self._now + round(seconds * 1e6)
        self._leap = until if seconds > 3600 else 0
        called = 0
        while self._timers and self._timers[0][0] <= until:
            due, _, timer, callback = heappop(self._timers)
            self._now = max(self._now, due)
            if not timer.cancelled:
                called += 1
                callback()
        self._now = until
        return called

    @property
    def pending(self) -> list[float]:
        """Seconds until each timer that is set, but for the `turns` of services."""
        return self._due(services=False)

    @property
    def turns(self) -> list[float]:
        """Seconds until the next turn of each service: there are none on a database in memory."""
        return self._due(services=True)

    def _due(self, *, services: bool) -> list[float]:
        return sorted(
            (due - self._now) / 1e6
            for due, _, timer, callback in self._timers
            if not timer.cancelled and _of_a_service(callback) is services
        )


def _of_a_service(callback: Callable[[], None]) -> bool:
    return isinstance(getattr(callback, "__self__", None), Service | Doorbell)


async def turn(rounds: int = 20) -> None:
    """Let the event loop go round a few times."""
    for _ in range(rounds):
        await asyncio.sleep(0)


async def until(condition: Callable[[], object], what: str = "the condition") -> None:
    """Go round until ``condition()`` holds; a test's own time limit bounds it."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + 20
    while not condition():
        if loop.time() > deadline:
            raise AssertionError(f"{what} did not come about")
        await asyncio.sleep(0.001)
