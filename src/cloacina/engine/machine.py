"""The machine that an engine runs on: time, chance, threads and the database, as ports with one door.

Nothing else in the engine asks the system for them, so that a simulator can be the machine.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Protocol

from cloacina.clock import Clock, Randomness, SystemClock, system_randomness
from cloacina.engine.storage.backend import Backend, FileBackend, ServerBackend
from cloacina.engine.storage.line import Line, ThreadLine, Voice
from cloacina.store.location import Location
from cloacina.store.postgres.location import ServerLocation


class Metronome(Protocol):
    """Beats until it is stopped."""

    def stop(self) -> None:
        """Beat no more; wait for a beat that is under way."""
        ...


class Machine:
    """The real one, whose ``clock`` and ``randomness`` can be had from elsewhere."""

    def __init__(self, clock: Clock | None = None, randomness: Randomness | None = None) -> None:
        self.clock: Clock = clock or SystemClock()
        self.randomness: Randomness = randomness or system_randomness()

    def backend(self, location: Location | ServerLocation, *, allow_unsafe: bool) -> Backend:
        """What opens the stores of the database at ``location``."""
        if isinstance(location, Location):
            return FileBackend(location)
        return ServerBackend(location, allow_unsafe=allow_unsafe)

    def line(self, name: str, loop: asyncio.AbstractEventLoop, voice: Voice) -> Line:
        """A line for the jobs of one store."""
        return ThreadLine(name, loop, self.randomness, voice)

    def metronome(self, name: str, seconds: float, beat: Callable[[], bool]) -> Metronome:
        """Call ``beat`` every so many seconds, whatever the event loop does, until it answers False."""
        return _ThreadMetronome(name, seconds, beat)


class _ThreadMetronome:
    """On a daemon thread."""

    def __init__(self, name: str, seconds: float, beat: Callable[[], bool]) -> None:
        self._seconds = seconds
        self._beat = beat
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._keep, name=f"cloacina-{name}", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()

    def _keep(self) -> None:
        while not self._stopped.wait(self._seconds) and self._beat():
            pass
