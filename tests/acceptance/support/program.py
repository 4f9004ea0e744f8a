"""The program that the acceptance tests run, kill, freeze and run again: a runner that follows an order.

It prints one line per fact, for the test to wait on: ``up`` and ``ending`` with the runner's id, ``acked``
with a number, ``logged`` with the name of the logger for a warning or worse, ``done``. It logs to standard
error.
"""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import signal
from pathlib import Path

from acceptance.support import deeds, ledger
from acceptance.support.faults import Armed, Recorder
from acceptance.support.ledger import say
from acceptance.support.order import Ask, Order
from acceptance.support.shapes import SHAPES
from cloacina.backup import restore
from cloacina.client import Client
from cloacina.errors import QueueFull
from cloacina.observe.logs import init_logging
from cloacina.runner import Runner
from cloacina.settings import Settings


def run(order: Order) -> None:
    """Follow ``order`` from beginning to end."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    init_logging().addFilter(_say_warnings)
    ledger.use(Path(order.ledger))
    if order.held:
        ledger.ledger().wait_at_gate()
    if order.upkeep[:1] == ("restore",):
        _restore(order)
        return
    asyncio.run(_Program(order).main())


def _restore(order: Order) -> None:
    if order.fault is not None:
        Armed(order.fault)
    done = restore(order.upkeep[1], order.database)
    say("restored", done.epoch)


def _say_warnings(record: logging.LogRecord) -> bool:
    if record.levelno >= logging.WARNING:
        say("logged", record.name)
    return True


class _Program:
    def __init__(self, order: Order) -> None:
        self._order = order
        self._later_asks = iter(order.later)
        self._tasks: set[asyncio.Task[None]] = set()
        self._fault = None if order.fault is None else Armed(order.fault)
        if order.trace is not None:
            Recorder(Path(order.trace))

    async def main(self) -> None:
        order = self._order
        if order.client:
            await self._submit_only()
            return
        new = order.edition == 2
        workflows = [shape.newer if new and shape.newer else shape.workflow for shape in SHAPES.values()]
        settings = Settings(**order.settings)
        async with Runner(
            order.database, schema=order.schema, workflows=workflows, settings=settings
        ) as runner:
            ledger.ledger().write("up", os.getpid())
            say("up", runner.id)
            for ask in order.first:
                await runner.result(await self._submit(runner, ask))
            if self._fault is not None:
                self._fault.arm()
            work = asyncio.create_task(self._work(runner))
            self._listen(runner, work)
            await asyncio.wait({work})
            if not work.cancelled():
                work.result()
            say("ending", runner.id)
        say("done")

    async def _submit_only(self) -> None:
        order, stop = self._order, asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
        async with Client(order.database, schema=order.schema, settings=Settings(**order.settings)) as client:
            say("up", "client")
            if self._fault is not None:
                self._fault.arm()
            await self._submit_all(client)
            say("staying")
            await stop.wait()
        say("done")

    async def _work(self, runner: Runner) -> None:
        order = self._order
        upkeep = asyncio.create_task(self._upkeep(runner))
        await self._submit_all(runner)
        if order.flood:
            await self._flood(runner, order.flood)
        await upkeep
        if order.stay:
            say("staying")
            await asyncio.Event().wait()
        await self._finish(runner)

    async def _submit_all(self, desk: Runner | Client) -> None:
        order = self._order
        if order.batch:
            await self._submit_batch(desk, order.batch)
        if order.pace == "at once":
            ids = await asyncio.gather(*(self._submit(desk, ask) for ask in order.asks))
        else:
            ids = []
            for ask in order.asks:
                ids.append(await self._submit(desk, ask))
                if order.pace == "to the end" and not SHAPES[ask.shape].deed:
                    await desk.result(ids[-1])
        await asyncio.gather(*(deeds.do(desk, ask, id) for ask, id in zip(order.asks, ids, strict=True)))

    def _listen(self, runner: Runner, work: asyncio.Task[None]) -> None:
        """Stop at SIGTERM, at once at a second one; submit the next of the later asks at SIGUSR1."""
        loop = asyncio.get_running_loop()

        def stop() -> None:
            if work.done():
                self._tasks.add(loop.create_task(runner.shutdown()))
            work.cancel()

        loop.add_signal_handler(signal.SIGTERM, stop)
        loop.add_signal_handler(
            signal.SIGUSR1, lambda: self._tasks.add(loop.create_task(self._later(runner)))
        )

    async def _later(self, runner: Runner) -> None:
        await runner.result(await self._submit(runner, next(self._later_asks)))
        say("later", runner.id)

    async def _submit(self, runner: Runner | Client, ask: Ask) -> str:
        book = ledger.ledger()
        book.write("ask", ask.number, ask.shape, ask.key or "-")
        handle = await runner.submit(ask.shape, {"n": ask.number}, key=ask.key)
        book.write("ack", ask.number, handle.id)
        say("acked", ask.number)
        return handle.id

    async def _submit_batch(self, desk: Runner | Client, asks: tuple[Ask, ...]) -> None:
        book = ledger.ledger()
        for ask in asks:
            book.write("ask", ask.number, ask.shape, "-")
        book.write("batch", *(ask.number for ask in asks))
        handles = await desk.submit_many(asks[0].shape, [{"n": ask.number} for ask in asks])
        for ask, handle in zip(asks, handles, strict=True):
            book.write("ack", ask.number, handle.id)
            say("acked", ask.number)

    async def _upkeep(self, runner: Runner) -> None:
        for path in self._order.upkeep[1:]:
            say("backed up", await runner.backup(path))

    async def _flood(self, runner: Runner, many: int) -> None:
        async def one(number: int) -> bool:
            try:
                await self._submit(runner, Ask(number, "single"))
            except QueueFull:
                return False
            return True

        taken = await asyncio.gather(*(one(number) for number in range(1_000_000, 1_000_000 + many)))
        say("held", len(runner._engine.life.drivers))
        say("taken", sum(taken))

    async def _finish(self, runner: Runner) -> None:
        await deeds.see_off(runner)
        reader = runner._engine.means.reader
        while self._order.alone and len(await reader.run(lambda store: store.runners())) > 1:
            await asyncio.sleep(0.02)
