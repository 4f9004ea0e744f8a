"""Retention: now and then, finished executions that were kept long enough are removed.

Looking is done on the reader's thread, removing on the writer's, between groups and in batches of some
milliseconds, with a rest after each that is many times as long: so work that goes on hardly notices. Several
runners may do it on one database, each removes what it finds first. What is live is never removed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TypeVar

from cloacina.clock import Clock
from cloacina.engine.service import Service
from cloacina.engine.storage.store_thread import StoreThread
from cloacina.errors import RunnerClosed, StoreError
from cloacina.model.status import ExecutionStatus
from cloacina.observe.logs import get_logger
from cloacina.settings import Settings
from cloacina.store.port import ReadStore, WriteStore
from cloacina.store.rows import Expired, ExpiryLook

log = get_logger("retention")
T = TypeVar("T")

DAY = 86_400_000_000
"""Microseconds."""

LOOK_ROWS = 1_000
"""Executions that one look reads, in a millisecond or two."""

BATCH_ROWS = 1_000
"""Rows of executions and attempts that are removed at once; more only if one execution has more."""

REST = 40
"""How many times as long as a batch took the rest after it lasts: about 2.5 % of the writer's time is used."""

LEAST_REST = 0.02
"""Seconds."""

FROM_THE_FRONT = 24
"""At every so many sweeps, executions are looked at again that were too young when they were passed."""


class Retention:
    """Removes old executions from the database of one engine; see the module's text."""

    def __init__(
        self,
        writer: StoreThread[WriteStore],
        reader: StoreThread[ReadStore],
        settings: Settings,
        clock: Clock,
    ) -> None:
        self._writer = writer
        self._reader = reader
        self._clock = clock
        completed, failed = settings.keep_completed_days, settings.keep_failed_days
        kept = {
            ExecutionStatus.COMPLETED: completed,
            ExecutionStatus.FAILED: failed,
            ExecutionStatus.CANCELLED: failed,
        }
        self._ages = {status: round(days * DAY) for status, days in kept.items() if days}
        self._passed = dict.fromkeys(self._ages, "")
        """Up to which id the executions of each outcome have been looked at."""
        self._sweeps = 0
        self._service = Service("retention", self._tick, settings.prune_interval, clock)
        self._turn = asyncio.Lock()
        self._wake = asyncio.Event()
        self._rest = 0.0
        """Seconds to wait before the next batch."""
        self._stopped = False

    def start(self, *, at_once: bool) -> None:
        """Sweep after each interval, and now if ``at_once``; never if everything is kept for ever."""
        if self._ages:
            self._service.start(at_once=at_once)

    async def stop(self) -> None:
        """Sweep no more; wait for the batch that is being removed."""
        self._stopped = True
        self._wake.set()
        await self._service.stop()

    async def prune(self) -> int:
        """Remove everything that was kept long enough; return how many executions were removed.

        Raises `StoreError` if the database does not take part.
        """
        return await self._sweep(from_the_front=True)

    async def _tick(self) -> None:
        self._sweeps += 1
        try:
            removed = await self._sweep(from_the_front=self._sweeps % FROM_THE_FRONT == 1)
        except RunnerClosed:
            return
        except StoreError as error:
            log.warning("removing old executions is put off: %s", error)
            return
        if removed:
            log.info("executions removed that were kept long enough: %d", removed)

    async def _sweep(self, *, from_the_front: bool) -> int:
        async with self._turn:
            if from_the_front:
                self._passed = dict.fromkeys(self._ages, "")
            now = self._clock.now()
            self._rest = 0.0
            removed = 0
            for status, age in self._ages.items():
                removed += await self._remove_all(status, now - age)
            if self._ages and not self._stopped:
                # The history of executions names the runners of its attempts for as long as it is kept.
                before = now - max(self._ages.values())
                await self._write(lambda store: store.forget_runners(before))
            return removed

    async def _remove_all(self, status: ExecutionStatus, before: int) -> int:
        removed = 0
        while not self._stopped:
            look = ExpiryLook(status, before, self._passed[status], LOOK_ROWS)
            found = await self._reader.run(partial(_look, look))
            for batch in _batches(found):
                removed += await self._remove(batch)
                if self._stopped:
                    return removed
            if found.last is None:
                break
            self._passed[status] = found.last
        return removed

    async def _remove(self, batch: Sequence[str]) -> int:
        await self._wait(self._rest)
        if self._stopped:
            return 0
        begin = self._clock.monotonic()
        removed = await self._write(lambda store: store.prune(batch))
        self._rest = max(LEAST_REST, REST * (self._clock.monotonic() - begin))
        return len(removed)

    async def _write(self, job: Callable[[WriteStore], T]) -> T:
        """Do ``job`` once. The writer's thread would repeat it for as long as it fails, and let others wait."""

        def once(store: WriteStore) -> tuple[T] | StoreError:
            try:
                return (job(store),)
            except StoreError as error:
                return error

        done = await self._writer.run(once)
        if isinstance(done, StoreError):
            raise done
        return done[0]

    async def _wait(self, seconds: float) -> None:
        """Wait so long, or until `stop`."""
        if seconds and not self._stopped:
            self._wake.clear()
            timer = self._clock.call_later(seconds, self._wake.set)
            await self._wake.wait()
            timer.cancel()


def _look(look: ExpiryLook, store: ReadStore) -> Expired:
    return store.expired(look)


def _batches(found: Expired) -> Iterator[list[str]]:
    """What was found, in parts that are removed in one transaction each; an execution is never split."""
    batch: list[str] = []
    rows = 0
    for id, attempts in found.executions:
        if batch and rows + 1 + attempts > BATCH_ROWS:
            yield batch
            batch, rows = [], 0
        batch.append(id)
        rows += 1 + attempts
    if batch:
        yield batch
