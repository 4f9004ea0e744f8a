"""The same work on DBOS: asynchronous workflows and steps, called directly and awaited."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from dbos import DBOS

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
    at_once,
    one_by_one,
    repeat,
)
from benchmarks.peers import dbos_idle, dbos_recovery
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
    return {"rate": CHAINS * LINKS / await repeat(CHAINS_REPEATS, lambda: at_once(CHAINS, run_chain(LINKS)))}


async def fanout() -> Sample:
    return {"rate": (BRANCHES + 1) / await repeat(FAN_REPEATS, lambda: fan(dict(INPUT), BRANCHES))}


async def latency() -> Sample:
    return await one_by_one(CALLS, run_chain(1))


def _sampler(measure: Callable[[], Awaitable[Sample]], setting: Setting, wal: bool) -> Sample:
    return with_dbos(setting.database, wal, measure)


SAMPLERS: dict[str, Callable[..., Sample]] = {
    "throughput": partial(_sampler, throughput),
    "chain": partial(_sampler, one_chain),
    "chains": partial(_sampler, chains),
    "fanout": partial(_sampler, fanout),
    "latency": partial(_sampler, latency),
    "idle": partial(_sampler, partial(dbos_idle.measure, run_chain(1))),
    "recovery": dbos_recovery.sample,
}
