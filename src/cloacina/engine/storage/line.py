"""A line of jobs on a store: one after the other on a thread of its own, and the only place that retries them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from math import inf
from queue import SimpleQueue
from typing import Protocol, TypeVar

from cloacina.clock import Randomness
from cloacina.engine.mailbox import Mailbox
from cloacina.errors import StoreError
from cloacina.observe.logs import get_logger

log = get_logger("store")
T = TypeVar("T")
Done = Callable[[T | None, BaseException | None], None]

FIRST_PAUSE, LONGEST_PAUSE = 0.005, 2.0
SAY_AGAIN_AFTER = 60.0


class Line(Protocol):
    """Runs jobs one after the other. A job that only needs time is run again until it succeeds."""

    closed: bool
    """True once no more jobs are taken; read and set on the loop."""

    def put(
        self,
        job: Callable[[], T],
        done: Done[T],
        *,
        patience: float = inf,
        after: Callable[[], None] | None = None,
    ) -> None:
        """Run ``job`` after those that wait, then ``done(result, error)`` on the loop, and ``after`` beside it.

        The pauses between its tries take ``patience`` seconds at most.
        """
        ...

    def give_up(self) -> None:
        """Repeat nothing any more: what waits for the database raises its error."""
        ...

    def end(self) -> None:
        """Take no more jobs."""
        ...

    def join(self) -> None:
        """Wait until the jobs that were there at `end` are done."""
        ...


class ThreadLine:
    """A `Line` on a daemon thread; of the lines that have one ``voice`` only one tells of an outage."""

    def __init__(
        self, name: str, loop: asyncio.AbstractEventLoop, randomness: Randomness, voice: Voice
    ) -> None:
        self.closed = False
        self._voice = voice
        self._randomness = randomness
        self._mailbox = Mailbox(loop)
        self._jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._given_up = threading.Event()
        self._thread = threading.Thread(target=self._serve, name=f"cloacina-{name}", daemon=True)
        self._thread.start()

    def put(
        self,
        job: Callable[[], T],
        done: Done[T],
        *,
        patience: float = inf,
        after: Callable[[], None] | None = None,
    ) -> None:
        def work() -> None:
            result: T | None = None
            error: BaseException | None = None
            try:
                result = self._persist(job, patience)
            except BaseException as caught:
                error = caught
            self._mailbox.post(lambda: done(result, error))
            if after is not None:
                quietly(after)

        self._jobs.put(work)

    def give_up(self) -> None:
        self._given_up.set()

    def end(self) -> None:
        self.closed = True
        self._jobs.put(None)

    def join(self) -> None:
        self._thread.join()

    def _persist(self, job: Callable[[], T], patience: float) -> T:
        tries = Tries(self._randomness, self._voice, patience)
        try:
            while True:
                try:
                    return job()
                except StoreError as error:
                    pause = None if self._given_up.is_set() else tries.pause_after(error)
                    if pause is None:
                        raise
                self._given_up.wait(pause)
        finally:
            tries.end()

    def _serve(self) -> None:
        while (work := self._jobs.get()) is not None:
            work()


class Voice:
    """What several lines to one database share, so that an outage is told by one of them and not by each."""

    speaker: Tries | None = None


class Tries:
    """The tries of one job: how long to wait after a failed one, twice as long each time, and who says so."""

    __slots__ = ("_patience", "_pause", "_randomness", "_silent_for", "_voice")

    def __init__(self, randomness: Randomness, voice: Voice, patience: float) -> None:
        self._randomness = randomness
        self._voice = voice
        self._patience = patience
        self._pause, self._silent_for = FIRST_PAUSE, SAY_AGAIN_AFTER

    def pause_after(self, error: StoreError) -> float | None:
        """How many seconds to wait before the next try; None if there is none."""
        if not error.retryable or self._patience <= 0:
            return None
        self._say(error)
        pause = self._pause
        self._silent_for, self._patience = self._silent_for + pause, self._patience - pause
        self._pause = min(2 * pause, LONGEST_PAUSE)
        return pause * (0.5 + self._randomness.random())

    def end(self) -> None:
        """The job is done, or given up."""
        if self._voice.speaker is self:
            self._voice.speaker = None

    def _say(self, error: StoreError) -> None:
        """Say what is the matter, unless this was done for all some seconds ago."""
        speaker = self._voice.speaker = self._voice.speaker or self
        if speaker is not self:
            self._silent_for = 0.0
        elif self._silent_for >= SAY_AGAIN_AFTER:
            log.warning("the database does not take part for now, trying again: %s", error)
            self._silent_for = 0.0


def quietly(job: Callable[[], None]) -> None:
    """Run housekeeping, which may fail: it is done again later."""
    try:
        job()
    except StoreError as error:
        log.warning("housekeeping of the database is put off: %s", error)
