"""Settlements: bodies with transactions, from the place that each needs to the commit of its task's completion.

As many may be open as there are places; a body for which there is none waits before it starts. A body that has ended
well is settled like any other, but its item is committed by its own transaction: it is no part of a group, and groups
go on beside it. Its driver decides nothing else meanwhile. All other ends roll the transaction back first.

Everything here runs on the event loop.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Protocol, TypeAlias

from cloacina.clock import Clock
from cloacina.engine.driving.driver import Driver
from cloacina.engine.driving.refusals import Refusals
from cloacina.engine.executors.attempt import Attempt, Ending
from cloacina.engine.storage.storage import Storage
from cloacina.engine.storage.store_thread import FIRST_PAUSE, LONGEST_PAUSE
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

    def begin(self, attempt: Attempt) -> None:
        """Start a body."""
        ...

    def lost(self, error: BaseException) -> None:
        """The runner cannot write any more."""
        ...


class Settlements:
    """See the module's text."""

    def __init__(self, life: Life, settings: Settings, storage: Storage) -> None:
        self._life = life
        self._storage = storage
        self._transactions = storage.transactions(life.clock)
        self._seconds = settings.transaction_timeout
        self._places = settings.transaction_connections
        self._queue: deque[Attempt] = deque()
        self._works: set[asyncio.Task[None]] = set()

    # Before the body.

    def admit(self, attempt: Attempt) -> None:
        """Start a body that takes a transaction, once there is a place for it."""
        self._queue.append(attempt)
        self._serve()

    def _serve(self) -> None:
        while self._places and self._queue:
            attempt = self._queue.popleft()
            if attempt.ended or self._transactions is None:
                continue
            self._places -= 1
            whose = f"attempt {attempt.attempt} of task {attempt.task!r} of execution {attempt.execution}"
            limit = attempt.task_object.timeout or self._seconds
            attempt.transaction = self._transactions.begin(whose, limit)
            attempt.done = partial(self._ended, attempt.done)
            self._life.begin(attempt)

    # After the body.

    def _ended(self, done: Done, attempt: Attempt, ending: Ending) -> None:
        transaction = attempt.transaction
        assert transaction is not None
        transaction.end()
        if transaction.begun:
            self._do(self._conclude(transaction, done, attempt, ending))
        else:
            self._over(attempt)
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
        if attempt.transaction is not None:
            await attempt.transaction.roll_back()
            await attempt.transaction.release()
            self._over(attempt)

    def _over(self, attempt: Attempt) -> None:
        attempt.transaction = None
        self._places += 1
        self._serve()

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
            self._over(attempt)
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
