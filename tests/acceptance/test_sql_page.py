"""Every query on the page about SQL runs, through `open_readonly`, and finds something."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cloacina.clock import SystemClock
from cloacina.errors import PermanentError
from cloacina.model.context.context import Context
from cloacina.model.retry import RetryPolicy
from cloacina.model.workflow import Workflow
from cloacina.store.sqlite.copies.readonly import open_readonly
from store.make import new
from support.clock import until
from support.runners import Gate, runner_on, through

PAGE = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "sql.md"
QUERIES = re.findall(r"^```sql\n(.*?)^```", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)

orders = Workflow("orders")


@orders.task
async def add_up(ctx: Context) -> None:
    ctx["total"] = 7


@orders.task(dependencies=[add_up], retry=RetryPolicy(max_attempts=2, initial_delay=0.001, jitter=0))
async def pay(ctx: Context) -> None:
    if ctx.get("customer") == "broke":
        raise PermanentError("no money")


@orders.task(dependencies=[pay])
async def send(ctx: Context) -> None: ...


waiting = Workflow("waiting")


@waiting.task(retry=RetryPolicy(max_attempts=5, initial_delay=3000, max_delay=3000, jitter=0))
async def later(ctx: Context) -> None:
    raise ConnectionError("not there yet")


class Shop:
    """A database with something of everything in it, and an execution of it."""

    def __init__(self, path: Path, id: str) -> None:
        self.path = path
        self.id = id


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    gate = Gate()
    slow = Workflow("slow")

    @slow.task
    async def gated(ctx: Context) -> None:
        await gate.pass_through(ctx)

    path = tmp_path / "shop.db"
    clock = SystemClock()
    async with runner_on(path, orders, waiting, slow, clock=clock) as runner:
        for customer in ("ada", "grace", "broke"):
            last = await runner.execute("orders", {"customer": customer}, tags=["paid"])
        await runner.submit("waiting")
        held = await runner.submit("slow")
        await gate.reached()
        aside = await runner.submit("slow")
        await gate.reached(2)
        await aside.pause()
        await through(runner, lambda store: store.insert_unowned([new("e1", workflow="unheard of")]))
        await until(lambda: _retries(path))
        yield Shop(path, last.id)
        gate.open()
        await held.result()


def _retries(path: Path) -> bool:
    with open_readonly(path) as database:
        return bool(database.query("SELECT 1 FROM attempts WHERE retry_at > 0"))


@pytest.mark.parametrize("number", range(len(QUERIES)))
async def test_a_query_of_the_page_finds_something(shop: Shop, number: int) -> None:
    params = {
        "id": shop.id,
        "workflow": "orders",
        "tag": "paid",
        "since": SystemClock().now() // 1_000_000 - 600,
    }
    text = QUERIES[number]
    named = {name: value for name, value in params.items() if f":{name}" in text}
    with open_readonly(shop.path) as database:
        found = await asyncio.to_thread(database.query, text, named)
    assert found
    assert any(value is not None for row in found for value in row.values())


def test_there_are_queries() -> None:
    assert len(QUERIES) >= 12
