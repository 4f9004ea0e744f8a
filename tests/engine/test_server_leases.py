"""Leases on a server: how a runner shows that it lives, how others see that it does not, what an outage changes."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import psycopg
import pytest

from cloacina.client import Client
from cloacina.engine.liveness.recovery import SAY_AGAIN_AFTER
from cloacina.engine.liveness.server.doorbell import SELDOM
from cloacina.engine.liveness.server.observer import EVERY, ServerObserver
from cloacina.model.context.context import Context
from cloacina.model.status import AttemptState, ExecutionStatus, Reason
from cloacina.model.task import task
from cloacina.model.workflow import Workflow
from cloacina.runner import Runner
from cloacina.settings import Settings
from cloacina.store.postgres import leases
from cloacina.store.postgres.leases import Leases
from support.clock import HandClock, turn, until
from support.postgres.bouncer import PgBouncer
from support.postgres.proxy import TcpProxy
from support.postgres.server import PostgresServer
from support.runners import Even, Gate, crash, cut_off, lose

COMPLETED = ExecutionStatus.COMPLETED
LEASES = "application_name = 'cloacina lease'"
LONG = 1e6
QUICK: dict[str, Any] = {"lease": 0.06}
"""It is renewed every 20 ms; the hand-driven clock keeps it from passing for the runner itself, but not for others."""


class Place:
    """A schema, and what can be seen of it from outside."""

    def __init__(self, server: PostgresServer, schema: str) -> None:
        self.server, self.schema = server, schema

    def runner(
        self, *workflows: Workflow, clock: HandClock | None = None, url: str = "", **settings: Any
    ) -> Runner:
        """A runner, not entered yet. Its lease is long unless the test says otherwise."""
        chosen = {"lease": LONG, "loop_block_limit": LONG, "shutdown_grace": 2.0, **settings}
        return Runner(
            url or self.server.url(), schema=self.schema, workflows=workflows, settings=Settings(**chosen),
            clock=clock or HandClock(), randomness=Even(),
        )  # fmt: skip

    def rows(self, text: str, *params: Any) -> list[tuple[Any, ...]]:
        return self.server.execute(text.replace("{s}", self.schema), *params)

    def leases(self) -> list[str]:
        return [runner for (runner,) in self.rows("SELECT runner FROM {s}.leases ORDER BY runner")]

    def locks(self) -> list[int]:
        """The keys of leases whose locks are there."""
        return [
            key
            for (key,) in self.rows(
                "SELECT locked FROM {s}.leases JOIN pg_locks ON locktype = 'advisory' AND objsubid = 1"
                " AND (classid::bigint << 32) | objid::bigint = locked"
            )
        ]

    def passed(self) -> bool:
        """True if a lease has run out."""
        return bool(self.rows("SELECT 1 FROM {s}.leases WHERE expires < extract(epoch FROM now()) * 1e6"))

    def state(self, runner: str) -> str:
        [(state,)] = self.rows("SELECT state FROM {s}.runners WHERE id = %s", runner)
        return str(state)


@pytest.fixture
def place(postgres: PostgresServer, schema: str) -> Place:
    return Place(postgres, schema)


def one(body: Any, name: str = "one", **options: Any) -> Workflow:
    return Workflow(name, [task(body, id="it", **options)])


def reasons(result: Any) -> list[tuple[AttemptState, Reason | None]]:
    return [(attempt.state, attempt.reason) for attempt in result.tasks["it"].history]


async def look(runner: Runner, clock: HandClock, times: int = 1) -> None:
    """Let so many chances to look at others go by."""
    engine: Any = runner._engine
    service = engine._services[0]
    for _ in range(times):
        clock.advance(engine._recovery._observer.interval)
        await until(lambda: service._task is None, "the end of the look")


def peers(runner: Runner) -> int:
    """How many others a runner knows to be alive."""
    engine: Any = runner._engine
    return int(engine._recovery.peers)


@contextlib.asynccontextmanager
async def crashing(runner: Runner) -> AsyncIterator[Runner]:
    await runner.start()
    try:
        yield runner
    finally:
        await crash(runner)


# What lies on the server.


async def test_a_lease_and_its_lock_are_there_as_long_as_the_runner(place: Place) -> None:
    async with place.runner() as runner, Client(place.server.url(), schema=place.schema):
        assert place.leases() == [runner.id], "a client has none"
        assert len(place.locks()) == 1
    assert place.leases() == []


async def test_it_is_renewed(place: Place) -> None:
    async with place.runner(lease=0.3) as runner:

        def expires() -> int:
            [(time,)] = place.rows("SELECT expires FROM {s}.leases WHERE runner = %s", runner.id)
            return int(time)

        before = expires()
        await until(lambda: expires() > before + 500_000)


async def test_a_killed_connection_is_made_again_under_the_same_id(place: Place) -> None:
    gate = Gate()
    async with place.runner(one(gate.pass_through)) as runner, place.runner() as other:
        handle = await runner.submit("one")
        await gate.reached()
        ids, keys = (runner.id, other.id), place.locks()
        for _ in range(3):
            place.server.kill_backends(LEASES)
            await until(lambda keys=keys: len(place.locks()) == 2 and not set(keys) & set(place.locks()))  # type: ignore[misc]
            keys = place.locks()
        gate.open()
        assert reasons(await other.result(handle.id, timeout=20)) == [(AttemptState.COMPLETED, None)]
        assert (runner.id, other.id) == ids


async def test_a_lock_that_somebody_else_holds_leaves_the_lease_to_decide(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cloacina.engine.liveness.server.lease.lock_key", lambda *of: 7)
    with psycopg.connect(place.server.socket_url(), autocommit=True) as stranger:
        stranger.execute("SELECT pg_advisory_lock(7)")
        async with place.runner() as runner:
            assert place.rows("SELECT runner, locked FROM {s}.leases") == [(runner.id, None)]


# What others see.


async def test_who_died_is_dead_at_the_second_look(place: Place) -> None:
    gate, clock = Gate(), HandClock()
    async with place.runner(clock=clock) as survivor:
        async with crashing(place.runner(one(gate.pass_through))) as dying:
            handle = await dying.submit("one")
            await gate.reached()
            await until(lambda: peers(survivor) == 1)
        await until(lambda: len(place.locks()) == 1)
        await look(survivor, clock, EVERY)
        assert place.state(dying_id(dying)) == "alive"
        await look(survivor, clock)
        assert place.state(dying_id(dying)) == "dead"
        gate.open()
        await survivor.register(one(gate.pass_through))
        result = await survivor.result(handle.id, timeout=20)
        assert place.leases() == [survivor.id]
    assert reasons(result) == [(AttemptState.INTERRUPTED, Reason.CRASH), (AttemptState.COMPLETED, None)]


async def test_who_starts_watches_for_a_while_before_it_buries_anybody(place: Place) -> None:
    gate, clock = Gate(), HandClock()
    gate.open()
    async with crashing(place.runner()) as dying:
        await dying.submit(one(gate.pass_through))
        dead = dying.id
    await until(lambda: place.locks() == [])
    async with place.runner(one(gate.pass_through), clock=clock) as survivor:
        await look(survivor, clock, EVERY - 1)
        assert place.state(dead) == "alive"
        await look(survivor, clock)
        assert place.state(dead) == "dead"


async def test_who_stands_still_is_dead_when_its_lease_has_passed(place: Place) -> None:
    gate, clock = Gate(), HandClock()
    async with place.runner(lease=0.4) as frozen, place.runner(clock=clock) as survivor:
        handle, id = await frozen.submit(one(gate.pass_on_thread)), frozen.id
        await gate.reached()
        await freeze(frozen)
        await until(place.passed)
        await look(survivor, clock, EVERY + 1)
        assert place.state(id) == "dead"
        await survivor.register(one(gate.pass_on_thread))
        await gate.reached(2)
        gate.open()
        result = await survivor.result(handle.id, timeout=20)
        lose(frozen)
        assert (await asyncio.wait_for(frozen.result(handle.id), 20)) == result
        await until(lambda: frozen.id != id)
    assert reasons(result) == [(AttemptState.INTERRUPTED, Reason.LOST_LEASE), (AttemptState.COMPLETED, None)]


async def freeze(runner: Runner) -> None:
    """The lock stays, and nothing is renewed any more."""
    lease: Any = runner._engine.life.lease

    async def stop() -> None:
        lease._keeping.cancel()

    await lease._session.call(stop())
    lease.look = nobody


async def nobody() -> None:
    """A look that shows nothing, and renews nothing."""


async def test_who_gives_up_is_dead_at_the_first_look(place: Place) -> None:
    gate, clock = Gate(), HandClock()
    gate.open()
    async with (
        place.runner(one(gate.pass_through), clock=clock) as survivor,
        crashing(place.runner()) as other,
    ):
        await until(lambda: peers(survivor) == 1)
        await freeze(other)
        place.rows("UPDATE {s}.leases SET given_up = true WHERE runner = %s", other.id)
        await look(survivor, clock, EVERY)
        assert place.state(other.id) == "dead"
        assert place.leases() == [survivor.id]


@pytest.mark.parametrize("what", ["lease", "runner"])
async def test_a_row_that_somebody_removed_is_no_way_to_be_forgotten(what: str, place: Place) -> None:
    """A dead runner without a lease, or a lease without a runner: what it owned is freed all the same."""
    gate, clock = Gate(), HandClock()
    async with place.runner(clock=clock) as survivor:
        async with crashing(place.runner(one(gate.pass_through))) as dying:
            handle = await dying.submit("one")
            await gate.reached()
            await until(lambda: peers(survivor) == 1)
        await until(lambda: len(place.locks()) == 1)
        place.rows(
            f"DELETE FROM {{s}}.{what}s WHERE {'runner' if what == 'lease' else 'id'} = %s", dying_id(dying)
        )
        await look(survivor, clock, EVERY + 1)
        gate.open()
        await survivor.register(one(gate.pass_through))
        assert (await survivor.result(handle.id, timeout=20)).status is COMPLETED
        assert place.leases() == [survivor.id]


def dying_id(runner: Runner) -> str:
    return runner._engine.life.runner


async def test_several_may_bury_one(place: Place) -> None:
    gate, clocks = Gate(), [HandClock() for _ in range(3)]
    async with contextlib.AsyncExitStack() as stack:
        async with crashing(place.runner(one(gate.pass_through))) as dying:
            handles = [await dying.submit("one") for _ in range(20)]
            await gate.reached(20)
            sweepers = [
                await stack.enter_async_context(place.runner(one(gate.pass_through), clock=clock))
                for clock in clocks
            ]
        await until(lambda: len(place.locks()) == 3)
        for _ in range(2 * EVERY):
            await asyncio.gather(*(look(*both) for both in zip(sweepers, clocks, strict=True)))
        assert place.state(dying_id(dying)) == "dead"
        gate.open()
        results = [await sweepers[0].result(handle.id, timeout=20) for handle in handles]
    expected = [(AttemptState.INTERRUPTED, Reason.CRASH), (AttemptState.COMPLETED, None)]
    assert [reasons(result) for result in results] == [expected] * 20


async def test_a_suspect_that_just_writes_keeps_nobody_waiting(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    """Its row is locked: it is looked at again later, and the writer goes on with other work."""
    gate, clock = Gate(), HandClock()
    gate.open()
    async with place.runner(one(gate.pass_through), clock=clock) as survivor:
        async with crashing(place.runner()) as dying:
            await until(lambda: peers(survivor) == 1)
        with psycopg.connect(place.server.socket_url()) as writing:
            writing.execute(
                f"SELECT 1 FROM {place.schema}.runners WHERE id = '{dying_id(dying)}' FOR KEY SHARE"
            )
            await look(survivor, clock, EVERY + 3)
            assert (await survivor.execute("one", timeout=20)).status is COMPLETED
            assert place.state(dying_id(dying)) == "alive"
            assert "find who holds the locks" not in caplog.text
            for times in (1, 2):  # once a minute
                clock.advance(SAY_AGAIN_AFTER)
                await look(survivor, clock, 2)
                assert (
                    caplog.text.count(f"runner {dying_id(dying)} is dead, and what it owned cannot") == times
                )
        await look(survivor, clock)
        assert place.state(dying_id(dying)) == "dead"


# Its own.


@pytest.mark.parametrize(
    "text",
    [
        "DELETE FROM {s}.leases WHERE runner = %s",
        "UPDATE {s}.leases SET given_up = true WHERE runner = %s",
        "UPDATE {s}.runners SET state = 'dead' WHERE id = %s",
    ],
)
async def test_a_runner_that_was_declared_dead_learns_of_it_and_starts_anew(
    text: str, place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    gate = Gate()
    async with place.runner(one(gate.pass_through), **QUICK) as runner:
        handle = await runner.submit("one")
        await gate.reached()
        id = runner.id
        place.rows(text, id)
        await until(lambda: runner.id != id)
        gate.open()
        result = await handle.result(timeout=20)
        await until(lambda: place.leases() == [runner.id])
    assert reasons(result)[-1] == (AttemptState.COMPLETED, None)
    assert "gives up what it owns: its lease is gone" in caplog.text


async def test_a_runner_whose_connection_was_lost_learns_at_the_next_that_it_was_declared_dead(
    place: Place,
) -> None:
    async with place.runner() as runner:
        id = runner.id
        place.rows("DELETE FROM {s}.leases")
        await cut_off(runner)
        await until(lambda: runner.id != id)


async def test_a_loop_that_is_blocked_gives_its_lease_up_and_names_the_body(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    clock, starts = HandClock(), list[str]()
    workflow = Workflow("blocking")

    @workflow.task
    async def hog(ctx: Context) -> None:
        starts.append(runner.id)
        if len(starts) == 1:
            await asyncio.sleep(0)
            clock.advance(61)
            while not place.rows("SELECT 1 FROM {s}.leases WHERE given_up"):
                pass
            await asyncio.Event().wait()

    async with place.runner(clock=clock, loop_block_limit=0.06) as runner:
        handle = await runner.submit(workflow)
        result = await handle.result(timeout=20)
    assert len(set(starts)) == len(starts) == 2
    assert [attempt.reason for attempt in result.tasks["hog"].history] == [Reason.LOST_LEASE, None]
    assert f"by task 'hog' of execution {handle.id}" in caplog.text


async def test_no_body_starts_on_a_lease_that_has_passed_before_it_is_renewed(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    gate, clock = Gate(), HandClock()
    gate.open()
    async with place.runner(clock=clock, lease=100.0) as runner:
        id = runner.id
        clock.advance(200)
        handle = await runner.submit(one(gate.pass_through))
        await until(lambda: "a body was not started" in caplog.text)
        for _ in range(3):
            clock.advance(1)
            await turn()
        assert gate.entered == 0
        assert not runner._engine.life.lease.fresh()
        await cut_off(runner)  # the next connection renews it
        await until(runner._engine.life.lease.fresh)
        clock.advance(1)
        assert (await handle.result(timeout=20)).status is COMPLETED
        assert runner.id == id


async def test_a_body_that_waits_for_its_lease_can_be_cancelled(place: Place) -> None:
    gate, clock = Gate(), HandClock()
    gate.open()
    async with place.runner(clock=clock, lease=100.0) as runner:
        clock.advance(200)
        handle = await runner.submit(one(gate.pass_through))
        assert await handle.cancel() is ExecutionStatus.CANCELLED
        await cut_off(runner)
        await until(runner._engine.life.lease.fresh)
        clock.advance(1)
        assert (await runner.execute("one", timeout=20)).status is COMPLETED
    assert gate.entered == 1


async def test_an_outage_ends_no_runner_and_results_wait_for_its_end(
    own_postgres: Callable[..., PostgresServer], caplog: pytest.LogCaptureFixture
) -> None:
    place, gate, clock = Place(own_postgres(), "here"), Gate(), HandClock()
    async with place.runner(one(gate.pass_through), clock=clock, lease=0.3) as runner:
        handle, id = await runner.submit("one"), runner.id
        await gate.reached()
        for mode in ("fast", "immediate"):
            await asyncio.to_thread(place.server.stop, mode)
            clock.advance(60)
            gate.open()
            await until(lambda: not runner._engine.life.lease.fresh())
            await asyncio.to_thread(place.server.start)
            await until(runner._engine.life.lease.fresh)
        assert reasons(await handle.result(timeout=20)) == [(AttemptState.COMPLETED, None)]
        assert (runner.id, place.leases(), len(place.locks())) == (id, [id], 1)
    assert "gives up" not in caplog.text


async def test_a_shutdown_in_an_outage_comes_to_an_end(own_postgres: Callable[..., PostgresServer]) -> None:
    place, gate = Place(own_postgres(), "here"), Gate()
    async with place.runner(one(gate.pass_through), shutdown_grace=0.1) as runner:
        await runner.submit("one")
        await gate.reached()
        await asyncio.to_thread(place.server.stop)
    gate.open()
    async with Client(await started(place), schema="here") as client:
        await asyncio.to_thread(place.server.stop)
        client._asked().bell._hear()  # type: ignore[attr-defined]


async def started(place: Place) -> str:
    await asyncio.to_thread(place.server.start)
    return place.server.url()


# Hearing each other.


async def test_who_waits_and_who_has_room_is_told_at_once(place: Place) -> None:
    """No clock moves: nobody polls."""
    gate = Gate()
    async with (
        place.runner(one(gate.pass_through)) as worker,
        Client(place.server.url(), schema=place.schema) as client,
    ):
        handle = await client.submit("one")
        await gate.reached()
        assert await client.cancel(handle.id) is ExecutionStatus.CANCELLED, "an owner obeys"
        handle = await client.submit("one")
        waiting = asyncio.ensure_future(client.result(handle.id))
        await gate.reached(2)
        await until(lambda: client._asked().hub.stored)
        gate.open()
        assert (await asyncio.wait_for(waiting, 20)).status is COMPLETED
        async with place.runner() as other:
            assert (await other.result((await worker.submit("one")).id, timeout=20)).status is COMPLETED


async def test_what_is_given_back_is_taken_at_once(place: Place) -> None:
    gate = Gate()
    workflow = one(gate.pass_through)
    async with place.runner(workflow) as other:
        async with place.runner(workflow, shutdown_grace=0.0) as leaving:
            handle = await leaving.submit("one")
            await gate.reached()
        await gate.reached(2)
        gate.open()
        assert (await other.result(handle.id, timeout=20)).status is COMPLETED


async def test_after_the_listener_was_killed_what_was_missed_is_found(place: Place) -> None:
    gate = Gate()
    gate.open()
    async with (
        place.runner(one(gate.pass_through)) as worker,
        Client(place.server.url(), schema=place.schema) as client,
    ):
        for _ in range(5):
            place.server.kill_backends(LEASES)
            handle = await client.submit("one")
            assert (await client.result(handle.id, timeout=20)).status is COMPLETED
        assert worker.id


async def test_a_ring_that_is_lost_costs_time_only(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    async def lost(session: Leases) -> None: ...

    gate, clock = Gate(), HandClock()
    gate.open()
    async with (
        place.runner(one(gate.pass_through), clock=clock) as runner,
        Client(place.server.url(), schema=place.schema) as client,
    ):
        await settled(runner._engine)
        monkeypatch.setattr(Leases, "ring", lost)
        handle = await client.submit("one")
        clock.advance(SELDOM - 1)
        await settled(runner._engine)
        assert gate.entered == 0
        clock.advance(1)
        await gate.reached()
        assert await client.status(handle.id) is not ExecutionStatus.PENDING


async def test_a_flood_of_rings_by_a_stranger_has_no_effect(place: Place) -> None:
    """Even if he knew the channel, whose name is a secret that he cannot read: it costs a look now and then."""
    place.rows("CREATE ROLE stranger_{s} LOGIN PASSWORD 'x'")
    gate = Gate()
    async with place.runner(one(gate.pass_through)) as runner:
        engine: Any = runner._engine
        looks, look_around = 0, engine.access.bell._rung

        async def counted() -> None:
            nonlocal looks
            looks += 1
            await look_around()

        engine.access.bell._rung = counted
        channel = engine.access.bell._session.leases._channel
        url = place.server.url(user=f"stranger_{place.schema}", password="x")
        rung = 4_000

        def flood() -> None:
            with psycopg.connect(url, autocommit=True) as stranger:
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    stranger.execute(f"SELECT * FROM {place.schema}.meta".encode())
                for name in ("c_guessed", channel):
                    stranger.execute(
                        "SELECT pg_notify(%s, n::text) FROM generate_series(1, %s) n", (name, rung)
                    )

        await asyncio.to_thread(flood)
        handle = await runner.submit("one")
        await until(lambda: looks)
        gate.open()
        assert (await handle.result(timeout=20)).status is COMPLETED
        assert 0 < looks < rung / 20
    place.rows("DROP ROLE stranger_{s}")


async def test_a_network_that_swallows_everything_is_noticed_and_left(
    place: Place, proxied: Callable[..., TcpProxy], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No reset, no end: what is asked has no answer. The session on a new connection is as good as the old one."""
    monkeypatch.setattr(leases, "DEADLINE", 0.2)
    monkeypatch.setattr(leases, "CLOSE_PATIENCE", 0.05)
    proxy = proxied(place.server)
    async with place.runner(url=proxy.url(), lease=0.3) as runner, place.runner() as other:
        session: Any = runner._engine._presence._session
        id = runner.id
        proxy.blackhole()
        await until(lambda: session.leases is None, "the loss")
        proxy.cut()
        proxy.heal()
        await until(lambda: session.listening, "a new connection")
        assert runner.id == id
        assert set(place.leases()) == {id, other.id}


