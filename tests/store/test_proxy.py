"""The proxy does to connections what it says, and nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import asyncpg
import psycopg
import pytest

from support.postgres.proxy import TcpProxy, Upstream
from support.postgres.server import PostgresServer, until

INSERT = "INSERT INTO {schema}.t (x) VALUES ($1) /* the marker */"
LOST = (asyncpg.PostgresConnectionError, asyncpg.InterfaceError, ConnectionError)


@pytest.fixture
def proxy(postgres: PostgresServer, proxied: Callable[[Upstream], TcpProxy]) -> TcpProxy:
    return proxied(postgres)


@pytest.fixture
async def connection(proxy: TcpProxy) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    connection = await asyncpg.connect(proxy.url())
    yield connection
    connection.terminate()


class Table:
    """A table of one column, and the statement that fills it."""

    def __init__(self, postgres: PostgresServer, schema: str) -> None:
        self._postgres, self._schema = postgres, schema
        self.insert = INSERT.format(schema=schema)
        postgres.execute(f"CREATE SCHEMA {schema} CREATE TABLE t (x text)")

    def rows(self) -> list[str]:
        return [x for (x,) in self._postgres.execute(f"SELECT x FROM {self._schema}.t ORDER BY x")]


@pytest.fixture
def table(postgres: PostgresServer, schema: str) -> Table:
    return Table(postgres, schema)


async def test_everything_passes_and_is_counted(
    proxy: TcpProxy, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    text = "x" * 1_000_000
    assert await connection.fetchval("SELECT $1::text || 'y'", text) == text + "y"
    assert (proxy.accepted, proxy.open) == (1, 1)
    assert min(proxy.bytes.values()) > len(text)
    await connection.close()
    until(lambda: proxy.open == 0, "the connection is still open")


async def test_a_cut_ends_all_connections_and_no_new_one(
    proxy: TcpProxy, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    assert proxy.cut() == 1
    assert proxy.open == 0
    with pytest.raises(LOST):
        await connection.fetchval("SELECT 1")
    await _works(proxy)


@pytest.mark.parametrize("marker", [b"the marker", b"param-17"], ids=["text", "parameter"])
@pytest.mark.parametrize("again", [False, True], ids=["first", "prepared"])
async def test_a_cut_before_leaves_no_effect(
    proxy: TcpProxy, connection: asyncpg.Connection[asyncpg.Record], table: Table, marker: bytes, again: bool
) -> None:
    if again:
        await connection.execute(table.insert, "a first")
    fault = proxy.cut_before(marker)
    with pytest.raises(LOST):
        await connection.execute(table.insert, "param-17")
    fault.wait()
    assert table.rows() == ["a first"][:again]


@pytest.mark.parametrize("marker", [b"the marker", b"param-17"], ids=["text", "parameter"])
@pytest.mark.parametrize("again", [False, True], ids=["first", "prepared"])
async def test_a_cut_reply_leaves_the_effect(
    proxy: TcpProxy, connection: asyncpg.Connection[asyncpg.Record], table: Table, marker: bytes, again: bool
) -> None:
    if again:
        await connection.execute(table.insert, "a first")
    fault = proxy.cut_reply_to(marker)
    with pytest.raises(LOST):
        await connection.execute(table.insert, "param-17")
    assert table.rows() == [*["a first"][:again], "param-17"]
    assert not fault.armed
    await _works(proxy)


@pytest.mark.parametrize("applied", [True, False])
async def test_a_commit_can_be_cut(
    proxy: TcpProxy, connection: asyncpg.Connection[asyncpg.Record], table: Table, applied: bool
) -> None:
    (proxy.cut_reply_to if applied else proxy.cut_before)(b"COMMIT")
    with pytest.raises(LOST):
        async with connection.transaction():
            await connection.execute(table.insert, "a")
    assert table.rows() == ["a"][:applied]


async def test_a_cut_comes_as_often_as_asked(proxy: TcpProxy) -> None:
    fault = proxy.cut_before(b"SELECT 2", times=2)
    for fired in (1, 2):
        victim = await asyncpg.connect(proxy.url())
        assert await victim.fetchval("SELECT 1") == 1
        with pytest.raises(LOST):
            await victim.fetchval("SELECT 2")
        assert fault.fired == fired
    await _works(proxy, "SELECT 2")


@pytest.mark.parametrize("direction", ["to_server", "to_client"])
async def test_a_cut_comes_after_so_many_bytes(
    proxy: TcpProxy, connection: asyncpg.Connection[asyncpg.Record], direction: str
) -> None:
    before = proxy.bytes[direction]
    fault = proxy.cut_after(1000, direction)  # type: ignore[arg-type]
    assert await connection.fetchval("SELECT 1") == 1
    with pytest.raises(LOST):
        await connection.fetchval("SELECT $1::text", "x" * 2000)
    fault.wait()
    assert proxy.bytes[direction] - before == 1000


async def test_a_blackhole_holds_back_and_a_heal_lets_pass(
    proxy: TcpProxy, connection: asyncpg.Connection[asyncpg.Record], table: Table
) -> None:
    proxy.blackhole()
    late = asyncio.create_task(connection.execute(table.insert, "late"))
    new = asyncio.create_task(asyncpg.connect(proxy.url()))
    while proxy.accepted < 2:
        await asyncio.sleep(0)
    assert table.rows() == []
    proxy.heal()
    await late
    await (await new).close()
    assert table.rows() == ["late"]


async def test_who_hangs_up_in_a_blackhole_leaves_a_session(
    postgres: PostgresServer, proxy: TcpProxy, table: Table
) -> None:
    victim = await asyncpg.connect(proxy.url(), server_settings={"application_name": "left"})
    await victim.execute(table.insert, "a")
    proxy.blackhole()
    late = asyncio.create_task(victim.execute(table.insert, "b"))
    await asyncio.sleep(0)
    victim.terminate()
    with pytest.raises(LOST):
        await late
    assert postgres.sessions("application_name = 'left'") == 1
    assert proxy.cut() == 1
    proxy.heal()
    until(lambda: postgres.sessions("application_name = 'left'") == 0, "the session is still there")
    assert table.rows() == ["a"]


async def test_new_connections_are_refused_and_open_ones_go_on(
    proxy: TcpProxy, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    proxy.refuse()
    with pytest.raises(ConnectionRefusedError):
        await asyncpg.connect(proxy.url())
    assert await connection.fetchval("SELECT 1") == 1
    proxy.heal()
    await _works(proxy)


def test_another_driver_passes_and_is_cut(proxy: TcpProxy) -> None:
    with psycopg.connect(proxy.url()) as victim:
        proxy.cut_reply_to(b"SELECT 'x'")
        with pytest.raises(psycopg.OperationalError):
            victim.execute("SELECT 'x'")


def test_a_server_that_is_away_is_away_behind_the_proxy_too(
    own_postgres: Callable[..., PostgresServer], proxied: Callable[[Upstream], TcpProxy]
) -> None:
    server = own_postgres()
    proxy = proxied(server)
    server.stop()
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(proxy.url())
    server.start()
    psycopg.connect(proxy.url()).close()


async def _works(proxy: TcpProxy, sql: str = "SELECT 1") -> None:
    connection = await asyncpg.connect(proxy.url())
    assert await connection.fetchval(sql) in (1, 2)
    await connection.close()
