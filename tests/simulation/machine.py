"""The machine that a simulated process believes to run on: virtual time, lines without threads, a shared database."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from contextvars import copy_context
from math import inf
from pathlib import Path
from random import Random
from typing import Any, TypeVar

from cloacina.clock import Randomness, Timer
from cloacina.engine.machine import Machine
from cloacina.engine.storage.file_watch import FileWatch
from cloacina.engine.storage.line import Done, Tries, Voice, quietly
from cloacina.errors import StoreError
from cloacina.store.location import Location
from cloacina.store.postgres.location import ServerLocation
from simulation.disk import Disk, SimulatedStore
from simulation.loop import START, Process, VirtualLoop, context_of

T = TypeVar("T")

EPOCH = 1_800_000_000_000_000
"""The wall clocks' time at the beginning, in microseconds: in January 2027."""

SHORTEST, LONGEST = 0.0001, 0.01
"""Seconds that a job of a store takes, until its effect and from there until its answer."""


class SimulatedClock:
    """A process's clocks on one loop: the wall clock can be put forward and back."""

    def __init__(self, loop: VirtualLoop, machine: SimulatedMachine) -> None:
        self._loop = loop
        self.machine = machine
        self.ahead = 0
        """Microseconds that the wall clock is ahead of the true time."""

    def now(self) -> int:
        return EPOCH + round((self._loop.time() - START) * 1e6) + self.ahead

    def monotonic(self) -> float:
        return self._loop.time()

    def call_later(self, delay: float, callback: Callable[[], None]) -> Timer:
        return self._loop.call_later(delay, callback)


class SimulatedMachine(Machine):
    """One process's machine. ``chance`` decides how long things take, and what the engine draws."""

    def __init__(
        self,
        loop: VirtualLoop,
        process: Process,
        disk: Disk,
        folder: Path | None,
        location: ServerLocation | None,
        chance: Random,
    ) -> None:
        """The database belongs to a ``folder`` of leases, or is at a server's ``location``."""
        self.clock: SimulatedClock = SimulatedClock(loop, self)
        super().__init__(self.clock, Random(chance.random()))
        self._loop = loop
        self._process = process
        self.threads = Process(f"{process}'s threads", process)
        self._disk = disk
        self._folder = folder
        self._location = location
        self._chance = chance
        self.slow = 1.0
        """How many times longer than usual the jobs of its stores take."""

    def backend(self, location: Location | ServerLocation, *, allow_unsafe: bool) -> SimulatedBackend:
        return SimulatedBackend(self._disk, self._process, self._folder, self._location)

    def line(self, name: str, loop: asyncio.AbstractEventLoop, voice: Voice) -> SimulatedLine:
        return SimulatedLine(self._loop, self.threads, self.pause, self.randomness, voice)

    def metronome(self, name: str, seconds: float, beat: Callable[[], bool]) -> SimulatedMetronome:
        return SimulatedMetronome(self._loop, self.threads, seconds, beat)

    def pause(self) -> float:
        """How many seconds the next step of a job takes."""
        return self._chance.uniform(SHORTEST, LONGEST) * self.slow


class SimulatedMetronome:
    """Beats on the loop, as a thread of the process would."""

    def __init__(self, loop: VirtualLoop, threads: Process, seconds: float, beat: Callable[[], bool]) -> None:
        self._loop = loop
        self._thread = context_of(threads)
        self._seconds = seconds
        self._beat = beat
        self._timer = self._later()

    def stop(self) -> None:
        self._timer.cancel()

    def _again(self) -> None:
        if self._beat():
            self._timer = self._later()

    def _later(self) -> asyncio.TimerHandle:
        return self._loop.call_later(self._seconds, self._again, context=self._thread)


class SimulatedLine:
    """A `Line` whose jobs take their effect at one instant, a while after they were put, and answer a while later."""

    def __init__(
        self,
        loop: VirtualLoop,
        threads: Process,
        pause: Callable[[], float],
        randomness: Randomness,
        voice: Voice,
    ) -> None:
        self.closed = False
        self._loop = loop
        self._answers, self._thread = copy_context(), context_of(threads)
        self._pause = pause
        self._voice = voice
        self._randomness = randomness
        self._jobs: deque[tuple[Callable[[], Any], Done[Any], Tries, Callable[[], None] | None]] = deque()
        self._given_up = False
        self._waiting: asyncio.TimerHandle | None = None

    def put(
        self,
        job: Callable[[], T],
        done: Done[T],
        *,
        patience: float = inf,
        after: Callable[[], None] | None = None,
    ) -> None:
        self._jobs.append((job, done, Tries(self._randomness, self._voice, patience), after))
        if len(self._jobs) == 1:
            self._later(self._pause())

    def give_up(self) -> None:
        self._given_up = True
        if self._waiting is not None:
            self._waiting.cancel()
            self._later(0)

    def end(self) -> None:
        self.closed = True

    def join(self) -> None:
        return None

    def _work(self) -> None:
        self._waiting = None
        job, done, tries, after = self._jobs[0]
        result: Any = None
        error: BaseException | None = None
        try:
            result = job()
        except BaseException as caught:
            error = caught
            if isinstance(caught, StoreError) and not self._given_up:
                pause = tries.pause_after(caught)
                if pause is not None:
                    self._waiting = self._later(pause)
                    return
        tries.end()
        self._loop.call_later(self._pause(), done, result, error, context=self._answers)
        if after is not None:
            quietly(after)
        self._jobs.popleft()
        if self._jobs:
            self._later(self._pause())

    def _later(self, pause: float) -> asyncio.TimerHandle:
        return self._loop.call_later(pause, self._work, context=self._thread)


class SimulatedBackend:
    """Opens the stores of the one database for a process: what it sees is a file that others use as well."""

    one_thread = False
    payloads: Path | None = None
    transactions = None

    def __init__(
        self, disk: Disk, process: Process, folder: Path | None, server: ServerLocation | None
    ) -> None:
        self._disk = disk
        self._process = process
        self.folder = folder
        self.server = server
        self.submitter = None if server is None else self.writer

    def writer(self) -> SimulatedStore:
        return self._disk.writer(self._process)

    def visitor(self) -> SimulatedStore:
        return self.writer()

    def reader(self) -> SimulatedStore:
        return self._disk.reader(self._process)

    def signature(self) -> object:
        return self._disk.commits

    def warn(self) -> None:
        return None

    def watch(self) -> FileWatch | None:
        return None

    def check_files(self) -> None:
        return None

    def back_up(self, target: Location, *, overwrite: bool, go_on: Callable[[], bool]) -> Path:
        raise NotImplementedError
