"""Payloads for tests: codecs, workflows that have some, and what lies in a database and beside it."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path
from typing import Any

from cloacina.engine.storage.storage import Storage
from cloacina.model.context.context import Context
from cloacina.model.retry import RetryPolicy
from cloacina.model.status import ExecutionStatus
from cloacina.model.workflow import Workflow
from cloacina.runner import Runner
from cloacina.store.payloads import Compression, Encryption, Offload, PayloadHome, PayloadPlace, Payloads
from support.runners import Gate, by_hand, runner_on

KEY, OTHER_KEY = bytes(range(32)), bytes(range(32, 64))


def encryption(*ids: str, current: str | None = "", accept_plain: bool = True) -> Encryption:
    """Encryption with a key for each id, whose first is current."""
    keys = {id: id.encode().ljust(32, b"\1") for id in ids or ("k1",)}
    return Encryption(keys, next(iter(keys)) if current == "" else current, accept_plain=accept_plain)


def everything(*ids: str) -> Payloads:
    """Payloads that are compressed, encrypted and, over 2,000 bytes, offloaded."""
    return Payloads([Compression(over=100), encryption(*ids), Offload(over=2_000)])


def place(
    execution: str = "x1",
    column: str = "executions.input",
    *,
    folder: Path | None = None,
    instance: str = "db",
) -> PayloadPlace:
    return PayloadPlace(PayloadHome(instance, folder), execution, column)


def id_made_at(second: int) -> str:
    """An execution's id of that time."""
    text = f"{second * 1000:012x}"
    return f"{text[:8]}-{text[8:]}-7000-8000-000000000000"


def bytes_on_disk(database: Path) -> bytes:
    """Everything in the database file, its log and the folders beside it, as another process reads it.

    On a server its files belong to others: there it is everything in the tables.
    """
    if Storage(database).server is not None:
        return repr([by_hand(database, f"SELECT * FROM {table}") for table in _PAYLOADS]).encode()
    beside = [path for path in database.parent.rglob("*") if database.name in str(path) and path.is_file()]
    assert database in beside
    return subprocess.run(["cat", *map(str, beside)], capture_output=True, check=True, timeout=60).stdout


_PAYLOADS = {
    "executions": (("input", "result", "error"), "id"),
    "attempts": (("delta", "error"), "execution, started, attempt, task"),
    "checkpoints": (("value",), "execution, stored, name"),
}


def payload_rows(database: Path) -> dict[str, list[str]]:
    """What each column with payloads holds, the oldest row first; no process has the database open."""
    return {
        f"{table}.{column}": [
            text
            for (text,) in by_hand(
                database, f"SELECT {column} FROM {table} WHERE {column} IS NOT NULL ORDER BY {order}"
            )
        ]
        for table, (columns, order) in _PAYLOADS.items()
        for column in columns
    }


CANARY = "canary-7f3a"
COMPLETED, FAILED, PARKED = ExecutionStatus.COMPLETED, ExecutionStatus.FAILED, ExecutionStatus.PARKED


def story() -> Workflow:
    """A workflow that uses every column with payloads: its last task fails if the input says so."""
    workflow = Workflow("story")

    @workflow.task
    async def grow(ctx: Context) -> None:
        ctx["noted"] = await ctx.checkpoint(
            "note", lambda: {"text": ctx["text"], "big": ctx["text"] * ctx["times"]}
        )

    @workflow.task(dependencies=[grow])
    def shorten(ctx: Context) -> None:
        ctx["length"] = len(ctx["noted"]["big"])

    @workflow.task(dependencies=[shorten], retry=RetryPolicy.none())
    async def end(ctx: Context) -> None:
        if ctx["fails"]:
            raise ValueError(f"{ctx['text']} is no good")

    return workflow


def one(gate: Gate) -> Workflow:
    workflow = Workflow("one")
    workflow.add(gate.pass_through, id="it")
    return workflow


def opened() -> Gate:
    gate = Gate()
    gate.open()
    return gate


async def rests(runner: Runner, id: str) -> ExecutionStatus:
    """The state in which an execution comes to rest, as stored."""
    while True:
        status = {info.id: info.status for info in await runner.list()}[id]
        if status in (COMPLETED, FAILED, PARKED):
            return status
        await asyncio.sleep(0.001)


async def waiting(
    path: Path, workflow: Workflow, *inputs: dict[str, Any], payloads: Payloads | None
) -> list[str]:
    """Executions that nobody has started, in a database that nobody has open."""
    blocker = Gate()
    async with runner_on(path, window=1, payloads=payloads, shutdown_grace=0) as runner:
        await runner.submit(Workflow("blocker", [one(blocker).dag.tasks[0]]))
        await blocker.reached()
        return [handle.id for handle in await runner.submit_many(workflow, inputs)]
