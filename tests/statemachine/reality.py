"""Reality: the runners and the client of one example, on one database, with time that only the machine moves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, TypeVar

from cloacina import Runner, Settings, Workflow
from cloacina.client import Client
from cloacina.engine.machine import Machine
from cloacina.engine.storage.line import Done, Line, Voice
from statemachine.places import Place
from statemachine.rows import Rows
from support.clock import HandClock
from support.runners import LONG, Even, crash

T = TypeVar("T")

BLINK = 0.3
"""Seconds by which the clock moves while runners are waited for that have yet to hear of each other."""


class WatchedMachine(Machine):
    """The real machine, but for its clock and chance; it knows whether a job is under way."""

    def __init__(self, clock: HandClock) -> None:
        super().__init__(clock, Even())
        self.under_way = 0

    def line(self, name: str, loop: asyncio.AbstractEventLoop, voice: Voice) -> Line:
        return _WatchedLine(super().line(name, loop, voice), self)


class _WatchedLine:
    def __init__(self, inner: Line, machine: WatchedMachine) -> None:
        self._inner = inner
        self._machine = machine
        self.give_up, self.join = inner.give_up, inner.join

    @property
    def closed(self) -> bool:
        return self._inner.closed

    def end(self) -> None:
        self._inner.end()

    def put(self, job: Callable[[], T], done: Done[T], **options: Any) -> None:
        self._machine.under_way += 1

        def finished(result: T | None, error: BaseException | None) -> None:
            self._machine.under_way -= 1
            done(result, error)

        self._inner.put(job, finished, **options)


class Reality:
    """See the module's text. Everything is on one event loop, which only runs inside `run`."""

    def __init__(self, place: Place, settings: Mapping[str, Any]) -> None:
        self._loop = asyncio.Runner()
        self.clock = HandClock()
        self.settings = Settings(
            **{
                "lease": LONG,
                "loop_block_limit": LONG,
                "shutdown_grace": 1.0,
                "prune_interval": 1e9,
                **settings,
            }
        )
        self.place = place
        self.runners: dict[int, Runner] = {}
        self.client: Client | None = None
        self.waits: dict[int, asyncio.Task[Any]] = {}
        """Those who wait for the end of an execution, by a number."""
        self._machines: list[WatchedMachine] = []
        self._aside = 0
        place.begin()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self._loop.run(work)

    @property
    def desks(self) -> dict[int, Runner | Client]:
        """Whom one can ask: two runners at most, and as number 2 the client."""
        client: dict[int, Runner | Client] = {} if self.client is None else {2: self.client}
        return {**self.runners, **client}

    @property
    def alone(self) -> bool:
        """True if nobody has to hear of anybody."""
        return len(self.desks) < 2

    # Coming and going.

    async def start(self, slot: int, workflows: list[Workflow]) -> None:
        runner = Runner(
            self.place.url,
            schema=self.place.schema,
            workflows=workflows,
            settings=self.settings,
            clock=self.clock,
        )
        runner._engine.machine = self._machine()
        await self.patiently(runner.start())
        self.runners[slot] = runner

    async def crash(self, slot: int) -> None:
        await crash(self.runners.pop(slot))

    async def shutdown(self, slot: int) -> None:
        await self.patiently(self.runners.pop(slot).shutdown(0))

    async def open_client(self) -> None:
        self.client = Client(self.place.url, schema=self.place.schema, settings=self.settings)
        self.client._machine = self._machine()
        await self.client.start()

    async def close_client(self) -> None:
        assert self.client is not None
        client, self.client = self.client, None
        await client.shutdown()

    async def end(self) -> None:
        for wait in self.waits.values():
            wait.cancel()
        for slot in list(self.runners):
            await self.shutdown(slot)
        if self.client is not None:
            await self.close_client()
        await asyncio.gather(*self.waits.values(), return_exceptions=True)

    def close(self) -> None:
        """Everything is over, whatever state it was in."""
        try:
            self.run(self.end())
        finally:
            self._loop.close()
            self.place.end()

    def _machine(self) -> WatchedMachine:
        self._machines.append(WatchedMachine(self.clock))
        return self._machines[-1]

    # Waiting.

    async def patiently(self, work: Coroutine[Any, Any, T]) -> T:
        """Do what may need others to notice something, or time to pass."""
        task = asyncio.ensure_future(work)
        loop = asyncio.get_running_loop()
        deadline, quick = loop.time() + 20, 50
        while not task.done():
            await asyncio.wait({task}, timeout=0 if quick else 0.002)
            if not task.done() and self._quiet():
                self.clock.advance(BLINK)
            quick = max(quick - 1, 0)
            assert loop.time() < deadline, f"{work} comes to no end"
        return await task

    async def calm(self) -> None:
        """Wait until nothing is under way."""
        turns = 0
        while turns < 4:
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            if self._quiet():
                turns += 1
            else:
                turns = 0
                await asyncio.sleep(0.0002)

    def _quiet(self) -> bool:
        lives = [runner._engine.life for runner in self.runners.values() if hasattr(runner._engine, "life")]
        return (
            not self._aside
            and not any(machine.under_way for machine in self._machines)
            and all(not life.committer._busy for life in lives)
        )

    async def blink(self, times: float = 1) -> None:
        """Let those who look now and then look."""
        self.clock.advance(times * BLINK)
        await self.calm()

    async def rows(self) -> Rows:
        """Everything that is stored."""
        if self.place.own:
            return await self.run_aside(self.place.rows)
        [runner] = self.runners.values()
        return await runner._engine.means.reader.run(Rows.read)

    async def run_aside(self, job: Callable[[], T]) -> T:
        self._aside += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(None, job)
        finally:
            self._aside -= 1
