"""The same work on Procrastinate: asynchronous jobs, deferred and worked off in one process.

It has no workflows: a chain is a job that defers the next one, with the document, before it ends; a fan-in it has
not. A chain has ended when the end of its last job is stored. A step of a chain takes long on average, since the
worker forgets a notification that comes while it looks for jobs in vain, and looks again only 5 s later.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from itertools import count
from typing import Any

from benchmarks.harness.database import Database
from benchmarks.harness.question import Sample, Setting
from benchmarks.harness.sizes import (
    CALLS,
    CHAIN,
    CHAINS,
    EXECUTIONS,
    INPUT,
    LINKS,
    at_once,
    count_statements,
    one_by_one,
    repeat,
    watch_idle,
)
from benchmarks.harness.statements import Count, counted
from benchmarks.peers import procrastinate_recovery
from benchmarks.peers.procrastinate_app import make, new_app, worker_of

Document = dict[str, Any]
RunChain = Callable[[int], Callable[[], Awaitable[object]]]
"""What runs a chain of so many jobs."""


@asynccontextmanager
async def working(database: Database) -> AsyncIterator[RunChain]:
    """A worker in this process, on a new schema."""
    make(database)
    app = new_app(database)
    ended: dict[int, asyncio.Future[None]] = {}
    numbers, finish = count(), app.job_manager.finish_job

    @app.task(name="step")
    async def step(document: Document, chain: int, left: int) -> None:
        document["count"] += 1
        if left:
            await step.defer_async(document=document, chain=chain, left=left - 1)

    async def finish_and_tell(job: Any, **options: Any) -> None:
        await finish(job, **options)
        if not job.task_kwargs["left"]:
            ended.pop(job.task_kwargs["chain"]).set_result(None)

    async def run(length: int) -> None:
        chain = next(numbers)
        end = ended[chain] = asyncio.get_running_loop().create_future()
        await step.defer_async(document=INPUT, chain=chain, left=length - 1)
        await end

    app.job_manager.finish_job = finish_and_tell  # type: ignore[method-assign, assignment]
    async with app.open_async():
        await app.schema_manager.apply_schema_async()
        worker = worker_of(app)
        try:
            await run(1)
            yield lambda length: partial(run, length)
        finally:
            worker.cancel()
            await asyncio.gather(worker, return_exceptions=True)


async def throughput(run: RunChain) -> Sample:
    return {"rate": EXECUTIONS / await at_once(EXECUTIONS, run(1))}


async def one_chain(run: RunChain) -> Sample:
    return {"step": 1e3 * await repeat(1, run(CHAIN)) / CHAIN}


async def chains(run: RunChain) -> Sample:
    return {"rate": CHAINS * LINKS / await at_once(CHAINS, run(LINKS))}


async def latency(run: RunChain) -> Sample:
    return await one_by_one(CALLS, run(1))


async def idle(statements: Count, run: RunChain) -> Sample:
    await run(1)()
    return await watch_idle(statements)


async def statements(statements: Count, run: RunChain) -> Sample:
    return await count_statements(statements, run(1), run(CHAIN))


MEASURES = {"throughput": throughput, "chain": one_chain, "chains": chains, "latency": latency}
COUNTING = {"idle": idle, "statements": statements}


def sampler(_: str, name: str) -> Callable[[Setting], Sample] | None:
    """What measures one round of a question; None if there is no answer."""
    if name == "recovery":
        return procrastinate_recovery.sample
    if name in MEASURES:
        return lambda setting: measured(setting, MEASURES[name])
    return partial(counting, COUNTING[name]) if name in COUNTING else None


def counting(measure: Callable[[Count, RunChain], Awaitable[Sample]], setting: Setting) -> Sample:
    with counted(setting) as (own, count):
        return measured(own, partial(measure, count))


def measured(setting: Setting, measure: Callable[[RunChain], Awaitable[Sample]]) -> Sample:
    async def main() -> Sample:
        async with working(setting.database) as run:
            return await measure(run)

    return asyncio.run(main())
