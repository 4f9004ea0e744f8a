"""Settlements: how a body's transaction ends, which is together with the settling of its attempt or not at all.

A body that has ended well is settled like any other, but its item is committed by its own transaction: it is no part of
a group, and groups go on beside it. Its driver decides nothing else meanwhile. At all other ends the transaction is
rolled back first.

Everything here runs on the event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Protocol, TypeAlias

from cloacina.clock import Clock
from cloacina.engine.driving.driver import Driver
from cloacina.engine.driving.refusals import Refusals
from cloacina.engine.executors.attempt import Attempt, Ending
from cloacina.engine.storage.line import FIRST_PAUSE, LONGEST_PAUSE
from cloacina.engine.storage.storage import Storage
from cloacina.errors import Fenced, StoreError, StoreRefused, StoreUnavailable
from cloacina.model.status import AttemptState
from cloacina.observe.logs import get_logger
from cloacina.settings import Settings
from cloacina.store.rows import Item
from cloacina.store.transactions import OpenTransaction

log = get_logger("transactions")

Done: TypeAlias = Callable[[Attempt, Ending], None]


class Life(Protocol):
    """What settlements need of one life of a runner."""

    runner: str
    clock: Clock
    refusals: Refusals

    def lost(self, error: BaseException) -> None:
        """The runner cannot write any more."""
        ...


class Settlements:
    """See the module's text."""

    def __init__(self, life: Life, settings: Settings, storage: Storage) -> None:
        self._life = life
        self._storage = storage
        self._transactions = storage.transactions(life.clock, settings.transaction_connections)
        self._seconds = settings.transaction_timeout
        self._works: set[asyncio.Task[None]] = set()

    def prepare(self, attempt: Attempt) -> None:
        """Give a body that is about to start its transaction."""
        assert self._transactions is not None, "registration refuses it"
        whose = f"attempt {attempt.attempt} of task {attempt.task!r} of execution {attempt.execution}"
        limit = attempt.task_object.timeout or self._seconds
        attempt.transaction = self._transactions.make(whose, limit, attempt)
        attempt.done = partial(self._ended, attempt.done)

    def _ended(self, done: Done, attempt: Attempt, ending: Ending) -> None:
        transaction = attempt.transaction
        assert transaction is not None
        transaction.end()
        if transaction.begun:
            self._do(self._conclude(transaction, done, attempt, ending))
        else:
            attempt.transaction = None
            done(attempt, ending)

    async def _conclude(
        self, transaction: OpenTransaction, done: Done, attempt: Attempt, ending: Ending
    ) -> None:
        if ending.state is AttemptState.COMPLETED:
            try:
                await transaction.check()
            except StoreUnavailable:
                ending = Ending(AttemptState.INTERRUPTED)
            except Exception as error:
                ending = Ending(AttemptState.FAILED, error=error)
        if ending.state is not AttemptState.COMPLETED:
            await self._undo(attempt)
        done(attempt, ending)

    def roll_back(self, attempt: Attempt) -> None:
        """What the body of ``attempt`` wrote is not wanted any more, though it has ended well."""
        self._do(self._undo(attempt))

    async def _undo(self, attempt: Attempt) -> None:
        transaction, attempt.transaction = attempt.transaction, None
        if transaction is not None:
            await transaction.roll_back()
            await transaction.release()

    # Its completion.

    def settle(self, driver: Driver, item: Item) -> None:
        """Commit the item of a driver by the transaction of the attempt that it settles."""
        self._do(self._settle(driver, item))

    async def _settle(self, driver: Driver, item: Item) -> None:
        attempt = driver.settling
        assert attempt is not None and attempt.transaction is not None
        try:
            ending = await self._committed(attempt.transaction, item)
        except StoreRefused as error:
            await self._undo(attempt)
            self._life.refusals.handle(driver, error)
            return
        if ending is None:
            driver.committed(self._life.clock.now())
            await attempt.transaction.release()
            attempt.transaction = None
        else:
            await self._undo(attempt)
            self._life.refusals.go_back(driver, ending)

    async def _committed(self, transaction: OpenTransaction, item: Item) -> Ending | None:
        """None if the item is committed, else how its attempt ended in place of that.

        Raises `StoreRefused` if the item can never be stored, `Fenced` if the runner is not alive.
        """
        encoded = await self._storage.encoded(item)
        try:
            await transaction.commit(self._life.runner, encoded)
        except StoreUnavailable as error:
            log.warning("nobody knows whether a body's transaction was committed, looking: %s", error)
            return None if await self._applied(transaction, item) else Ending(AttemptState.INTERRUPTED)
        except (StoreRefused, Fenced):
            raise
        except Exception as error:
            return Ending(AttemptState.FAILED, error=error)
        return None

    async def _applied(self, transaction: OpenTransaction, item: Item) -> bool:
        """True if the item was committed after all. A server that is away for now is asked again."""
        pause = FIRST_PAUSE
        while True:
            try:
                return await transaction.applied(item.ends[0])
            except StoreError as error:
                if not error.retryable:
                    raise
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    # The end.

    async def drained(self) -> bool:
        """Wait until nothing is under way here; False if nothing was."""
        works = set(self._works)
        if works:
            await asyncio.wait(works)
        return bool(works)

    def close(self) -> None:
        """Commit nothing any more, and let go of all connections: the server rolls back."""
        for work in self._works:
            work.cancel()
        if self._transactions is not None:
            self._transactions.close()

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._works.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._works.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._life.lost(error)
