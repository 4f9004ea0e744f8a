"""Connections that break before or after a statement took effect, nobody knows which: all is done once."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import TypeVar

import pytest

from acceptance.support.campaign import campaign
from cloacina import Client, Context, Runner, Settings, TaskHandle, Workflow
from support.clock import until
from support.postgres.proxy import Fault, TcpProxy, Upstream
from support.postgres.server import PostgresServer

T = TypeVar("T")
Cut = Callable[..., Fault]
Act = Callable[["Scene", int], Awaitable[list[str]]]

CUTS: dict[str, Cut] = {
    "not applied": TcpProxy.cut_before,
    "applied": TcpProxy.cut_reply_to,
}


class Scene:
    """A runner and a client behind one proxy."""

    def __init__(self, runner: Runner, client: Client) -> None:
        self.runner, self.client = runner, client

    async def submit(self, number: int) -> list[str]:
        return [(await self.runner.submit("work", told(number))).id]

    async def submit_keyed(self, number: int) -> list[str]:
        """From both at once."""
        key = f"key-{number}"
        handles = await asyncio.gather(
            *(desk.submit("work", told(number), key=key) for desk in (self.runner, self.client))
        )
        return [*{handle.id for handle in handles}]

    async def submit_many(self, number: int) -> list[str]:
        return [handle.id for handle in await self.client.submit_many("work", [told(number)] * 3)]


def told(number: int) -> dict[str, object]:
    """An input in which a cut can find the submit's number."""
    return {"number": number, "sent": f"sent-{number}."}


OPERATIONS: dict[str, tuple[str, Act]] = {
    "submit": ("sent-{}.", Scene.submit),
    "keyed submit": ("key-{}", Scene.submit_keyed),
    "many": ("sent-{}.", Scene.submit_many),
    "claim": ("SKIP LOCKED", Scene.submit_many),
    "checkpoint": ("kept-{}.", Scene.submit),
    "completion": ("done-{}.", Scene.submit),
}


@pytest.mark.parametrize("times", [4, campaign(200)])
@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("operation", OPERATIONS)
async def test_everything_is_stored_and_started_once(
    postgres: PostgresServer,
    schema: str,
    proxied: Callable[[Upstream], TcpProxy],
    operation: str,
    cut: str,
    times: int,
) -> None:
    ledger: Counter[str] = Counter()
    work = Workflow("work")

    @work.task(retry=1)
    async def first(ctx: Context, handle: TaskHandle) -> None:
        ledger[f"{handle.execution} first"] += 1
        ctx["kept"] = await ctx.checkpoint("once", lambda: f"kept-{ctx['number']}.")

    @work.task(dependencies=[first], retry=1)
    async def last(ctx: Context, handle: TaskHandle) -> None:
        ledger[f"{handle.execution} last"] += 1
        ctx["done"] = f"done-{ctx['number']}."

    proxy = proxied(postgres)
    marker, act = OPERATIONS[operation]
    settings = Settings(poll_interval=0.05)
    async with (
        Runner(proxy.url(), schema=schema, workflows=[work], settings=settings) as runner,
        Client(proxy.url(), schema=schema, settings=settings) as client,
    ):
        scene = Scene(runner, client)
        ids, me = [(await runner.execute(work, told(-1))).id], runner.id
        for number in range(times):
            fault = CUTS[cut](proxy, marker.format(number).encode())
            acknowledged = await act(scene, number)
            for id in acknowledged:
                result = await client.result(id)
                assert (result.status, result.context["done"]) == ("completed", f"done-{number}.")
            assert fault.fired
            ids += acknowledged
        assert sorted(one.id for one in await runner.list(limit=10_000)) == sorted(ids)
        assert runner.id == me
    assert ledger == Counter(f"{id} {task}" for id in ids for task in ("first", "last"))
    attempts = postgres.execute(f"SELECT DISTINCT attempt, state, runner FROM {schema}.attempts")
    assert attempts == [(1, "completed", me)]


@pytest.mark.parametrize("times", [4, campaign(200)])
@pytest.mark.parametrize("cut", CUTS)
async def test_a_command_takes_effect_once(
    postgres: PostgresServer,
    schema: str,
    proxied: Callable[[Upstream], TcpProxy],
    cut: str,
    times: int,
) -> None:
    """Also a retry, which makes one new execution."""
    gate, proxy, entered = asyncio.Event(), proxied(postgres), set[str]()
    held = Workflow("held")

    @held.task(retry=1)
    async def waits(ctx: Context, handle: TaskHandle) -> None:
        entered.add(handle.execution)
        await gate.wait()

    async def cutting(command: Awaitable[T]) -> T:
        fault = CUTS[cut](proxy, b"COMMIT")
        answer = await command
        assert fault.fired == 1
        return answer

    settings = Settings(poll_interval=0.05)
    async with (
        Runner(postgres.url(), schema=schema, workflows=[held], settings=settings) as runner,
        Client(proxy.url(), schema=schema, settings=settings) as client,
    ):
        for number in range(1, times + 1):
            id = (await runner.submit(held)).id
            await until(lambda id=id: id in entered)  # type: ignore[misc]
            assert await cutting(client.pause(id)) == "paused"
            assert await cutting(client.resume(id)) == "running"
            assert await cutting(client.cancel(id)) == "cancelled"
            fork = await cutting(client.retry(id))
            assert (await client.get(fork.id)).forked_from == id
            assert await cutting(fork.cancel()) == "cancelled"
            assert len(await runner.list(limit=10_000)) == 2 * number
        assert postgres.execute(f"SELECT count(*) FROM {schema}.commands") == [(0,)]
        kinds = postgres.execute(f"SELECT kind, count(*) FROM {schema}.events GROUP BY kind")
        assert dict(kinds) == dict.fromkeys(("paused", "resumed", "forked"), times)


@pytest.mark.parametrize("cut", CUTS)
async def test_a_start_and_its_end_take_effect_once(
    postgres: PostgresServer, schema: str, proxied: Callable[[Upstream], TcpProxy], cut: str
) -> None:
    """On an empty database, with every transaction of theirs broken as often as the proxy likes."""
    work, proxy = Workflow("work"), proxied(postgres)

    @work.task
    async def only(ctx: Context) -> None:
        ctx["done"] = True

    fault = CUTS[cut](proxy, b"COMMIT", 5)
    settings = Settings(poll_interval=0.05, start_patience=60.0)
    async with Runner(proxy.url(), schema=schema, workflows=[work], settings=settings) as runner:
        fault.wait()
        assert (await runner.execute(work)).status == "completed"
        ending = CUTS[cut](proxy, b"COMMIT", 3)
    ending.wait()
    assert postgres.execute(f"SELECT state FROM {schema}.runners") == [("stopped",)]
    assert postgres.execute(f"SELECT count(*) FROM {schema}.workflow_versions") == [(1,)]
    assert postgres.execute(f"SELECT count(*) FROM {schema}.executions") == [(1,)]
