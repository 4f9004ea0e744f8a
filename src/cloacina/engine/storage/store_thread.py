"""The thread that serves a store: one job after the other, and the only place that retries them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from functools import partial
from math import inf
from queue import SimpleQueue
from typing import Any, Generic, TypeVar, cast

from cloacina.clock import Randomness
from cloacina.engine.mailbox import Mailbox
from cloacina.errors import RunnerClosed, StoreError
from cloacina.observe.logs import get_logger

log = get_logger("store")
T = TypeVar("T")
S = TypeVar("S")

FIRST_PAUSE, LONGEST_PAUSE = 0.005, 2.0
SAY_AGAIN_AFTER = 60.0


class StoreThread(Generic[S]):
    """Runs blocking jobs on a store, one after the other, and repeats those that a wait can mend.

    This is the one place that retries a database error: a job that raises a retryable `StoreError` is run
    again, with pauses that double up to two seconds, until it succeeds or the thread is told to stop. Of the threads
    that have one ``voice`` only one says so.
    """

    _store: S

    def __init__(
        self, name: str, loop: asyncio.AbstractEventLoop, randomness: Randomness, voice: Voice | None = None
    ) -> None:
        self._line = _Line(name, loop, randomness, voice or Voice())
        self._between: Callable[[], None] | None = None

    async def open(self, factory: Callable[[], S], patience: float = 0.0) -> S:
        """Open the store on the thread; what a wait can mend is tried again for ``patience`` seconds.

        `stop` closes it even if the caller did not wait for it to be open.
        """

        def work() -> None:
            self._store = self._line.persist(factory, patience)

        await self._answer(work)
        return self._store

    @classmethod
    def beside(cls, other: StoreThread[Any], store: S) -> StoreThread[S]:
        """Another store whose jobs run on the thread of ``other``."""
        made = cls.__new__(cls)
        made._line, made._store, made._between = other._line, store, None
        return made

    def afterwards(self, job: Callable[[], None]) -> None:
        """Run ``job`` on the thread after every other one, once its answer is on its way."""
        self._between = job

    def call(self, job: Callable[[S], T], done: Callable[[T | None, BaseException | None], None]) -> None:
        """Run ``job`` on the thread, then ``done(result, error)`` on the loop."""
        store, line, between = self._store, self._line, self._between
        if line.closed:
            late = RunnerClosed("the runner was shut down before it could do this: ask the next runner")
            line.loop.call_soon(done, None, late)
            return

        def work() -> None:
            result: T | None = None
            error: BaseException | None = None
            try:
                result = line.persist(lambda: job(store))
            except BaseException as caught:
                error = caught
            line.mailbox.post(lambda: done(result, error))
            if between is not None:
                _quietly(between)

        line.jobs.put(work)

    def run(self, job: Callable[[S], T], then: Callable[[T], None] | None = None) -> asyncio.Future[T]:
        """Run ``job`` on the thread; the future belongs to the loop and may be given up.

        What follows from its effect is for ``then``: that is called with the result, whoever still waits for it.
        """
        future: asyncio.Future[T] = self._line.loop.create_future()

        def done(result: T | None, error: BaseException | None) -> None:
            if error is None and then is not None:
                then(cast(T, result))
            _settle(future, result, error)

        self.call(job, done)
        return future

    def give_up(self) -> None:
        """Repeat nothing any more: what waits for the database raises its error."""
        self._line.stopping.set()

    async def stop(self, last: Callable[[S], None]) -> None:
        """Give up pauses, finish what is queued, run ``last`` and end the thread."""
        self._line.stopping.set()
        self._between = None

        def end() -> None:
            if hasattr(self, "_store"):
                last(self._store)

        ended = self._answer(end)
        self._line.closed = True
        self._line.jobs.put(None)
        try:
            await ended
        finally:
            self._line.thread.join()

    def _answer(self, job: Callable[[], None]) -> asyncio.Future[None]:
        future: asyncio.Future[None] = self._line.loop.create_future()

        def work() -> None:
            error: BaseException | None = None
            try:
                job()
            except BaseException as caught:
                error = caught
            self._line.mailbox.post(partial(_settle, future, None, error))

        self._line.jobs.put(work)
        return future


class Voice:
    """What several threads of one database share, so that an outage is told by one of them and not by each."""

    speaker: _Line | None = None


class _Line:
    """A daemon thread and the line of jobs before it."""

    def __init__(
        self, name: str, loop: asyncio.AbstractEventLoop, randomness: Randomness, voice: Voice
    ) -> None:
        self.loop = loop
        self._voice = voice
        self.mailbox = Mailbox(loop)
        self.jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self.stopping = threading.Event()
        self.closed = False
        """True once nothing is let in any more; read and set on the loop."""
        self._randomness = randomness
        self.thread = threading.Thread(target=self._serve, name=f"cloacina-{name}", daemon=True)
        self.thread.start()

    def persist(self, job: Callable[[], T], patience: float = inf) -> T:
        """Run ``job``, again and again while only time is needed, with pauses of ``patience`` seconds in all."""
        pause, silent_for = FIRST_PAUSE, SAY_AGAIN_AFTER
        try:
            while True:
                try:
                    return job()
                except StoreError as error:
                    if not error.retryable or self.stopping.is_set() or patience <= 0:
                        raise
                    silent_for = self._say(error, silent_for)
                self.stopping.wait(pause * (0.5 + self._randomness.random()))
                silent_for, patience = silent_for + pause, patience - pause
                pause = min(2 * pause, LONGEST_PAUSE)
        finally:
            if self._voice.speaker is self:
                self._voice.speaker = None

    def _say(self, error: StoreError, silent_for: float) -> float:
        """Say what is the matter, unless this was done for all some seconds ago; return how many."""
        speaker = self._voice.speaker = self._voice.speaker or self
        if speaker is not self:
            return 0.0
        if silent_for < SAY_AGAIN_AFTER:
            return silent_for
        log.warning("the database does not take part for now, trying again: %s", error)
        return 0.0

    def _serve(self) -> None:
        while (work := self.jobs.get()) is not None:
            work()


def _settle(future: asyncio.Future[Any], result: object, error: BaseException | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)


def _quietly(job: Callable[[], None]) -> None:
    try:
        job()
    except StoreError as error:
        log.warning("housekeeping of the database is put off: %s", error)
