"""How much do several processes on one file get done together, and how soon does one start what another submits?

One process submits without running anything; one, two or four workers share the work. Executions a second are
counted from the first that was created to the last that finished, as stored; the doorbell is the time from an
execution's creation in one process to the start of its body in another.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.harness.question import Metric, Question, Sample, Setting
from benchmarks.harness.sizes import INPUT
from benchmarks.harness.workflows import one_task
from cloacina.client import Client
from cloacina.runner import Runner

QUESTION = Question(
    (
        Metric("one", "10,000 one-task executions of a submitter, 1 worker process", "/s", True),
        Metric("two", "the same, 2 worker processes on the file", "/s", True),
        Metric("four", "the same, 4 worker processes on the file", "/s", True),
        Metric("p50", "submit in one process to the body's start in another, p50", "ms", False, 100),
        Metric("p99", "the same, p99", "ms", False, 100),
    ),
    rounds=3,
    warm_up=False,
    bodies=False,
)
EXECUTIONS, RINGS = 10_000, 200
WORKERS = {"one": 1, "two": 2, "four": 4}


def sample(setting: Setting) -> Sample:
    found: Sample = {}
    for name, workers in WORKERS.items():
        database = f"{setting.folder}/{name}.db"
        with working(database, workers):
            found[name] = asyncio.run(share(database))
    database = f"{setting.folder}/doorbell.db"
    with working(database, 1):
        waits = asyncio.run(ring(database))
    cuts = statistics.quantiles(waits, n=100, method="inclusive")
    return {**found, "p50": cuts[49], "p99": cuts[98]}


async def share(database: str) -> float:
    """Executions a second."""
    async with Client(database) as client:
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


async def ring(database: str) -> list[float]:
    """Milliseconds from creation to start of executions that come one by one."""
    waits: list[float] = []
    async with Client(database) as client:
        for number in range(RINGS):
            result = await client.execute("chain_1", INPUT)
            if result.started is None:
                raise AssertionError(f"an execution did not start: {result}")
            waits.append(1e3 * (result.started - result.created).total_seconds())
            await asyncio.sleep(0.001 * (number % 50))
    return waits


@contextmanager
def working(database: str, workers: int) -> Iterator[None]:
    """So many worker processes, each of which has registered the workflow."""
    command = [sys.executable, "-m", __name__, database]
    processes = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) for _ in range(workers)
    ]
    try:
        for process in processes:
            if process.stdout is None or process.stdout.readline() != b"up\n":
                raise AssertionError("a worker did not come up")
        yield
    finally:
        for process in processes:
            process.communicate()


async def work(database: str) -> None:
    """Be a worker until the standard input is closed."""
    async with Runner(database, workflows=[one_task("async")]):
        print("up", flush=True)
        await asyncio.get_running_loop().run_in_executor(None, os.read, 0, 1)


if __name__ == "__main__":
    asyncio.run(work(sys.argv[1]))
