"""The bare floor: the writes of the same work to the same schema, without an engine.

One hop to the writer and one transaction a group, behind the same fence. Nothing is decided, no body runs, and all
that is to be written is known beforehand. What an engine adds is the distance from here. `benchmarks.floors` has
the writers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Literal

from benchmarks.floors.group import Floor, Group, identifiers
from benchmarks.floors.thread import ThreadFloor
from benchmarks.harness.database import Database
from benchmarks.harness.question import Sample, Setting
from benchmarks.harness.sizes import (
    BRANCHES,
    CALLS,
    CHAIN,
    CHAIN_REPEATS,
    CHAINS,
    CHAINS_REPEATS,
    EXECUTIONS,
    FAN_REPEATS,
    LINKS,
    one_by_one,
    repeat,
)

SLOTS = 256
"""How many bodies the engine would run at once, and so the most attempts that one group starts."""

Kind = Literal["floor", "floor-loop"]
"""In a thread, as the engine writes; or, on PostgreSQL, on the main loop."""


async def one_task_executions(floor: Floor, number: int) -> None:
    """So many executions of one task: each group ends the last slots' executions and starts the next."""
    running: list[str] = []
    for first in range(0, number, SLOTS):
        fresh = identifiers(min(SLOTS, number - first))
        before, running = running, fresh
        await floor.write(
            Group.of(
                ends=[(id, "step_0") for id in before],
                finishes=before,
                new=fresh,
                starts=[(id, "step_0") for id in fresh],
            )
        )
    await floor.write(Group.of(ends=[(id, "step_0") for id in running], finishes=running))


async def chains_of(floor: Floor, number: int, length: int) -> None:
    """So many chains side by side: each group ends a task of every chain and starts the next."""
    ids = identifiers(number)
    await floor.write(Group.of(new=ids, starts=[(id, "step_0") for id in ids]))
    for step in range(1, length):
        ended, started = f"step_{step - 1}", f"step_{step}"
        await floor.write(Group.of(ends=[(id, ended) for id in ids], starts=[(id, started) for id in ids]))
    await floor.write(Group.of(ends=[(id, f"step_{length - 1}") for id in ids], finishes=ids))


async def fan_of(floor: Floor, branches: int) -> None:
    """One execution of so many independent tasks and one that depends on them all."""
    [id] = identifiers(1)
    tasks = [(id, f"branch_{number}") for number in range(branches)]
    running: list[tuple[str, str]] = []
    for first in range(0, branches, SLOTS):
        before, running = running, tasks[first : first + SLOTS]
        await floor.write(Group.of(new=[] if first else [id], ends=before, starts=running))
    await floor.write(Group.of(ends=running, starts=[(id, "gather")]))
    await floor.write(Group.of(ends=[(id, "gather")], finishes=[id]))


async def _throughput(floor: Floor) -> Sample:
    return {"rate": EXECUTIONS / await repeat(1, lambda: one_task_executions(floor, EXECUTIONS))}


async def _chain(floor: Floor) -> Sample:
    return {"step": 1e3 * await repeat(CHAIN_REPEATS, lambda: chains_of(floor, 1, CHAIN)) / CHAIN}


async def _chains(floor: Floor) -> Sample:
    return {"rate": CHAINS * LINKS / await repeat(CHAINS_REPEATS, lambda: chains_of(floor, CHAINS, LINKS))}


async def _fanout(floor: Floor) -> Sample:
    return {"rate": (BRANCHES + 1) / await repeat(FAN_REPEATS, lambda: fan_of(floor, BRANCHES))}


async def _latency(floor: Floor) -> Sample:
    return await one_by_one(CALLS, lambda: chains_of(floor, 1, 1))


MEASURES: dict[str, Callable[[Floor], Awaitable[Sample]]] = {
    "throughput": _throughput,
    "chain": _chain,
    "chains": _chains,
    "fanout": _fanout,
    "latency": _latency,
}


def sampler(kind: Kind, name: str) -> Callable[[Setting], Sample] | None:
    """What measures one round of a question on a floor; None if it has no answer."""
    measure = MEASURES.get(name)
    return measure and partial(_sample, kind, measure)


def _sample(kind: Kind, measure: Callable[[Floor], Awaitable[Sample]], setting: Setting) -> Sample:
    opened = _on_server(kind, setting.database) if setting.server else _on_file(setting.database)

    async def main() -> Sample:
        floor = await opened()
        try:
            return await measure(floor)
        finally:
            await floor.close()

    return asyncio.run(main())


def _on_file(database: Database) -> Callable[[], Awaitable[Floor]]:
    from benchmarks.floors.sqlite import SqliteWriter

    async def opened() -> Floor:
        return ThreadFloor(lambda: SqliteWriter(database.url))

    return opened


def _on_server(kind: Kind, database: Database) -> Callable[[], Awaitable[Floor]]:
    from benchmarks.floors.postgres import LoopFloor, PostgresWriter, create

    async def opened() -> Floor:
        if kind == "floor-loop":
            return await LoopFloor.open(database)
        return ThreadFloor(lambda: PostgresWriter(database))

    create(database)
    return opened
