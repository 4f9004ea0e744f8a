"""The bare floor: the writes of the same work to the same schema, without an engine.

One writer thread; one hop to it and one transaction a group, behind the same fence; one statement for each
kind of row. Nothing is decided, no body runs, and all that is to be written is known beforehand. What an
engine adds is the distance from here.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from itertools import count
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import apsw
import msgspec

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
    INPUT,
    LINKS,
    one_by_one,
    repeat,
)
from cloacina.store.sqlite.migrations import MIGRATIONS

SLOTS = 256
"""How many bodies the engine would run at once, and so the most attempts that one group starts."""

RUNNER = "01900000-0000-7000-8000-000000000000"
DOCUMENT = msgspec.json.encode(INPUT).decode()
DELTA = '{"set":{"count":1}}'

SETTINGS = "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA cache_size = -8000"
FENCE = "UPDATE runners SET group_no = ?1 WHERE id = ?2 AND state = 'alive' AND group_no = ?1 - 1"

NEW = """
    INSERT INTO executions (id, workflow, version, status, input, priority, tags, owner, created, started)
    SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5, value ->> 6,
        value ->> 7, value ->> 8, value ->> 9
    FROM jsonb_each(?)"""
START = """
    INSERT INTO attempts (execution, task, attempt, state, runner, started)
    SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5 FROM jsonb_each(?)"""
END = """
    UPDATE attempts SET state = sent.value ->> 3, finished = sent.value ->> 4, delta = sent.value ->> 5
    FROM jsonb_each(?) AS sent
    WHERE execution = sent.value ->> 0 AND task = sent.value ->> 1 AND attempt = sent.value ->> 2
        AND state = 'running'"""
FINISH = """
    UPDATE executions SET status = sent.value ->> 2, owner = NULL, finished = sent.value ->> 3,
        result = sent.value ->> 4
    FROM jsonb_each(?) AS sent
    WHERE executions.id = sent.value ->> 0 AND +owner = sent.value ->> 1"""

Rows = list[tuple[Any, ...]]
Group = list[tuple[str, Rows]]


class Floor:
    """A database with one thread that writes groups."""

    def __init__(self, path: Path) -> None:
        self._database: Any = apsw.Connection(str(path))
        self._database.execute(SETTINGS)
        for migration in MIGRATIONS:
            self._database.execute(migration)
        self._database.execute(
            "INSERT INTO runners (id, host, pid, started, state, group_no) VALUES (?, '', 0, 0, 'alive', 0)",
            (RUNNER,),
        )
        self._number = 0
        self._jobs: SimpleQueue[tuple[Group, asyncio.Future[None]] | None] = SimpleQueue()
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    async def write(self, group: Group) -> None:
        """Return once the group is durable."""
        done: asyncio.Future[None] = self._loop.create_future()
        self._jobs.put((group, done))
        await done

    def close(self) -> None:
        self._jobs.put(None)
        self._thread.join()
        self._database.close()

    def _serve(self) -> None:
        while (job := self._jobs.get()) is not None:
            group, done = job
            self._commit(group)
            self._loop.call_soon_threadsafe(done.set_result, None)

    def _commit(self, group: Group) -> None:
        execute = self._database.execute
        self._number += 1
        execute("BEGIN IMMEDIATE")
        execute(FENCE, (self._number, RUNNER))
        for statement, rows in group:
            if rows:
                execute(statement, (msgspec.json.encode(rows).decode(),))
                if self._database.changes() != len(rows):
                    raise AssertionError(f"{len(rows)} rows were sent, {self._database.changes()} written")
        execute("COMMIT")


_ids = count()


def identifiers(number: int) -> list[str]:
    """Ids as long as those of executions, in ascending order like them."""
    return [f"01900000-0000-7000-8000-{next(_ids):012}" for _ in range(number)]


def new(ids: Sequence[str]) -> tuple[str, Rows]:
    now = time.time_ns() // 1000
    return NEW, [
        (id, "chain", "0123456789abcdef", "running", DOCUMENT, 0, "[]", RUNNER, now, now) for id in ids
    ]


def starts(tasks: Sequence[tuple[str, str]]) -> tuple[str, Rows]:
    now = time.time_ns() // 1000
    return START, [(id, task, 1, "running", RUNNER, now) for id, task in tasks]


def ends(tasks: Sequence[tuple[str, str]]) -> tuple[str, Rows]:
    now = time.time_ns() // 1000
    return END, [(id, task, 1, "completed", now, DELTA) for id, task in tasks]


def finishes(ids: Sequence[str]) -> tuple[str, Rows]:
    now = time.time_ns() // 1000
    return FINISH, [(id, RUNNER, "completed", now, DOCUMENT) for id in ids]


async def one_task_executions(floor: Floor, number: int) -> None:
    """So many executions of one task: each group ends the last slots' executions and starts the next."""
    running: list[str] = []
    for first in range(0, number, SLOTS):
        fresh = identifiers(min(SLOTS, number - first))
        before, running = running, fresh
        await floor.write([
            ends([(id, "step_0") for id in before]), finishes(before),
            new(fresh), starts([(id, "step_0") for id in fresh]),
        ])  # fmt: skip
    await floor.write([ends([(id, "step_0") for id in running]), finishes(running)])


async def chains_of(floor: Floor, number: int, length: int) -> None:
    """So many chains side by side: each group ends a task of every chain and starts the next."""
    ids = identifiers(number)
    await floor.write([new(ids), starts([(id, "step_0") for id in ids])])
    for step in range(1, length):
        ended, started = f"step_{step - 1}", f"step_{step}"
        await floor.write([ends([(id, ended) for id in ids]), starts([(id, started) for id in ids])])
    await floor.write([ends([(id, f"step_{length - 1}") for id in ids]), finishes(ids)])


async def fan_of(floor: Floor, branches: int) -> None:
    """One execution of so many independent tasks and one that depends on them all."""
    [id] = identifiers(1)
    tasks = [(id, f"branch_{number}") for number in range(branches)]
    running: list[tuple[str, str]] = []
    for first in range(0, branches, SLOTS):
        before, running = running, tasks[first : first + SLOTS]
        await floor.write([new([] if first else [id]), ends(before), starts(running)])
    await floor.write([ends(running), starts([(id, "gather")])])
    await floor.write([ends([(id, "gather")]), finishes([id])])


def _on_floor(setting: Setting, measure: Callable[[Floor], Awaitable[Sample]]) -> Sample:
    async def main() -> Sample:
        floor = Floor(setting.database)
        try:
            return await measure(floor)
        finally:
            floor.close()

    return asyncio.run(main())


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


SAMPLERS: dict[str, Callable[[Setting], Sample]] = {
    "throughput": lambda setting: _on_floor(setting, _throughput),
    "chain": lambda setting: _on_floor(setting, _chain),
    "chains": lambda setting: _on_floor(setting, _chains),
    "fanout": lambda setting: _on_floor(setting, _fanout),
    "latency": lambda setting: _on_floor(setting, _latency),
}
