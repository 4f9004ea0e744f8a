"""Runners for tests: time stands still, chance is even, leases never run out, and nothing is pruned by itself."""

from __future__ import annotations

import asyncio
import contextlib
import re
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from typing import Any, TypeVar, cast

from cloacina.clock import Clock, Randomness
from cloacina.engine.liveness.files.lease import FileLease
from cloacina.engine.storage.storage import Storage
from cloacina.errors import Fenced
from cloacina.model.context.context import Context
from cloacina.model.workflow import Workflow
from cloacina.runner import Runner
from cloacina.settings import Settings
from cloacina.store.payloads import Payloads
from cloacina.store.port import ReadStore, WriteStore
from cloacina.testing.hand.machine import Even
from support.clock import HandClock, until

T = TypeVar("T")
S = TypeVar("S", WriteStore, ReadStore)
MEMORY = "sqlite://:memory:"
LONG = 1e9


def runner_on(
    url: str | Path,
    *workflows: Workflow,
    clock: Clock | None = None,
    randomness: Randomness | None = None,
    payloads: Payloads | None = None,
    **settings: Any,
) -> Runner:
    """A runner on a database, not entered yet."""
    kept = {"keep_completed_days": 0.0, "keep_failed_days": 0.0}
    chosen = Settings(**{"lease": LONG, "loop_block_limit": LONG, "shutdown_grace": 2.0, **kept, **settings})
    return Runner(
        str(url),
        workflows=workflows,
        settings=chosen,
        clock=clock or HandClock(),
        randomness=randomness or Even(),
        payloads=payloads,
    )


def in_memory(*workflows: Workflow, **options: Any) -> Runner:
    """A runner on a database in memory, not entered yet."""
    return runner_on(MEMORY, *workflows, **options)


def outside(path: Path, job: Callable[[WriteStore], T]) -> T:
    """What another process could do to the database: ``job`` on a connection of its own."""
    return _apart(Storage(path)._backend.writer, job)


def seen_outside(path: Path, job: Callable[[ReadStore], T]) -> T:
    """What another process reads."""
    return _apart(Storage(path)._backend.reader, job)


def by_hand(path: Path, sql: str, *params: object) -> list[tuple[Any, ...]]:
    """What somebody does to the database with SQL, in which ``?`` are ``params``; return its rows."""
    numbers = count(1)
    text = re.sub(r"\?", lambda _: f"?{next(numbers)}", sql)
    return outside(path, lambda store: cast("Any", store)._connection.rows(text, params))


def _apart(open: Callable[[], S], job: Callable[[S], T]) -> T:
    """Do a job on a thread of its own: a store on a server has a loop, which cannot run inside the test's."""

    def work() -> T:
        with contextlib.closing(open()) as store:
            return job(store)

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(work).result()


async def through(runner: Runner, job: Callable[[WriteStore], T]) -> T:
    """``job`` on the store of a runner, behind the back of its engine."""
    return await runner._engine.means.writer.run(job)


def lose(runner: Runner, why: str = "the test says so") -> None:
    """Let the runner learn that it is no longer alive."""
    life = runner._engine.life
    life.lost(Fenced(why))


@contextlib.asynccontextmanager
async def crashing(runner: Runner) -> AsyncIterator[Runner]:
    """Enter a runner that dies without a word at the end: its lock is free, its work is unfinished."""
    await runner.start()
    try:
        yield runner
    finally:
        await crash(runner)


async def crash(runner: Runner) -> None:
    """What a kill leaves behind: a free lock and an alive row. The process goes on, so its bodies are cut."""
    engine = runner._engine
    if not engine.open:
        return
    engine.open = False
    await engine.access.bell.stop()
    for service in (engine.upkeep, *engine._services):
        await service.stop()
    works = [work for driver in engine.life.drivers.values() for work in driver.works()]
    engine.life.abandon()
    lease = engine.life.lease
    if isinstance(lease, FileLease):
        lease.drop()
    await cut_off(runner)
    await engine._presence.close()
    if works:
        await asyncio.wait(works, timeout=5)
    await engine._storage.close()


async def cut_off(runner: Runner) -> None:
    """Break the connection on which a runner on a server keeps its lock; unless it is closed, it is made again."""
    session: Any = getattr(runner._engine._presence, "_session", None)

    async def drop() -> None:
        if session.leases is not None:
            session.leases.drop()
            session.leases = None

    if session is not None:
        await session.call(drop())


class Gate:
    """Bodies that wait here until the test opens it, on the loop or on threads."""

    def __init__(self) -> None:
        self.entered = 0
        self.left = 0
        self._open = threading.Event()
        self._async_open = asyncio.Event()

    def open(self) -> None:
        self._open.set()
        self._async_open.set()

    async def pass_through(self, ctx: Context) -> None:
        """An ``async`` body."""
        self.entered += 1
        await self._async_open.wait()
        self.left += 1

    def pass_on_thread(self, ctx: Context) -> None:
        """A ``def`` body."""
        self.entered += 1
        assert self._open.wait(20)
        self.left += 1

    async def reached(self, times: int = 1) -> None:
        """Wait until bodies have come here so often."""
        await until(lambda: self.entered >= times, f"the gate's {times}. visitor")
