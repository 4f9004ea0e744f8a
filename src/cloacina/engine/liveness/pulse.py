"""The pulse of an event loop, felt from another thread: is it blocked, and by what."""

from __future__ import annotations

import asyncio
import sys
import threading
import traceback

from cloacina.clock import Clock
from cloacina.engine.executors.attempt import Attempt


class Pulse:
    """Made on the loop's own thread; felt from the thread that keeps a lease.

    A blocked loop is no death of its runner. One that is blocked for ``limit`` seconds must let others take over.
    """

    def __init__(self, clock: Clock, limit: float) -> None:
        self._clock = clock
        self._limit = limit
        self._loop = asyncio.get_running_loop()
        self._loop_thread = threading.get_ident()
        self._asked = False
        self._beat = clock.monotonic()

    def start(self) -> None:
        """The loop is alive now."""
        self._beat = self._clock.monotonic()

    def trouble(self) -> str | None:
        """Ask the loop for a sign of life; say what blocks it if it has given none for too long."""
        silent = self._clock.monotonic() - self._beat
        if silent >= self._limit:
            return f"the event loop was blocked for {silent:.0f}s by {self._blocker()}"
        if not self._asked:
            self._asked = True
            try:
                self._loop.call_soon_threadsafe(self._answer)
            except RuntimeError:
                return "the event loop was closed"
        return None

    def _answer(self) -> None:
        self._beat = self._clock.monotonic()
        self._asked = False

    def _blocker(self) -> str:
        frame = sys._current_frames().get(self._loop_thread)  # pyright: ignore[reportPrivateUsage]
        where = "".join(traceback.format_stack(frame)[-3:])
        while frame is not None:
            attempt = frame.f_locals.get("attempt")
            if isinstance(attempt, Attempt):
                return f"task {attempt.task!r} of execution {attempt.execution}, here:\n{where}"
            frame = frame.f_back
        return f"code outside any task, here:\n{where}"