# Without a session.


async def test_behind_a_pooler_the_lease_alone_decides_and_everybody_looks_for_himself(
    place: Place, pgbouncer: PgBouncer, caplog: pytest.LogCaptureFixture
) -> None:
    gate, clock, url = Gate(), HandClock(), pgbouncer.url()
    async with place.runner(clock=clock, url=url) as survivor:
        assert caplog.text.count("behind a pooler") == 1
        async with crashing(place.runner(one(gate.pass_through), lease=0.5, url=url)) as dying:
            handle = await dying.submit("one")
            await gate.reached()
            assert place.rows("SELECT DISTINCT locked FROM {s}.leases") == [(None,)]
            clock.advance(1)  # nobody is heard: it looks
            await until(lambda: peers(survivor) == 1)
        await until(place.passed)
        await look(survivor, clock, EVERY + 1)
        gate.open()
        await survivor.register(one(gate.pass_through))
        result = await survivor.result(handle.id, timeout=20)
    assert reasons(result) == [(AttemptState.INTERRUPTED, Reason.LOST_LEASE), (AttemptState.COMPLETED, None)]
    assert place.leases() == []


async def test_who_is_heard_hears_those_behind_a_pooler(place: Place, pgbouncer: PgBouncer) -> None:
    gate = Gate()
    gate.open()
    async with (
        place.runner(one(gate.pass_through)),
        Client(pgbouncer.url(), schema=place.schema, settings=Settings(poll_interval=0.05)) as client,
    ):
        assert (await client.execute("one", timeout=20)).status is COMPLETED


