"""The network between a runner and its server goes silent, or breaks at any byte: nothing is lost or done twice."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable

import pytest

from acceptance.support.campaign import campaign
from cloacina import Client, Context, Runner, Settings, TaskHandle, Workflow
from cloacina.store.postgres import leases
from cloacina.store.postgres.server import connect
from cloacina.store.postgres.server.connection import Connection
from support.clock import until
from support.postgres.proxy import Direction, TcpProxy, Upstream
from support.postgres.server import PostgresServer

PATIENT = Settings(poll_interval=0.05, start_patience=60.0)


class Ledger:
    """A workflow of two tasks, and how often each of them started in each execution."""

    def __init__(self, server: PostgresServer, schema: str) -> None:
        self._server, self._schema = server, schema
        self.starts: Counter[tuple[str, str]] = Counter()
        self.gate = asyncio.Event()
        self.gate.set()
        self.work = Workflow("work")

        @self.work.task(retry=1)
        async def first(ctx: Context, handle: TaskHandle) -> None:
            self.starts[handle.execution, "first"] += 1
            await self.gate.wait()

        @self.work.task(dependencies=[first], retry=1)
        async def last(ctx: Context, handle: TaskHandle) -> None:
            self.starts[handle.execution, "last"] += 1

    async def check(self, runner: Runner, ids: list[str], cancelled: int = 0) -> None:
        """All that was acknowledged is there, and has ended; all of it was done once, and the runner still lives."""
        assert self._server.execute(f"SELECT id, state FROM {self._schema}.runners") == [(runner.id, "alive")]
        stored = await runner.list(limit=10_000)
        assert sorted(one.id for one in stored) == sorted(ids)
        assert Counter(one.status.value for one in stored) == Counter(
            completed=len(ids) - cancelled, cancelled=cancelled
        )
        assert set(self.starts.values()) == {1}
        assert len(self.starts) == 2 * len(ids) - cancelled


@pytest.mark.parametrize("end", ["held back", "dropped"])
async def test_silence_is_not_waited_out(
    postgres: PostgresServer,
    schema: str,
    proxied: Callable[[Upstream], TcpProxy],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    end: str,
) -> None:
    """Nothing passes and nobody is told. What was under way arrives much later, when all was sent again, or never."""
    hurry(monkeypatch)
    ledger, proxy = Ledger(postgres, schema), proxied(postgres)
    async with Runner(proxy.url(), schema=schema, workflows=[ledger.work], settings=PATIENT) as runner:
        ledger.gate.clear()
        ids = [(await runner.submit("work")).id for _ in range(20)]
        await until(lambda: ledger.starts.total() == 20)
        proxy.blackhole()
        ledger.gate.set()
        plain = [asyncio.create_task(runner.submit("work")) for _ in range(10)]
        keyed = [asyncio.create_task(runner.submit("work", key=f"key-{number}")) for number in range(10)]
        for logger in ("cloacina.store", "cloacina.lease"):
            await until(lambda logger=logger: any(line.name == logger for line in caplog.records))  # type: ignore[misc]
        assert "no answer in time" in caplog.text
        if end == "dropped":
            proxy.cut()
        proxy.heal()
        ids += [handle.id for handle in await asyncio.gather(*plain, *keyed)]
        for id in ids:
            await runner.result(id)
        await ledger.check(runner, ids)


def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything gives up soon, and as ever the server sooner than its clients."""
    soon = dict.fromkeys(
        ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"), "300ms"
    )
    monkeypatch.setattr(leases, "DEADLINE", 0.6)
    for settings in (connect.SETTINGS, leases._SETTINGS):
        for name, value in soon.items():
            monkeypatch.setitem(settings, name, value)
    for function in (Connection.__init__, connect.connect):
        assert function.__kwdefaults__ is not None
        for name in {"deadline", "timeout"} & function.__kwdefaults__.keys():
            monkeypatch.setitem(function.__kwdefaults__, name, 0.6)


DIRECTIONS: tuple[Direction, ...] = ("to_server", "to_client")
EVERYDAY, ALL = 8, range(1, 4000, 37)


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("many", [EVERYDAY, campaign(len(ALL))])
async def test_work_survives_a_cut_at_any_byte(
    postgres: PostgresServer,
    schema: str,
    proxied: Callable[[Upstream], TcpProxy],
    rng: random.Random,
    direction: Direction,
    many: int,
) -> None:
    ledger, proxy, ids = Ledger(postgres, schema), proxied(postgres), list[str]()
    async with Runner(proxy.url(), schema=schema, workflows=[ledger.work], settings=PATIENT) as runner:
        for at in rng.sample(ALL, many):
            fault = proxy.cut_after(at, direction)
            while not fault.fired:
                handles = [await runner.submit("work"), *await runner.submit_many("work", [None] * 2)]
                for handle in handles:
                    assert (await handle.result()).status == "completed"
                ids += [handle.id for handle in handles]
        await ledger.check(runner, ids)


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("many", [EVERYDAY, campaign(len(ALL))])
async def test_commands_survive_a_cut_at_any_byte(
    postgres: PostgresServer,
    schema: str,
    proxied: Callable[[Upstream], TcpProxy],
    rng: random.Random,
    direction: Direction,
    many: int,
) -> None:
    """Those of a client, whose connections alone break: keyed submits, pause, resume, cancel and retry."""
    ledger, proxy, ids, keys = Ledger(postgres, schema), proxied(postgres), list[str](), 0
    async with (
        Runner(postgres.url(), schema=schema, workflows=[ledger.work], settings=PATIENT) as runner,
        Client(proxy.url(), schema=schema, settings=PATIENT) as client,
    ):
        for at in rng.sample(ALL, many):
            fault = proxy.cut_after(at, direction)
            while not fault.fired:
                ledger.gate.clear()
                keys += 1
                handle = await client.submit("work", key=f"key-{keys}")
                await until(lambda id=handle.id: ledger.starts[id, "first"])  # type: ignore[misc]
                assert await handle.pause() == "paused"
                assert await handle.resume() == "running"
                assert await handle.cancel() == "cancelled"
                ledger.gate.set()
                again = await handle.retry()
                assert (await again.result()).status == "completed"
                ids += [handle.id, again.id]
        await ledger.check(runner, ids, cancelled=len(ids) // 2)


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("many", [EVERYDAY, campaign(300)])
async def test_a_start_survives_a_cut_at_any_byte(
    postgres: PostgresServer,
    schema: str,
    proxied: Callable[[Upstream], TcpProxy],
    rng: random.Random,
    direction: Direction,
    many: int,
) -> None:
    """With an empty database and without a schema, from the first byte to the last of a whole life."""
    proxy = proxied(postgres)

    async def live() -> None:
        ledger = Ledger(postgres, schema)
        async with Runner(proxy.url(), schema=schema, workflows=[ledger.work], settings=PATIENT) as runner:
            done = await runner.execute(ledger.work)
            await ledger.check(runner, [done.id])
        postgres.drop_schema(schema)

    await live()
    length = proxy.bytes[direction]
    for _ in range(many):
        proxy.cut_after(rng.randrange(1, length), direction)
        await live()
        proxy.heal()
