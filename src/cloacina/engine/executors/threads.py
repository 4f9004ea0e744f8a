"""The threads of ``def`` bodies, and the executor that runs bodies on them."""

from __future__ import annotations

import contextvars
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from queue import SimpleQueue

from cloacina.engine.executors.around import AroundBody, call_inside
from cloacina.engine.executors.attempt import CANCELLED, Attempt, Ending
from cloacina.engine.executors.protocol import ExecutorHost
from cloacina.errors import RunnerClosed
from cloacina.observe.logs import fields_of, get_logger, running

log = get_logger("executor")


class ThreadExecutor:
    """Runs ``def`` bodies on daemon threads: see `TaskExecutor`.

    A thread cannot be cancelled: a body that is told to stop is written off at once and replaced by another
    thread, up to twice as many as there are slots; beyond that each one takes its slot with it until it ends.
    """

    def __init__(self, host: ExecutorHost, around: AroundBody | None = None) -> None:
        self._host = host
        self._call = Attempt.call if around is None else partial(call_inside, around)
        self._threads = BodyThreads()
        self._whole = host.settings.thread_slots
        self._lost = 0
        """Threads whose body was written off and still runs."""
        self.slots = self._whole

    def start(self, attempt: Attempt) -> None:
        self._threads.start(lambda: self._run(attempt))

    def stop(self, attempt: Attempt) -> None:
        self._lose(1)
        if self.slots < self._whole:
            log.error(
                "%d threads are held by bodies that were written off; fewer `def` bodies can run until they end",
                self._lost,
                extra=fields_of(attempt),
            )
        attempt.write_off()

    async def close(self) -> None:
        self._threads.close()

    def _run(self, attempt: Attempt) -> None:
        def body() -> object:
            running.set(attempt)
            return self._call(attempt)

        returned: object = None
        error: BaseException | None = None
        try:
            if not attempt.ended:  # it was cancelled before its thread came to it: it must not start any more
                returned = contextvars.Context().run(body)
        except BaseException as caught:
            error = caught
        ending = CANCELLED if attempt.ended else attempt.conclude(returned, error)
        self._host.post(lambda: self._leave(attempt, ending))

    def _leave(self, attempt: Attempt, ending: Ending) -> None:
        if attempt.ended:
            self._lose(-1)
            attempt.leave()
        else:
            attempt.end(ending)

    def _lose(self, change: int) -> None:
        self._lost += change
        before, self.slots = self.slots, min(self._whole, 3 * self._whole - self._lost)
        if self.slots > before:
            self._host.grew()


class BodyThreads:
    """As many daemon threads as there are ``def`` bodies at once; idle ones are used again.

    Threads wake one another, one at a time: whoever takes a body while more are waiting wakes the next thread first.
    So bodies that block have a thread each, and of short ones a thread that is awake does many, without the
    others fighting for the interpreter.
    """

    def __init__(self) -> None:
        self._work: deque[Callable[[], None]] = deque()
        self._bell: SimpleQueue[None] = SimpleQueue()
        """Each entry wakes one idle thread."""
        self._lock = threading.Lock()
        self._waking = False
        """True from the ring, or the start, of a thread until it looks for work."""
        self._idle = 0
        self._threads = 0
        self._closed = False

    def start(self, work: Callable[[], None]) -> None:
        """Run ``work``, which must not raise, on a thread at once. Raises `RuntimeError` if there can be none."""
        if self._closed:
            raise RunnerClosed("the runner's threads have been closed")
        self._work.append(work)
        try:
            self._wake_one()
        except RuntimeError:
            with suppress(ValueError):  # some thread has come free, and it
                self._work.remove(work)
                raise

    def close(self) -> None:
        """Let idle threads end, and busy ones after what they do now."""
        self._closed = True
        for _ in range(self._threads):
            self._bell.put(None)

    def _wake_one(self) -> None:
        """Let one more thread look for work, unless one is about to."""
        with self._lock:
            if self._waking or not self._work:
                return
            self._waking = True
            spare = self._idle > 0
            if spare:
                self._idle -= 1
            else:
                self._threads += 1
        if spare:
            self._bell.put(None)
            return
        try:
            threading.Thread(target=self._serve, name=f"cloacina-body-{self._threads}", daemon=True).start()
        except RuntimeError:
            with self._lock:
                self._waking = False
                self._threads -= 1
            raise

    def _serve(self) -> None:
        self._waking = False
        while True:
            try:
                work = self._work.popleft()
            except IndexError:
                if not self._rest():
                    return
                continue
            try:
                self._wake_one()
            except RuntimeError as error:
                log.error(
                    "there can be no more threads, and bodies wait for those that there are: raise the system's limit, "
                    "or lower Settings(thread_slots=): %s",
                    error,
                )
            work()

    def _rest(self) -> bool:
        """Wait to be woken; false if that is for ever."""
        with self._lock:
            if self._work:
                return True
            if self._closed:
                return False
            self._idle += 1
        self._bell.get()
        self._waking = False
        return True
