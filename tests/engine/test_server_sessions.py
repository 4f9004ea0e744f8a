"""The session of a process on a server: it comes back after every loss, rings for others and hears them."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from cloacina.client import Client
from cloacina.clock import SystemClock, system_randomness
from cloacina.engine.liveness.server import session as sessions
from cloacina.engine.liveness.server.session import ServerSession
from cloacina.errors import StoreBusy, StoreRefused, StoreUnavailable
from cloacina.store.postgres import leases
from cloacina.store.postgres.database import PostgresDatabase
from cloacina.store.postgres.leases import Leases
from cloacina.store.postgres.location import ServerLocation, server_location
from support.clock import until
from support.postgres.server import PostgresServer

LEASES = "application_name = 'cloacina lease'"
MakeSession = Callable[[], Awaitable[ServerSession]]


@pytest.fixture
def location(postgres: PostgresServer, schema: str) -> ServerLocation:
    location = server_location(postgres.url(), schema)
    prepare(location)
    return location


def prepare(location: ServerLocation) -> None:
    PostgresDatabase(location).writer().close()


@pytest.fixture
async def session_of(location: ServerLocation) -> AsyncIterator[MakeSession]:
    made: list[ServerSession] = []

    async def make() -> ServerSession:
        made.append(ServerSession(location, SystemClock(), system_randomness()))
        await made[-1].open(0.0)
        return made[-1]

    yield make
    for session in made:
        await session.close()


def heard_by(session: ServerSession) -> list[int]:
    """Grows by one each time that a session hears the bell."""
    found: list[int] = []

    def hear() -> None:
        found.append(session.number)
        session.hear_again()

    session.heard = hear
    return found


async def drop(session: ServerSession) -> None:
    async def work() -> None:
        assert session.leases is not None
        session.leases.drop()

    await session.call(work())


async def test_a_ring_is_heard_by_others(session_of: MakeSession) -> None:
    one, other = await session_of(), await session_of()
    mine, theirs = heard_by(one), heard_by(other)
    one.ring()
    await until(lambda: theirs)
    other.ring()
    await until(lambda: mine)
    assert (len(mine), len(theirs)) == (1, 1)


async def test_rings_that_come_close_to_each_other_are_few_on_the_wire(
    session_of: MakeSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    rung = 0
    ring = Leases.ring

    async def counted(leases: Leases) -> None:
        nonlocal rung
        rung += 1
        await ring(leases)

    monkeypatch.setattr(Leases, "ring", counted)
    one, other = await session_of(), await session_of()
    theirs = heard_by(other)
    for _ in range(10_000):
        one.ring()
    await until(lambda: theirs)
    assert rung == 1
    one.ring()
    await until(lambda: len(theirs) == 2)


async def test_a_ring_just_before_the_end_is_sent(session_of: MakeSession) -> None:
    one, other = await session_of(), await session_of()
    theirs = heard_by(other)
    one.ring()
    await until(lambda: theirs)
    one.ring()  # it would come a moment later
    await one.close()
    await until(lambda: len(theirs) == 2)
    one.ring()
    await one.close()


async def test_a_ring_that_failed_is_tried_again(
    session_of: MakeSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server has one lock for all notifications, and somebody else's slow commit may hold it for long."""
    ring, failed = Leases.ring, list[int]()

    async def fails(leases: Leases) -> None:
        if len(failed) < 3:
            failed.append(1)
            raise StoreBusy("somebody holds the lock")
        await ring(leases)

    monkeypatch.setattr(Leases, "ring", fails)
    monkeypatch.setattr(sessions, "LONGEST_PAUSE", 0.01)
    one, other = await session_of(), await session_of()
    theirs = heard_by(other)
    one.ring()
    await until(lambda: theirs)
    assert (len(failed), one.number) == (3, 1), "on the same connection"


async def test_a_lost_connection_is_made_again_and_the_bell_rings_once_everywhere(
    session_of: MakeSession, postgres: PostgresServer
) -> None:
    one, other = await session_of(), await session_of()
    mine, theirs = heard_by(one), heard_by(other)
    for number in (2, 3, 4):
        await drop(one)
        await until(lambda number=number: one.number == number and one.listening)  # type: ignore[misc]
        await until(lambda number=number: len(mine) == len(theirs) == number - 1)  # type: ignore[misc]
    other.ring()
    await until(lambda: len(mine) == 4)
    assert len(theirs) == 3


