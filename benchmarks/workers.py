"""How much do several processes on one database get done together, and how soon does one start what another submits?

One process submits without running anything; one, two or four workers share the work. Executions a second are
counted from the first that was created to the last that finished, as stored; the doorbell is the time from an
execution's creation in one process to the start of its body in another.
"""

from __future__ import annotations

import asyncio
import statistics

from benchmarks.harness.database import Database
from benchmarks.harness.question import Metric, Question, Sample, Setting
from benchmarks.harness.sizes import INPUT
from benchmarks.harness.workers import working

QUESTION = Question(
    (
        Metric("one", "10,000 one-task executions of a submitter, 1 worker process", "/s", True),
        Metric("two", "the same, 2 worker processes", "/s", True),
        Metric("four", "the same, 4 worker processes", "/s", True),
        Metric("spread", "the busiest of the 4, times an even share", "", False, None, 1.2),
        Metric("p50", "submit in one process to the body's start in another, p50", "ms", False, 100, 50),
        Metric("p99", "the same, p99", "ms", False, 100, 50),
    ),
    rounds=3,
    warm_up=False,
    bodies=False,
)
EXECUTIONS, RINGS = 10_000, 200
WORKERS = {"one": 1, "two": 2, "four": 4}


def sample(setting: Setting) -> Sample:
    found: Sample = {}
    for name, number in WORKERS.items():
        database = setting.another(name)
        with working(database, number) as workers:
            found[name] = asyncio.run(share(database))
    found["spread"] = max(workers.bodies) * number / EXECUTIONS
    with working(setting.database, 1):
        waits = asyncio.run(ring(setting.database))
    cuts = statistics.quantiles(waits, n=100, method="inclusive")
    return {**found, "p50": cuts[49], "p99": cuts[98]}


async def share(database: Database) -> float:
    """Executions a second."""
    async with database.client() as client:
        handles = await client.submit_many("chain_1", [INPUT] * EXECUTIONS)
        await handles[-1].result()
        while live := await client.list(status=["pending", "running"], limit=1):
            await client.result(live[0].id)
        first = min(one.created for one in await client.list(limit=EXECUTIONS))
        ends = [one.finished for one in await client.list(status="completed", limit=EXECUTIONS)]
    if len(ends) != EXECUTIONS:
        raise AssertionError(f"{len(ends)} executions completed, not {EXECUTIONS}")
    last = max(end for end in ends if end is not None)
    return EXECUTIONS / (last - first).total_seconds()


async def ring(database: Database) -> list[float]:
    """Milliseconds from creation to start of executions that come one by one."""
    waits: list[float] = []
    async with database.client() as client:
        for number in range(RINGS):
            result = await client.execute("chain_1", INPUT)
            if result.started is None:
                raise AssertionError(f"an execution did not start: {result}")
            waits.append(1e3 * (result.started - result.created).total_seconds())
            await asyncio.sleep(0.001 * (number % 50))
    return waits
