"""The threads of ``def`` bodies, and the executor that runs bodies on them."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable
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
