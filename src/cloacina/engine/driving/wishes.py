"""The wishes of running bodies, heard by their driver: store a checkpoint, defer an attempt, let it run again.

A wish goes into the driver's next item, and is granted when that is committed. So it has the fence of
everything that the driver writes: what a body asks for after its attempt ended, or after its runner was
declared dead, has no effect.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from cloacina.engine.executors.attempt import Attempt
from cloacina.errors import CheckpointError, StoreRefused
from cloacina.logic.delays import Failure
from cloacina.model.status import AttemptState, TaskState
from cloacina.store.rows import Checkpoint

if TYPE_CHECKING:
    from cloacina.engine.driving.driver import Driver

Wanted: TypeAlias = "Checkpoint | AttemptState"
"""A checkpoint to store, or the state that the attempt is to have: deferred or running."""


class Wish(NamedTuple):
    """What one body wants; ``granted`` is set once it is durable."""

    attempt: Attempt
    wanted: Wanted
    granted: asyncio.Future[None]


class Wishes:
    """The wishes of one execution's bodies; made when there is one."""

    __slots__ = ("_sent", "_waiting")

    def __init__(self) -> None:
        self._waiting: list[Wish] = []
        self._sent: list[Wish] = []

    def add(self, wish: Wish) -> None:
        """Have a wish heard with the next item."""
        self._waiting.append(wish)

    def write(self, driver: Driver) -> None:
        """Put what was wished for into the draft of ``driver``. Who was cancelled meanwhile wants nothing more."""
        waiting, self._waiting = self._waiting, []
        for wish in waiting:
            attempt = wish.attempt
            if wish.granted.done():
                continue
            if attempt.ended or driver.running.get(attempt.index) is not attempt:
                wish.granted.set_exception(too_late(attempt))
            elif isinstance(wish.wanted, Checkpoint):
                driver.draft.checkpoint(wish.wanted)
                self._sent.append(wish)
            elif shift(driver, attempt, wish.wanted):
                self._sent.append(wish)
            else:
                wish.granted.set_result(None)

    def committed(self) -> None:
        """What was sent is durable."""
        sent, self._sent = self._sent, []
        for wish in sent:
            if not wish.granted.done():
                wish.granted.set_result(None)

    def refused(self, error: BaseException | Failure | None) -> None:
        """What was sent is not stored."""
        sent, self._sent = self._sent, []
        for wish in sent:
            if not wish.granted.done():
                wish.granted.set_exception(
                    error if isinstance(error, BaseException) else StoreRefused("it is not stored")
                )

    def drop(self) -> None:
        """No wish is granted any more: whoever waits is cancelled."""
        for wish in (*self._sent, *self._waiting):
            wish.granted.cancel()
        self._sent, self._waiting = [], []


def shift(driver: Driver, attempt: Attempt, state: AttemptState) -> bool:
    """Write that an attempt is deferred, or that it runs again; False if it is so already."""
    deferred = driver.state.standing.states[attempt.index] is TaskState.WAITING
    if deferred is (state is AttemptState.DEFERRED):
        return False
    if deferred:
        driver.state.go_on(attempt.index)
    else:
        driver.state.defer(attempt.index)
    driver.draft.shift(attempt, AttemptState.DEFERRED if deferred else AttemptState.RUNNING, state)
    return True


def too_late(attempt: Attempt) -> CheckpointError:
    """The error of a body that wants something although its attempt has ended."""
    return CheckpointError(
        f"attempt {attempt.attempt} of task {attempt.task!r} of execution {attempt.execution} has ended, so that "
        "nothing can be stored for it; let the body end"
    )
