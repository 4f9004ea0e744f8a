"""The same work on DBOS: asynchronous workflows and steps, called directly and awaited."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from dbos import DBOS
from sqlalchemy import Engine, event

from benchmarks.harness.question import Sample, Setting
from benchmarks.harness.sizes import (
    BRANCHES,
    CALLS,
    CHAIN,
    CHAIN_REPEATS,
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
from benchmarks.peers import dbos_recovery
from benchmarks.peers.dbos_launch import with_dbos

Document = dict[str, Any]


@DBOS.step()
async def count(document: Document) -> int:
    return int(document["count"]) + 1


@DBOS.workflow()
async def chain(document: Document, length: int) -> Document:
    for _ in range(length):
        document["count"] = await count(document)
    return document


@DBOS.workflow()
async def fan(document: Document, branches: int) -> Document:
    counts = await asyncio.gather(*(count(document) for _ in range(branches)))
    document["count"] = await count({**document, "count": max(counts)})
    return document


def run_chain(length: int) -> Callable[[], Awaitable[object]]:
    return lambda: chain(dict(INPUT), length)


async def throughput() -> Sample:
    return {"rate": EXECUTIONS / await at_once(EXECUTIONS, run_chain(1))}


async def one_chain() -> Sample:
    return {"step": 1e3 * await repeat(CHAIN_REPEATS, run_chain(CHAIN)) / CHAIN}


async def chains() -> Sample:
    return {"rate": CHAINS * LINKS / await at_once(CHAINS, run_chain(LINKS))}


async def fanout() -> Sample:
    return {"rate": (BRANCHES + 1) / await repeat(1, lambda: fan(dict(INPUT), BRANCHES))}


async def latency() -> Sample:
    return await one_by_one(CALLS, run_chain(1))


async def idle(statements: Count) -> Sample:
    await run_chain(1)()
    return await watch_idle(statements)


async def statements(statements: Count) -> Sample:
    return await count_statements(statements, run_chain(1), run_chain(CHAIN))


MEASURES = {
    "throughput": throughput,
    "chain": one_chain,
    "chains": chains,
    "fanout": fanout,
    "latency": latency,
}
COUNTING = {"idle": idle, "statements": statements}


def sampler(subject: str, name: str) -> Callable[[Setting], Sample] | None:
    """What measures one round of a question; None if there is no answer."""
    wal = subject == "dbos-wal"
    if name == "recovery":
        return partial(dbos_recovery.sample, wal)
    if name in MEASURES:
        return lambda setting: with_dbos(setting.database, wal, MEASURES[name])
    return partial(_counting, wal, COUNTING[name]) if name in COUNTING else None


def _counting(wal: bool, measure: Callable[[Count], Awaitable[Sample]], setting: Setting) -> Sample:
    with counted(setting, alchemy) as (counting, count):
        return with_dbos(counting.database, wal, lambda: measure(count))


@contextmanager
def alchemy() -> Iterator[Count]:
    """Count what DBOS runs on SQLite in this process."""
    ran = 0

    def count(*_: object) -> None:
        nonlocal ran
        ran += 1

    event.listen(Engine, "before_cursor_execute", count)
    try:
        yield lambda: ran
    finally:
        event.remove(Engine, "before_cursor_execute", count)
