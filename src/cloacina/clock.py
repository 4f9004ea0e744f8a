"""Time and chance, behind two small ports: nothing else reads a clock or draws a number."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from typing import Protocol


class Timer(Protocol):
    """A call that is due later and can be called off."""

    def cancel(self) -> None: ...


class Clock(Protocol):
    """Where the engine reads the time and asks to be called later."""

    def now(self) -> int:
        """Microseconds since 1970-01-01 UTC, by the wall clock."""
        ...

    def monotonic(self) -> float:
        """Seconds that never run backwards and that count a suspended machine's sleep."""
        ...

    def call_later(self, delay: float, callback: Callable[[], None]) -> Timer:
        """Call ``callback`` on the running event loop after ``delay`` seconds."""
        ...


class SystemClock:
    """The machine's own clock and the running event loop's timers."""

    def now(self) -> int:
        return time.time_ns() // 1000

    def monotonic(self) -> float:
        return _boot_time()

    def call_later(self, delay: float, callback: Callable[[], None]) -> Timer:
        return asyncio.get_running_loop().call_later(delay, callback)


class Randomness(Protocol):
    """Where the engine draws numbers."""

    def random(self) -> float:
        """A number in [0, 1)."""
        ...


def system_randomness() -> Randomness:
    """The machine's randomness, seeded by the operating system."""
    return random.SystemRandom()


def _boot_time() -> float:
    return time.clock_gettime(_BOOT)


_BOOT = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
