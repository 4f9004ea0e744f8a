"""The one loop of everything that is done again and again: start, tick, stop."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from cloacina.clock import Clock, Timer
from cloacina.observe.logs import get_logger

log = get_logger("service")


class Service:
    """Calls ``tick`` every ``interval`` seconds, never twice at once; an error is logged and is no end."""

    def __init__(self, name: str, tick: Callable[[], Awaitable[None]], interval: float, clock: Clock) -> None:
        self._name = name
        self._tick = tick
        self._interval = interval
        self._clock = clock
        self._timer: Timer | None = None
        self._task: asyncio.Task[None] | None = None
        self._stopped = True

    def start(self, *, at_once: bool = False) -> None:
        """Tick for the first time after one interval, or ``at_once``."""
        self._stopped = False
        if at_once:
            self._begin()
        else:
            self._timer = self._clock.call_later(self._interval, self._begin)

    async def stop(self) -> None:
        """Tick no more; wait for the tick that runs."""
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()
        if self._task is not None:
            await asyncio.wait({self._task})

    def _begin(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._once())

    async def _once(self) -> None:
        try:
            await self._tick()
        except Exception:
            log.exception("%s failed and is tried again in %ss", self._name, self._interval)
        self._task = None
        if not self._stopped:
            self._timer = self._clock.call_later(self._interval, self._begin)
