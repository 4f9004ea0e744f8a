"""A clock that only moves when somebody says so."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count

from cloacina.clock import SystemClock, Timer
from cloacina.engine.liveness.doorbell import Doorbell
from cloacina.engine.service import Service


class HandTimer:
    """A call that is due when the clock gets there."""

    def __init__(self) -> None:
        self.cancelled = False

    def cancel(self) -> None:
        """Call it off."""
        self.cancelled = True


class HandClock:
    """Time stands still until `advance`.

    ``now`` is where it begins, in microseconds since 1970-01-01 UTC; the wall clock's time unless given. One that is
    ``ticking`` goes on by a microsecond whenever it is read, so that times show what came first. On the way over more
    than ``leap`` seconds, the engine's services have one turn, not thousands.
    """

    def __init__(self, *, now: int | None = None, ticking: bool = False, leap: float = 3600.0) -> None:
        self._start = self._now = SystemClock().now() if now is None else now
        self._tick = int(ticking)
        self._leap = leap
        self._leaping_to = 0
        self._order = count()
        self._timers: list[tuple[int, int, HandTimer, Callable[[], None]]] = []
        self.armed = 0
        """How many timers were ever set."""

    def now(self) -> int:
        self._now += self._tick
        return self._now

    def monotonic(self) -> float:
        return (self._now - self._start) / 1e6

    def call_later(self, delay: float, callback: Callable[[], None]) -> Timer:
        timer = HandTimer()
        due = self._now + round(delay * 1e6)
        if _of_a_service(callback):
            due = max(due, self._leaping_to)
        heappush(self._timers, (due, next(self._order), timer, callback))
        self.armed += 1
        return timer

    def advance(self, seconds: float) -> int:
        """Move on, and call what is due in its order; return how many calls were made."""
        return self.move_to(self._now + round(seconds * 1e6))

    def move_to(self, moment: int) -> int:
        """`advance` to a moment in microseconds."""
        self._leaping_to = moment if moment - self._now > self._leap * 1e6 else 0
        called = 0
        while self._timers and self._timers[0][0] <= moment:
            due, _, timer, callback = heappop(self._timers)
            self._now = max(self._now, due)
            if not timer.cancelled:
                called += 1
                callback()
        self._now = max(self._now, moment)
        return called

    @property
    def next_due(self) -> int | None:
        """The moment of the next timer, in microseconds, but for the `turns` of services; None if there is none."""
        return min((due for due, _ in self._calls(services=False)), default=None)

    @property
    def pending(self) -> list[float]:
        """Seconds until each timer that is set, but for the `turns` of services."""
        return sorted((due - self._now) / 1e6 for due, _ in self._calls(services=False))

    @property
    def turns(self) -> list[float]:
        """Seconds until the next turn of each service: there are none on a database in memory."""
        return sorted((due - self._now) / 1e6 for due, _ in self._calls(services=True))

    @property
    def calls(self) -> list[Callable[[], None]]:
        """What is called at each of the `pending` timers, in no order."""
        return [callback for _, callback in self._calls(services=False)]

    def _calls(self, *, services: bool) -> list[tuple[int, Callable[[], None]]]:
        return [
            (due, callback)
            for due, _, timer, callback in self._timers
            if not timer.cancelled and _of_a_service(callback) is services
        ]


def _of_a_service(callback: Callable[[], None]) -> bool:
    return isinstance(getattr(callback, "__self__", None), Service | Doorbell)
