"""The interrupt: how a body in a child process learns that it is to stop.

The runner writes a byte into a pipe. A thread of the child reads it and sends the main thread a signal, which
raises `SystemExit` in a ``def`` body and cancels an ``async`` one, so that both can tidy up. When the pipe
ends, so has the runner's process: the child and all that it started are killed at once.

A signal that comes without the byte means nothing: it was sent to everybody, as a service manager does, and
the runner lets bodies finish.
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Generator
from contextlib import contextmanager, suppress
from types import FrameType

STOP = b"s"


class Interrupt:
    """See the module's text. Made on the main thread; ``lifeline`` is the reading end of the pipe."""

    def __init__(self, lifeline: int) -> None:
        self.told = False
        """True once the runner wants this process to stop."""
        self._lifeline = lifeline
        self._armed = False
        self._target: tuple[asyncio.AbstractEventLoop, asyncio.Task[object]] | None = None
        self._main = threading.get_ident()
        # Whoever presses Ctrl-C means the runner, which decides what becomes of its bodies.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, self._interrupt)
        threading.Thread(target=self._watch, name="cloacina-lifeline", daemon=True).start()

    @contextmanager
    def armed(self) -> Generator[None, None, None]:
        """Inside, a body runs that can be interrupted."""
        self._armed = True
        try:
            if self.told:
                raise SystemExit
            yield
        finally:
            self._armed = False

    @contextmanager
    def aimed(self) -> Generator[None, None, None]:
        """Inside, the interrupt cancels the current task of the running loop."""
        task = asyncio.current_task()
        assert task is not None
        self._target = (asyncio.get_running_loop(), task)
        try:
            yield
        finally:
            self._target = None

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        if not self.told or not self._armed:
            return
        self._armed = False  # once is enough, and more would disturb who tidies up
        if self._target is None:
            raise SystemExit
        loop, task = self._target
        loop.call_soon_threadsafe(task.cancel)

    def _watch(self) -> None:
        while os.read(self._lifeline, 1):
            self.told = True
            with suppress(ProcessLookupError):
                signal.pthread_kill(self._main, signal.SIGTERM)
        os.killpg(0, signal.SIGKILL)