# What it costs.


class Counted:
    """A store that counts what it is asked."""

    def __init__(self, inner: Any, asked: list[str]) -> None:
        self._inner, self._asked = inner, asked

    def __getattr__(self, name: str) -> Any:
        self._asked.append(name)
        return getattr(self._inner, name)


@pytest.mark.parametrize("others", [0, 2])
async def test_an_idle_minute_has_few_statements(
    others: int, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Six renewals come to these where a runner is alone; beside others its looks renew its lease."""
    asked, clock = list[str](), HandClock()
    gate = Gate()
    gate.open()
    async with contextlib.AsyncExitStack() as stack:
        runner = await stack.enter_async_context(place.runner(one(gate.pass_through), clock=clock))
        for _ in range(others):
            await stack.enter_async_context(place.runner())
        engine: Any = runner._engine
        for _ in range(4):  # what became due as they came
            clock.advance(2)
            await settled(engine)
        assert peers(runner) == others
        for thread in (engine.means.writer, engine.means.reader):
            thread._store = Counted(thread._store, asked)
        run = Leases._run

        async def counted(session: Leases, text: str, *params: object) -> Any:
            asked.append(text.split()[0])
            return await run(session, text, *params)

        monkeypatch.setattr(Leases, "_run", counted)
        for _ in range(120):
            clock.advance(0.5)
            await settled(engine)
        monkeypatch.undo()
        for thread in (engine.means.writer, engine.means.reader):
            thread._store = thread._store._inner
    counts = [name for name in asked if name != "checkpoint_if_due"]
    assert len(counts) <= (26 if others else 6), counts
    assert "recover" not in counts and "commit" not in counts


async def settled(engine: Any) -> None:
    """All that the clock began has come to its end."""
    parts = [(service, "_task") for service in engine._services] + [(engine.access.bell, "_answering")]
    await until(lambda: all(getattr(part, name) is None for part, name in parts), "the end of the looks")
    for _ in range(2):
        await engine.means.writer.run(lambda store: None)
        await engine.means.reader.run(lambda store: None)
        await turn()


def test_the_observer_keeps_the_promise() -> None:
    """Found dead 3 + 1.5 s after a death at most, with the usual interval."""
    observer = ServerObserver(Any, lambda: None, Any, Settings())  # type: ignore[arg-type]
    assert (EVERY + 1) * observer.interval == 4.5