async def test_listening_comes_before_the_ring(
    session_of: MakeSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is committed after the ring is heard; what was before, is read at the ring."""
    order: list[str] = []
    listen = Leases.listen

    async def listened(leases: Leases, heard: Callable[[], None]) -> None:
        order.append("listens")
        await listen(leases, heard)
        order.append("hears")

    one = await session_of()
    one.heard = lambda: order.append("rings")
    monkeypatch.setattr(Leases, "listen", listened)
    await drop(one)
    await until(lambda: "rings" in order)
    assert order == ["listens", "hears", "rings"]


async def test_the_guest_comes_first_and_a_connection_that_is_of_no_use_to_him_is_given_up(
    session_of: MakeSession,
) -> None:
    class Picky:
        def __init__(self) -> None:
            self.numbers: list[int] = []

        async def arrive(self, leases: Leases, number: int) -> None:
            self.numbers.append(number)
            if number < 4:
                raise StoreUnavailable("not that one")

    one = await session_of()
    one.guest = guest = Picky()
    await drop(one)
    await until(lambda: one.number == 4 and one.listening)
    assert guest.numbers == [2, 3, 4]


async def test_a_job_waits_for_the_next_connection_and_what_no_wait_mends_is_raised(
    session_of: MakeSession,
) -> None:
    one = await session_of()
    tried: list[int] = []

    async def job(leases: Leases) -> str:
        tried.append(one.number)
        if len(tried) == 1:
            leases.drop()
        await leases.ring()
        return "done"

    assert await one.call(one.persist(job)) == "done"
    assert tried == [1, 2]

    async def bad(leases: Leases) -> str:
        raise StoreRefused("never")

    with pytest.raises(StoreRefused):
        await one.call(one.persist(bad))


async def test_a_server_that_is_not_there_is_told_at_once_or_waited_for(
    own_postgres: Callable[..., PostgresServer], caplog: pytest.LogCaptureFixture
) -> None:
    server = own_postgres()
    location = server_location(server.url(), "here")
    await asyncio.to_thread(prepare, location)
    await asyncio.to_thread(server.stop)
    session = ServerSession(location, SystemClock(), system_randomness())
    with pytest.raises(StoreUnavailable, match="cannot be reached") as caught:
        await session.open(0.0)
    assert server.password not in str(caught.value)
    await session.close()
    patient = ServerSession(location, SystemClock(), system_randomness())
    opening = asyncio.ensure_future(patient.open(60.0))
    await until(lambda: "trying again" in caplog.text)
    await asyncio.to_thread(server.start)
    await opening
    assert patient.listening
    caplog.clear()
    await asyncio.to_thread(server.stop)
    persisting = patient.call(patient.persist(lambda leases: leases.ring()))
    await until(lambda: "trying again" in caplog.text)
    patient.give_up()
    with pytest.raises(StoreUnavailable, match="the connection for leases is lost"):
        await persisting
    await patient.close()
    said = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(said) == 1, "one line a minute"


async def test_everything_that_is_shut_in_ends_with_the_session(session_of: MakeSession) -> None:
    """An errand is done before the end, even one that was begun in the last moment."""
    one, done = await session_of(), list[str]()

    async def errand() -> None:
        assert one.leases is not None
        await one.leases.ring()
        done.append("errand")

    one.begin(errand)
    await one.close()
    assert done == ["errand"]
    assert not one._thread.is_alive()


async def test_a_client_whose_start_is_given_up_leaves_no_session(
    location: ServerLocation, postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    reached = threading.Event()

    async def hangs(*_: object, **__: object) -> None:
        reached.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(leases, "connect", hangs)
    url = f"{postgres.url()}?application_name=given_up"
    starting = asyncio.create_task(Client(url, schema=location.schema).start())
    await until(reached.is_set)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert [one.name for one in threading.enumerate() if one.name.startswith("cloacina-")] == []
    await until(lambda: not postgres.sessions("application_name = 'given_up'"))
