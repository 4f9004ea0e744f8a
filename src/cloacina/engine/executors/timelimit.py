"""A time limit: a clock that runs out, and that can be stopped meanwhile."""

from __future__ import annotations

from collections.abc import Callable

from cloacina.clock import Clock, Timer


class TimeLimit:
    """Calls ``over`` once it has run for ``seconds``; a new one stands still."""

    __slots__ = ("_clock", "_left", "_over", "_since", "_timer")

    def __init__(self, clock: Clock, seconds: float, over: Callable[[], None]) -> None:
        self._clock = clock
        self._left = seconds
        self._over = over
        self._since = 0.0
        self._timer: Timer | None = None

    def run(self) -> None:
        """Go on."""
        if self._timer is None:
            self._since = self._clock.monotonic()
            self._timer = self._clock.call_later(max(self._left, 0.0), self._over)

    def hold(self) -> None:
        """Stand still; also what to do at the end."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._left -= self._clock.monotonic() - self._since
