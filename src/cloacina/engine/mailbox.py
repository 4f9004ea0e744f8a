"""The mailbox: how other threads hand calls to the event loop."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable


class Mailbox:
    """Hands calls from other threads to the event loop, many with one wake-up."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._calls: deque[Callable[[], None]] = deque()
        self._woken = False

    def post(self, call: Callable[[], None]) -> None:
        """Run ``call`` on the loop soon; dropped if the loop is closed."""
        self._calls.append(call)
        if not self._woken:
            self._woken = True
            try:
                self._loop.call_soon_threadsafe(self._deliver)
            except RuntimeError:
                self._calls.clear()

    def _deliver(self) -> None:
        self._woken = False
        try:
            while self._calls:
                self._calls.popleft()()
        finally:
            if self._calls:  # one of them raised, which is no reason to forget the others
                self._loop.call_soon(self._deliver)
