"""The local executor: ``async def`` bodies on the loop, ``def`` bodies on daemon threads."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from cloacina.clock import Clock
from cloacina.engine.executors.attempt import Attempt, Ending
from cloacina.engine.executors.threads import BodyThreads
from cloacina.engine.mailbox import Mailbox
from cloacina.model.status import AttemptState
from cloacina.model.task import Task
from cloacina.observe.logs import get_logger, running
from cloacina.settings import Settings

log = get_logger("executor")

CANCELLED = Ending(AttemptState.CANCELLED)


@dataclass(frozen=True, slots=True)
class ExecutorMetrics:
    """How busy an executor is, in attempts."""

    slots: int
    running: int
    started: int
    ended: int
    written_off: int


class TaskExecutor(Protocol):
    """Where attempts run. An attempt takes a slot before its start is committed, and runs after that."""

    def take(self, task: Task) -> bool:
        """Take a slot for an attempt of ``task``; False if none is free."""
        ...

    def give_back(self, task: Task) -> None:
        """Give back a slot that `take` took."""
        ...

    def start(self, attempt: Attempt) -> None:
        """Run the body. ``attempt.end(...)`` is called on the loop when it ends or is written off."""
        ...

    def stop(self, attempt: Attempt, why: AttemptState) -> None:
        """Tell a running body to stop; its ending will be ``why``."""
        ...

    def metrics(self) -> ExecutorMetrics: ...

    def close(self) -> None:
        """Take no more attempts."""
        ...


class LocalExecutor:
    """Runs bodies in this process: see `TaskExecutor`."""

    def __init__(self, settings: Settings, clock: Clock, loop: asyncio.AbstractEventLoop) -> None:
        self._settings = settings
        self._clock = clock
        self._loop = loop
        self._mailbox = Mailbox(loop)
        self._threads = BodyThreads()
        self._free = {True: settings.async_slots, False: settings.thread_slots}
        self._started = self._ended = self._written_off = 0
        self.freed: Callable[[], None] = _nobody
        """Called when a slot is free again that was not given back."""
        self._lost_threads = 0
        """Threads whose body was written off and still runs: each was replaced, up to a bound."""

    def take(self, task: Task) -> bool:
        if self._free[task.is_async] <= 0:
            return False
        self._free[task.is_async] -= 1
        return True

    def give_back(self, task: Task) -> None:
        self._free[task.is_async] += 1

    def start(self, attempt: Attempt) -> None:
        self._started += 1
        attempt.launched = True
        if attempt.task_object.timeout is not None:
            timer = self._clock.call_later(
                attempt.task_object.timeout, lambda: self.stop(attempt, AttemptState.TIMED_OUT)
            )
            attempt.due(timer)
        if attempt.task_object.is_async:
            attempt.work = self._loop.create_task(self._run(attempt))
        else:
            self._start_on_thread(attempt)

    def stop(self, attempt: Attempt, why: AttemptState) -> None:
        if attempt.ended:
            return
        attempt.stopping = why
        if not attempt.launched:
            attempt.end(CANCELLED)
            return
        if attempt.work is None:
            self._write_off_thread(attempt)
            return
        attempt.work.cancel()
        grace = self._settings.cancel_grace
        attempt.due(self._clock.call_later(grace, lambda: self._write_off(attempt)))

    def metrics(self) -> ExecutorMetrics:
        return ExecutorMetrics(
            slots=self._settings.async_slots + self._settings.thread_slots,
            running=self._started - self._ended,
            started=self._started,
            ended=self._ended,
            written_off=self._written_off,
        )

    def close(self) -> None:
        self._threads.close()

    async def _run(self, attempt: Attempt) -> None:
        running.set(attempt)
        returned: Any = None
        error: BaseException | None = None
        try:
            returned = await attempt.task_object.fn(attempt.context)
        except BaseException as caught:
            error = caught
        self._finish(attempt, attempt.conclude(returned, error))

    def _start_on_thread(self, attempt: Attempt) -> None:
        try:
            self._threads.start(lambda: self._run_on_thread(attempt))
        except RuntimeError as error:
            self._finish(attempt, Ending(AttemptState.FAILED, error=error))

    def _run_on_thread(self, attempt: Attempt) -> None:
        def body() -> Any:
            running.set(attempt)
            return attempt.task_object.fn(attempt.context)

        returned: Any = None
        error: BaseException | None = None
        try:
            returned = contextvars.Context().run(body)
        except BaseException as caught:
            error = caught
        ending = CANCELLED if attempt.ended else attempt.conclude(returned, error)
        self._mailbox.post(lambda: self._leave_thread(attempt, ending))

    def _leave_thread(self, attempt: Attempt, ending: Ending) -> None:
        if attempt.ended:
            self._lost_threads -= 1
            if self._lost_threads >= self._bound():
                self._free[False] += 1
                self.freed()
            attempt.off = True
            if attempt.left is not None:
                attempt.left()
            return
        self._finish(attempt, ending)

    def _finish(self, attempt: Attempt, ending: Ending) -> None:
        if not attempt.ended:
            self._ended += 1
            attempt.end(ending)

    def _write_off(self, attempt: Attempt) -> None:
        if attempt.ended or attempt.stopping is None:
            return
        self._written_off += 1
        log.error(
            "the body ignored its cancellation for %ss and was written off",
            self._settings.cancel_grace,
            extra=_fields(attempt),
        )
        self._finish(attempt, attempt.conclude(None, None))

    def _write_off_thread(self, attempt: Attempt) -> None:
        self._written_off += 1
        self._lost_threads += 1
        if self._lost_threads > self._bound():
            self._free[False] -= 1
            log.error(
                "%d threads are held by bodies that were written off; fewer `def` bodies can run until they end",
                self._lost_threads,
                extra=_fields(attempt),
            )
        self._finish(attempt, attempt.conclude(None, None))

    def _bound(self) -> int:
        return 2 * self._settings.thread_slots


def _nobody() -> None:
    return None


def _fields(attempt: Attempt) -> dict[str, object]:
    return {
        "execution": attempt.execution,
        "workflow": attempt.workflow,
        "task": attempt.task,
        "attempt": attempt.attempt,
    }
