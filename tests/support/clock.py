"""Waiting without sleeping: the clock that only moves when a test says so, and the event loop's rounds."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from cloacina.testing.hand.clock import HandClock, HandTimer

__all__ = ["HandClock", "HandTimer", "turn", "until"]


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
