"""The work: how much of it, and the document that each execution carries. The same for every subject."""

from __future__ import annotations

import asyncio
import os
import statistics
import time
from collections.abc import Awaitable, Callable
from typing import Any

EXECUTIONS = 2_000
"""One-task executions submitted at once."""

CHAIN, CHAIN_REPEATS = 50, 10
"""Tasks of the chain that runs alone, and how often it runs in a round, which counts the median."""

CHAINS, LINKS, CHAINS_REPEATS = 100, 10, 3
"""Chains that run side by side, tasks in each, and how often all of that runs in a round."""

BRANCHES, FAN_REPEATS = 2_000, 3
"""Tasks of the fan-out, all of which the fan-in depends on, and how often it runs in a round."""

CHECKPOINTS, CHECKPOINT_REPEATS, CHECKPOINT_BODIES = 50, 10, 100
"""Checkpoints in each body, how often one body runs alone in a round, and how many run side by side."""

CALLS = 500
"""Executions one after the other on an idle engine."""

PROCESS_CALLS, PROCESS_STARTS = 1_000, 10
"""Executions at once of a body in a child process, and how many children are started one after the other."""

HISTORY = 100_000
"""Finished executions stored before the measurement."""

WAITING = 100_000
"""Executions stored without an owner."""

CRASH_EXECUTIONS, CRASH_LINKS, CRASH_SECONDS = 200, 5, 0.050
"""Executions, tasks in each, and seconds that each task takes, of the run that is killed half way through."""

SETTLE_SECONDS, IDLE_SECONDS = 3.0, 20.0
"""How long an engine gets to look at what it wrote last, and how long it is watched then."""

COUNTED, LAST_SECONDS = 100, 0.2
"""Executions one after the other whose statements are counted, and how long the last of them may come late."""

CONTENDED, CONTENDERS = 10_000, 8
"""Executions that wait without owner, and processes that start to take them at the same moment."""

STORED, CLAIMED, CLAIMS = 1_000_000, 32, 100
"""Finished executions beside those that wait, how many one claim takes, and how many claims there are."""

INPUT: dict[str, Any] = {
    "count": 0,
    "order": 471_100,
    "customer": "Ada Lovelace",
    "street": "12 St James's Square",
    "city": "London",
    "items": ["engine", "card", "wheel"],
    "total": 123.45,
    "note": "deliver to the back door, after nine",
}
"""About 200 bytes as JSON. Every task reads ``count`` and writes it back plus one."""


async def repeat(times: int, work: Callable[[], Awaitable[object]]) -> float:
    """Do ``work`` so many times, one after the other; return the median duration in seconds."""
    [median] = await in_turns(times, work)
    return median


async def in_turns(times: int, *works: Callable[[], Awaitable[object]]) -> list[float]:
    """Do each work so many times, one after the other; return the median duration of each in seconds.

    Every other turn goes backwards, or the garbage collector's own rhythm might strike always the same one.
    """
    durations: list[list[float]] = [[] for _ in works]
    for turn in range(times):
        for number in sorted(range(len(works)), reverse=turn % 2 == 1):
            begin = time.perf_counter()
            await works[number]()
            durations[number].append(time.perf_counter() - begin)
    return [statistics.median(found) for found in durations]


async def at_once(times: int, work: Callable[[], Awaitable[object]]) -> float:
    """Do ``work`` so many times at once; return the duration of it all in seconds."""
    begin = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(times)))
    return time.perf_counter() - begin


async def one_by_one(times: int, work: Callable[[], Awaitable[object]]) -> dict[str, float]:
    """Do ``work`` so many times, one after the other; return percentiles of the duration in milliseconds."""
    durations: list[float] = []
    for _ in range(times):
        begin = time.perf_counter()
        await work()
        durations.append(1e3 * (time.perf_counter() - begin))
    cuts = statistics.quantiles(durations, n=100, method="inclusive")
    return {"p50": cuts[49], "p95": cuts[94], "p99": cuts[98]}


async def watch_idle(statements: Callable[[], int]) -> dict[str, float]:
    """Count statements and this process's CPU time while nothing happens; both per minute."""
    await asyncio.sleep(SETTLE_SECONDS)
    before, used = statements(), sum(os.times()[:2])
    if not before:
        raise AssertionError(
            "no statement was seen of what was done before: it cannot be proved that all is quiet"
        )
    await asyncio.sleep(IDLE_SECONDS)
    minutes = IDLE_SECONDS / 60
    return {
        "statements": (statements() - before) / minutes,
        "cpu": (sum(os.times()[:2]) - used) / minutes,
    }


async def count_statements(
    statements: Callable[[], int],
    one: Callable[[], Awaitable[object]],
    chain: Callable[[], Awaitable[object]],
) -> dict[str, float]:
    """Count statements per one-task execution, many at once and one by one, and per task of a chain."""

    async def during(work: Awaitable[object]) -> int:
        before = statements()
        await work
        await asyncio.sleep(LAST_SECONDS)
        return statements() - before

    await one()
    return {
        "together": await during(at_once(EXECUTIONS, one)) / EXECUTIONS,
        "alone": await during(repeat(COUNTED, one)) / COUNTED,
        "step": await during(chain()) / CHAIN,
    }
