"""The courier of a runner: where its bodies have something stored, wait for it, and leave their slots meanwhile.

Everything here runs on the event loop. A wish goes to the driver of the attempt, and only if that attempt is
one of this life of the runner and has not ended: else the body is a zombie, and is told so.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Protocol

from cloacina.clock import Clock
from cloacina.engine.bodies.errands import Errands
from cloacina.engine.bodies.handle import AttemptHandle
from cloacina.engine.bodies.transaction import (
    AttemptTransaction,
    BlockingAttemptTransaction,
    refuse_in_transaction,
)
from cloacina.engine.driving.driver import Driver
from cloacina.engine.driving.wishes import Wanted, Wish, too_late
from cloacina.engine.executors.attempt import Attempt
from cloacina.engine.storage.store_thread import StoreThread
from cloacina.errors import CheckpointError
from cloacina.model.context.context import Context
from cloacina.model.context.handle import TaskHandle
from cloacina.model.context.keys import Key
from cloacina.model.json.values import Limits
from cloacina.model.status import AttemptState
from cloacina.observe.logs import running
from cloacina.store.port import ReadStore
from cloacina.store.rows import Checkpoint


class Life(Protocol):
    """What the courier needs of one life of a runner."""

    clock: Clock
    limits: Limits

    @property
    def drivers(self) -> Mapping[str, Driver]: ...

    def give_up_slot(self, attempt: Attempt) -> None: ...

    async def take_back_slot(self, attempt: Attempt) -> None: ...


class Courier:
    """See the module's text. It is the `Checkpoints` of the contexts of all bodies of this process."""

    def __init__(self, life: Life, reader: StoreThread[ReadStore]) -> None:
        self.loop = asyncio.get_running_loop()
        self.limits = life.limits
        self._life = life
        self._reader = reader

    def errands(self, attempt: Attempt) -> Errands:
        """Those of an attempt, made when they are first asked for; from any thread."""
        if attempt.errands is None:
            attempt.errands = Errands(attempt, self)
        return attempt.errands

    def checkpoint(self, context: Context, name: str | Key[Any], fn: Callable[[], Any]) -> Any:
        """A body asks for a checkpoint; from any thread."""
        attempt = running.get()
        if not isinstance(attempt, Attempt) or attempt.context is not context:
            raise CheckpointError(
                f"checkpoint {getattr(name, 'name', name)!r:.80}: this context belongs to another body: each body uses "
                "its own, and not on a thread that it started without its context variables"
            )
        if attempt.ended:
            raise too_late(attempt)
        refuse_in_transaction(attempt, name)
        return self.errands(attempt).notebook.checkpoint(context, name, fn)

    def handle(self, attempt: Attempt) -> TaskHandle:
        """The handle of an attempt; from any thread."""
        return AttemptHandle(self.errands(attempt))

    def given(self, attempt: Attempt) -> dict[str, object]:
        """What the body of ``attempt`` is given besides its context, by the names of its parameters."""
        task, found = attempt.task_object, dict[str, object]()
        if task.handle_parameter is not None:
            found[task.handle_parameter] = self.handle(attempt)
        if task.transaction_parameter is not None and attempt.transaction is not None:
            kind = AttemptTransaction if task.is_async else BlockingAttemptTransaction
            found[task.transaction_parameter] = kind(self.errands(attempt), attempt.transaction)
        return found

    def first(self, attempt: Attempt) -> bool:
        """True if nothing can be stored of earlier attempts; from any thread."""
        return attempt.attempt == 1 and self._driver(attempt).made_here

    async def stored(self, attempt: Attempt) -> dict[str, str]:
        """The checkpoints of the attempt's task, by name."""
        return await self._reader.run(lambda store: store.checkpoints(attempt.execution, attempt.task))

    async def store(self, attempt: Attempt, name: str, value: str) -> None:
        """Store a checkpoint; returns once it is durable."""
        refuse_in_transaction(attempt, name)
        row = Checkpoint(attempt.execution, attempt.task, name, value, self._life.clock.now())
        await self._wish(attempt, row)

    async def defer(self, attempt: Attempt) -> None:
        """Stop the clock of an attempt, store it as deferred, and free its slot."""
        attempt.hold_clock()
        await self._wish(attempt, AttemptState.DEFERRED)
        self._life.give_up_slot(attempt)

    async def go_on(self, attempt: Attempt, *, without_slot: bool) -> None:
        """Have a slot again, store a deferred attempt as running, and let its clock run.

        Cancelling the caller does not stop that, or its body would go on without a slot; the end of the
        attempt does. One that has ended, or was told to stop, needs nothing of it.
        """
        if _is_over(attempt):
            return
        work = asyncio.ensure_future(self._go_on(attempt, without_slot))
        cancelled = False
        while not work.done():
            try:
                await asyncio.wait({work})
            except asyncio.CancelledError:
                cancelled = True
                if _is_over(attempt):
                    work.cancel()
        error = None if work.cancelled() else work.exception()
        if cancelled or work.cancelled():
            raise asyncio.CancelledError
        if error is not None:
            raise error

    async def sleep(self, attempt: Attempt, seconds: float) -> None:
        """Wait so long, and longer while the execution is paused."""
        while True:
            rung: asyncio.Future[None] = self.loop.create_future()
            timer = self._life.clock.call_later(seconds, partial(_ring, rung))
            try:
                await rung
            finally:
                timer.cancel()
            if not self._driver(attempt).paused:
                return

    async def _go_on(self, attempt: Attempt, without_slot: bool) -> None:
        if without_slot:
            await self._life.take_back_slot(attempt)
        if not _is_over(attempt):
            await self._wish(attempt, AttemptState.RUNNING)
            attempt.run_clock()

    def _driver(self, attempt: Attempt) -> Driver:
        driver = self._life.drivers.get(attempt.execution)
        if driver is None or attempt.ended or driver.running.get(attempt.index) is not attempt:
            raise too_late(attempt)
        return driver

    async def _wish(self, attempt: Attempt, wanted: Wanted) -> None:
        granted: asyncio.Future[None] = self.loop.create_future()
        self._driver(attempt).wish(Wish(attempt, wanted, granted))
        await granted


def _ring(rung: asyncio.Future[None]) -> None:
    if not rung.done():
        rung.set_result(None)


def _is_over(attempt: Attempt) -> bool:
    """True if the body has ended or is to end."""
    return attempt.ended or attempt.stopping is not None
