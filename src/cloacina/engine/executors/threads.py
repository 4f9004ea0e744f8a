"""The threads of ``def`` bodies."""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue

from cloacina.errors import RunnerClosed


class BodyThreads:
    """As many daemon threads as there are ``def`` bodies at once; idle ones are used again."""

    def __init__(self) -> None:
        self._work: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._idle = 0
        self._threads = 0
        self._lock = threading.Lock()
        self._closed = False

    def start(self, work: Callable[[], None]) -> None:
        """Run ``work``, which must not raise, on a thread at once. Raises `RuntimeError` if there can be none."""
        if self._closed:
            raise RunnerClosed("the runner's threads have been closed")
        with self._lock:
            spare = self._idle > 0
            if spare:
                self._idle -= 1
        if not spare:
            name = f"cloacina-body-{self._threads + 1}"
            threading.Thread(target=self._serve, name=name, daemon=True).start()
            self._threads += 1
        self._work.put(work)

    def close(self) -> None:
        """Let idle threads end, and busy ones after what they do now."""
        self._closed = True
        for _ in range(self._threads):
            self._work.put(None)

    def _serve(self) -> None:
        while (work := self._work.get()) is not None:
            work()
            with self._lock:
                self._idle += 1
