"""Leases on a server: what is stored of them, what others see of them, and whom the bell reaches."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from cloacina.errors import StoreCorrupt, StoreUnavailable
from cloacina.logic.deaths import Sign
from cloacina.model.status import Reason, RunnerState
from cloacina.store.postgres.database import PostgresDatabase, PostgresWriter
from cloacina.store.postgres.leases import Leases, lock_key
from cloacina.store.postgres.location import ServerLocation, server_location
from cloacina.store.rows import RunnerRow
from support.clock import until
from support.postgres.server import PostgresServer

Opened = Callable[[], Awaitable[Leases]]


@pytest.fixture
def location(postgres: PostgresServer, schema: str) -> ServerLocation:
    return server_location(postgres.url(), schema)


@pytest.fixture
def writer(location: ServerLocation) -> Any:
    store = PostgresDatabase(location).writer()
    yield store
    store.close()


@pytest.fixture
async def opened(location: ServerLocation, writer: PostgresWriter) -> AsyncIterator[Opened]:
    """Opens sessions."""
    made: list[Leases] = []

    async def open() -> Leases:
        made.append(await Leases.open(location))
        return made[-1]

    yield open
    for leases in made:
        await leases.close()


async def register(writer: PostgresWriter, runner: str) -> None:
    await asyncio.to_thread(writer.register_runner, RunnerRow(runner, "here", 1, 0, RunnerState.ALIVE, 0))


async def bury(writer: PostgresWriter, runner: str) -> None:
    await asyncio.to_thread(writer.recover, runner, Reason.CRASH, 1)


async def sign_of(leases: Leases, runner: str) -> Sign | None:
    """What a runner that has no lease itself sees of another one."""
    return (await leases.look("nobody", 1, None)).signs.get(runner)


async def test_a_lease_runs_by_the_servers_clock(opened: Opened) -> None:
    leases = await opened()
    await leases.take("a", 30, None)
    seen = await leases.look("nobody", 1, None)
    sign = seen.signs["a"]
    assert sign.renewed is not None and sign.held is None and not sign.given_up
    assert sign.expires - sign.renewed == pytest.approx(30e6, abs=1000)
    assert seen.up_since < sign.renewed <= seen.now
    assert not seen.renewed
    assert await leases.renew("a", 60, None)
    later = await sign_of(leases, "a")
    assert later is not None and later.expires >= sign.expires + 30_000_000


async def test_a_look_renews_ones_own_lease_and_shows_the_others(opened: Opened) -> None:
    leases = await opened()
    await leases.take("a", 1, None)
    before = await sign_of(leases, "a")
    seen = await leases.look("a", 60, None)
    after = await sign_of(leases, "a")
    assert (seen.renewed, seen.signs) == (True, {})
    assert before is not None and after is not None and after.expires > before.expires + 50_000_000


async def test_a_lock_is_there_as_long_as_its_session(opened: Opened) -> None:
    one, other = await opened(), await opened()
    for key in (lock_key(one.instance, "a", 1), -1, 0, 2**63 - 1, -(2**63)):
        assert await one.lock(key)
        await one.take("a", 30, key)
        assert (await sign_of(other, "a") or Sign(None)).held is True
        assert not await other.lock(key)
        await one.remove("a", key)
        await other.take("a", 30, key)
        assert (await sign_of(other, "a") or Sign(None)).held is False
        await other.remove("a")
    key = lock_key(one.instance, "b", 1)
    assert await one.lock(key)
    await one.take("b", 30, key)
    await one.close()

    async def held() -> bool | None:
        return (await sign_of(other, "b") or Sign(None)).held

    while await held():
        await asyncio.sleep(0.001)


async def test_who_counts_as_dead_does_not_come_back(opened: Opened, writer: PostgresWriter) -> None:
    leases = await opened()
    await register(writer, "a")
    await leases.take("a", 30, None)
    assert await leases.renew("a", 30, None)
    await bury(writer, "a")
    assert not await leases.renew("a", 30, None)
    assert not (await leases.look("a", 30, None)).renewed


async def test_what_was_given_up_or_removed_is_not_renewed(opened: Opened) -> None:
    leases = await opened()
    await leases.take("a", 30, None)
    await leases.give_up("a")
    assert not await leases.renew("a", 30, None)
    assert (await sign_of(leases, "a") or Sign(None)).given_up
    await leases.remove("a")
    assert not await leases.renew("a", 30, None)
    assert await sign_of(leases, "a") is None


async def test_a_runner_without_a_lease_is_seen_while_it_counts_as_alive(
    opened: Opened, writer: PostgresWriter
) -> None:
    leases = await opened()
    await register(writer, "a")
    await register(writer, "b")
    await bury(writer, "b")
    assert (await leases.look("nobody", 1, None)).signs == {"a": Sign(None)}
    assert (await leases.look("a", 1, None)).signs == {}


async def test_the_bell_reaches_others_only(opened: Opened) -> None:
    one, other = await opened(), await opened()
    heard: list[str] = []
    await one.listen(lambda: heard.append("one"))
    await other.listen(lambda: heard.append("other"))
    await one.ring()
    await until(lambda: heard)
    await other.ring()
    await until(lambda: len(heard) > 1)
    assert heard == ["other", "one"]


async def test_the_channel_is_known_to_those_who_can_read_the_tables(
    opened: Opened, postgres: PostgresServer
) -> None:
    one, other = await opened(), await opened()
    assert one._channel == other._channel
    await one.listen(lambda: None)
    assert (
        postgres.sessions(f"query LIKE '%{one._channel}%'") <= 1
    )  # its own sessions are all that a role sees


async def test_an_incomplete_schema_is_refused(
    location: ServerLocation, writer: PostgresWriter, postgres: PostgresServer
) -> None:
    postgres.execute(f"DELETE FROM {location.schema}.meta WHERE key = 'bell'")
    with pytest.raises(StoreCorrupt, match="incomplete"):
        await Leases.open(location)


async def test_a_session_that_was_ended_says_so(opened: Opened, postgres: PostgresServer) -> None:
    leases = await opened()
    [(pid,)] = [tuple(row) for row in await leases._run("SELECT pg_backend_pid()")]
    postgres.kill_backends(f"pid = {pid}")
    await asyncio.wait_for(leases.lost.wait(), 20)
    with pytest.raises(StoreUnavailable):
        await leases.ring()


def test_keys_of_locks_differ() -> None:
    keys = {lock_key(i, r, s) for i in ("x", "y") for r in ("a", "b") for s in (1, 2)}
    assert len(keys) == 8
    assert all(-(2**63) <= key < 2**63 for key in keys)
