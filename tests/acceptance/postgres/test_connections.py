"""Connections: a server that has none left is waited for, and nothing ever takes more of them than it gives back."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psycopg
import pytest

from acceptance.support.campaign import campaign
from cloacina import Context, ExecutionStatus, Runner, Settings, Workflow
from cloacina.errors import StoreUnavailable
from support.clock import until
from support.postgres.proxy import TcpProxy, Upstream
from support.postgres.server import PostgresServer

MOST = 12
SESSIONS = 4
"""What a runner has: three for its stores, one for its lease."""

REFUSED = "remaining connection slots are reserved"
READ_ONLY = "in a read-only transaction"

work = Workflow("work")


@work.task(retry=1)
async def only(ctx: Context) -> None:
    ctx["done"] = True


@pytest.fixture
def crowded(own_postgres: Callable[..., PostgresServer]) -> PostgresServer:
    """A server that takes few connections; users of it are `app` and `hog`."""
    server = own_postgres(max_connections=MOST)
    for name in ("app", "hog"):
        server.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'x'")
    server.execute("GRANT CREATE ON DATABASE postgres TO app")
    return server


@contextmanager
def none_left(server: PostgresServer) -> Iterator[None]:
    """Take all connections that are left."""
    with ExitStack() as hogs:
        while True:
            try:
                hogs.enter_context(psycopg.connect(server.url(user="hog", password="x")))
            except psycopg.OperationalError:
                break
        yield
    server.kill_backends("usename = 'hog'")


async def test_a_start_says_that_there_are_no_connections_left(crowded: PostgresServer) -> None:
    with none_left(crowded), pytest.raises(StoreUnavailable, match="takes no more connections") as caught:
        async with Runner(crowded.url(user="app", password="x")):
            raise AssertionError("it started")
    assert "\n" not in str(caught.value)


async def test_a_runner_waits_for_connections_and_keeps_its_lease(crowded: PostgresServer) -> None:
    url = crowded.url(user="app", password="x")
    async with Runner(url, workflows=[work], settings=Settings(poll_interval=0.05)) as runner:
        await runner.execute(work)
        me = runner.id
        assert crowded.sessions("usename = 'app'") == SESSIONS
        crowded.kill_backends("usename = 'app' AND application_name = 'cloacina'")
        with none_left(crowded):
            results = [asyncio.create_task(runner.execute("work")) for _ in range(20)]
            refused = crowded.log().count(REFUSED)
            await until(lambda: crowded.log().count(REFUSED) > refused + 2)
            assert crowded.sessions("application_name = 'cloacina lease'") == 1
        for result in results:
            assert (await result).status is ExecutionStatus.COMPLETED
        assert runner.id == me


@pytest.mark.parametrize("operations", [60, campaign(30_000)])
async def test_no_connection_leaks(
    mortal: PostgresServer,
    proxied: Callable[[Upstream], TcpProxy],
    rng: random.Random,
    operations: int,
) -> None:
    """Neither on the server nor here, however often connections break, or are given up."""
    proxy = proxied(mortal)
    harms = [
        proxy.cut,
        lambda: proxy.cut_after(rng.randrange(1, 3000), "to_client"),
        lambda: mortal.kill_backends("application_name LIKE 'cloacina%'"),
    ]
    settings = Settings(poll_interval=0.05)
    async with Runner(proxy.url(), schema="leaks", workflows=[work], settings=settings) as runner:
        await runner.submit(work, key="first")
        await runner.execute("work")
        before = (descriptors(), threading.active_count())
        assert proxy.open == SESSIONS
        for number in range(operations):
            if rng.random() < 0.1:
                rng.choice(harms)()
            if number % 30 == 29:
                refused = mortal.log().count(READ_ONLY)
                mortal.set("default_transaction_read_only", "on")
            requests = [
                *(asyncio.create_task(runner.execute("work")) for _ in range(3)),
                asyncio.create_task(runner.submit("work", key=f"key-{number}")),
                asyncio.create_task(runner.list(limit=5)),
            ]
            if number % 30 == 29:
                await until(lambda refused=refused: mortal.log().count(READ_ONLY) > refused)  # type: ignore[misc]
                mortal.set("default_transaction_read_only", None)
            await asyncio.gather(*requests)
        proxy.heal()
        await asyncio.gather(runner.execute("work"), runner.submit("work", key="last"), runner.list(limit=5))
        await until(lambda: proxy.open == SESSIONS)
        assert (descriptors(), threading.active_count()) == before
    await until(lambda: proxy.open == 0)


def descriptors() -> int:
    """How many files and sockets this process has open, without those of the proxy's own connections."""
    kinds = (str(path.readlink()) for path in Path("/proc/self/fd").iterdir() if path.is_symlink())
    return sum(1 for kind in kinds if not kind.startswith("socket:"))
