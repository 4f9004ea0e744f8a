"""A program that does a bit of everything on a database, again and again, as one of several that do so at once.

Half of them are runners, the others clients. It prints ``up``, and one JSON line: the executions whose submit was
acknowledged, and every error that a caller saw. With the word ``prune`` at the end, what has ended is removed now
and then, so that anybody may ask for what is no longer there.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress

from cloacina import Client, Context, Runner, Settings, Workflow, task
from cloacina.clock import SystemClock
from cloacina.errors import CommandTimeout, ExecutionNotFound, ForkRefused, ResultTimeout

work = Workflow("work")


@work.task
async def first(ctx: Context) -> None:
    ctx["first"] = ctx["n"] + 1


@work.task(dependencies=[first])
def second(ctx: Context) -> None:
    ctx["second"] = ctx["first"] + 1


@task
def alone(ctx: Context) -> None:
    """The task of workflows that are registered, and never run."""


class Program:
    """Random requests to one desk."""

    def __init__(self, desk: Runner | Client, seed: int, *, prune: bool) -> None:
        self._desk = desk
        self._gone = (ExecutionNotFound,) if prune else ()
        self._draw = random.Random(seed)
        self._mine: list[str] = []
        self.acknowledged: list[str] = []
        self.errors: Counter[str] = Counter()
        self._requests: list[Callable[[], Awaitable[object]]] = [
            *[self.submit] * 6, *[self.submit_many] * 2, *[self.wait] * 4, self.pause, self.cancel, self.list, self.get,
            self.retry, self.fork, self.retry_many,
        ]  # fmt: skip
        if isinstance(desk, Runner):
            self._requests += [lambda: self.register(desk), *[desk.prune] * prune]

    async def once(self) -> None:
        """One request; what a caller would see as an error is noted."""
        try:
            await self._draw.choice(self._requests)()
        except self._gone:
            pass
        except Exception as error:
            self.errors[f"{type(error).__name__}: {error}"] += 1

    async def submit(self) -> None:
        key = f"k{self._draw.randrange(200)}" if self._draw.random() < 0.3 else None
        number = int(key[1:]) if key else 1
        handle = await self._desk.submit("work", {"n": number}, key=key)
        self._keep([handle.id])

    async def submit_many(self) -> None:
        handles = await self._desk.submit_many("work", [{"n": n} for n in range(self._draw.randrange(20))])
        self._keep([handle.id for handle in handles])

    async def wait(self) -> None:
        with suppress(ResultTimeout):
            await self._desk.result(self._one(), timeout=0.2)

    async def pause(self) -> None:
        id = self._one()
        with suppress(CommandTimeout):
            await self._desk.pause(id)
        await self._desk.resume(id)

    async def cancel(self) -> None:
        await self._desk.cancel(self._one())

    async def retry(self) -> None:
        with suppress(ForkRefused):
            self._keep([(await self._desk.retry(self._one())).id])

    async def fork(self) -> None:
        with suppress(ForkRefused):
            self._keep([(await self._desk.fork(self._one(), from_task="second")).id])

    async def retry_many(self) -> None:
        await self._desk.retry_many(status="cancelled", limit=4, skip_forked=False)

    async def register(self, runner: Runner) -> None:
        await runner.register(Workflow(f"other-{self._draw.randrange(20)}", [alone]))

    async def list(self) -> None:
        await self._desk.list(workflow="work", limit=50)

    async def get(self) -> None:
        await self._desk.get(self._one())

    def _keep(self, ids: list[str]) -> None:
        self.acknowledged += ids
        self._mine = (self._mine + ids)[-200:]

    def _one(self) -> str:
        return self._draw.choice(self._mine)


async def main(database: str, seed: int, requests: int, seconds: float, prune: bool) -> None:
    # A busy machine may keep an owner from answering in time; that is not what is looked for here.
    days = 1e-6 if prune else 30.0
    settings = Settings(
        command_timeout=60.0, keep_completed_days=days, keep_failed_days=days, poll_interval=0.2
    )
    desk = (
        Runner(database, workflows=[work], settings=settings)
        if seed % 2
        else Client(database, settings=settings)
    )
    clock = SystemClock()
    async with desk:
        program = Program(desk, seed, prune=prune)
        await program.submit()
        print("up", flush=True)
        until, done = clock.monotonic() + seconds, 0
        while done < requests or clock.monotonic() < until:
            await asyncio.gather(*(program.once() for _ in range(8)))
            done += 8
    print(json.dumps({"acknowledged": program.acknowledged, "errors": program.errors}))


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    seed, requests = map(int, sys.argv[2:4])
    asyncio.run(main(sys.argv[1], seed, requests, float(sys.argv[4]), "prune" in sys.argv[5:]))
