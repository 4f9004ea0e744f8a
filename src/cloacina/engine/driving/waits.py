"""The waits of one execution: when the retries of its tasks are due, and when its time is up."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from cloacina.clock import Clock, Timer
from cloacina.engine.executors.attempt import Attempt
from cloacina.model.workflow import Workflow


def deadline_of(workflow: Workflow, started: int | None) -> int | None:
    """When the time of an execution that started then is up, in microseconds, if its workflow has a timeout."""
    if workflow.timeout is None or started is None:
        return None
    return started + round(workflow.timeout * 1e6)


class Waits:
    """Timers by task, and one for the whole. ``due`` is called with the task's index once its time has come.

    A retry whose predecessor still runs on its thread, because it ignored its timeout, is held back until
    that thread is free.
    """

    __slots__ = ("_clock", "_deadline", "_due", "_expired", "_lingering", "_overdue", "_timers")

    def __init__(self, clock: Clock, due: Callable[[int], None], expired: Callable[[], None]) -> None:
        self._clock = clock
        self._due = due
        self._expired = expired
        self._deadline: Timer | None = None
        self._timers: dict[int, Timer | None] = {}
        self._lingering: set[int] = set()
        self._overdue: set[int] = set()

    def add(self, index: int, after: float) -> None:
        """Task ``index`` is due in ``after`` seconds; at once if that is not in the future."""
        if after <= 0:
            self._ring(index)
        elif index not in self._timers:
            self._timers[index] = self._clock.call_later(after, partial(self._ring, index))

    def expire_at(self, moment: int, now: int) -> None:
        """The execution's time is up at ``moment``, in microseconds; said again, it changes nothing."""
        if self._deadline is not None:
            return
        if moment <= now:
            self._expired()
        else:
            self._deadline = self._clock.call_later((moment - now) / 1e6, self._expired)

    def hold(self, attempt: Attempt) -> None:
        """Hold the retry back until the thread of ``attempt`` is free."""
        if not attempt.off:
            self._lingering.add(attempt.index)
            attempt.left = partial(self._left, attempt.index)

    @property
    def held(self) -> bool:
        """True if a retry is held back by a thread of this process."""
        return bool(self._lingering)

    def cancel(self) -> None:
        """Nothing is due any more."""
        if self._deadline is not None:
            self._deadline.cancel()
        for timer in self._timers.values():
            if timer is not None:
                timer.cancel()
        self._timers.clear()
        self._overdue.clear()

    def _ring(self, index: int) -> None:
        self._timers.pop(index, None)
        if index in self._lingering:
            self._overdue.add(index)
        else:
            self._due(index)

    def _left(self, index: int) -> None:
        self._lingering.discard(index)
        if index in self._overdue:
            self._overdue.discard(index)
            self._due(index)
