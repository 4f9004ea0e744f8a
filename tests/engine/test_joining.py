"""Joining the caller's transaction: what it commits is there and runs, what it rolls back never was."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import AsyncIterator
from typing import Any

import psycopg
import pytest
import sqlalchemy

from acceptance.support.campaign import campaign
from cloacina import BlockingClient, BlockingRunner, Client, Context, Runner, Settings, Workflow
from cloacina.engine.asking.intake import KEY_PATIENCE, KEY_PAUSE
from cloacina.engine.asking.submission import SubmitOptions, new_row
from cloacina.errors import (
    ContextError,
    ExecutionNotFound,
    IdempotencyConflict,
    KeyBusy,
    QueueFull,
    ValidationError,
)
from cloacina.store.payloads import Checksum, Compression, Payloads
from cloacina.store.postgres.joining.connections import recognised
from cloacina.store.postgres.leases import channel
from cloacina.store.script import Rows, run
from support.callers import AWAITED, BLOCKING, KINDS, Caller, caller
from support.clock import HandClock, until
from support.postgres.bouncer import PgBouncer
from support.postgres.server import PostgresServer
from support.runners import crash
from support.stores import interfere

echo = Workflow("echo")
AWKWARD = {"text": "é ' \" % %s :p1 $1 \\ \u0001 \U0001f600", "list": [None, 1.5, True]}
WAIT_LITTLE = "SELECT set_config('lock_timeout', '50ms', true)"


@echo.task
async def say(ctx: Context) -> None: ...


@pytest.fixture
async def runner(postgres: PostgresServer, schema: str) -> AsyncIterator[Runner]:
    async with Runner(postgres.url(), schema=schema, workflows=[echo]) as runner:
        yield runner


@pytest.fixture
def ids(postgres: PostgresServer, schema: str) -> Any:
    """Looks which executions are stored."""
    return lambda: {id for (id,) in postgres.execute(f"SELECT id FROM {schema}.executions")}


@pytest.mark.parametrize("kind", KINDS)
async def test_it_shares_the_fate_of_the_transaction(
    kind: str, postgres: PostgresServer, schema: str, runner: Runner, ids: Any
) -> None:
    postgres.execute(f"CREATE TABLE {schema}.orders (id bigint)")
    ordered = f"INSERT INTO {schema}.orders VALUES (1) RETURNING id"
    async with caller(kind, postgres.url()) as given:
        await given.rows(ordered)
        never = await runner.submit(echo, AWKWARD, connection=given.connection)
        many = await runner.submit_many(echo, [{}] * 3, connection=given.connection)
        for handle in (never, *many):
            with pytest.raises(ExecutionNotFound, match="joined a transaction"):
                await handle.result()
        await given.rollback()
    assert ids() == set()
    async with caller(kind, postgres.url()) as given:
        await given.rows(ordered)
        plain = await runner.submit(echo, AWKWARD, priority=3, tags=["a"], connection=given.connection)
        keyed = await runner.submit("echo", {"n": 1}, key="k", connection=given.connection)
        assert (await runner.submit(echo, {"n": 1}, key="k", connection=given.connection)).id == keyed.id
        many = await runner.submit_many(echo, [AWKWARD] * 3, connection=given.connection)
        await given.commit()
    assert ids() == {handle.id for handle in (plain, keyed, *many)}
    for handle in (plain, *many):
        assert (await handle.result()).context.to_dict() == AWKWARD
    (listed,) = await runner.list(tag="a")
    assert (listed.id, listed.priority) == (plain.id, 3)
    assert (await runner.submit(echo, {"n": 1}, key="k")).id == keyed.id
    assert postgres.execute(f"SELECT id FROM {schema}.orders") == [(1,)]


@pytest.mark.parametrize("times", [2, campaign(84)])  # 84 of each kind are a good thousand
async def test_what_is_stored_is_what_was_committed(
    times: int, postgres: PostgresServer, runner: Runner, ids: Any
) -> None:
    rng = random.Random(times)
    committed: set[str] = set()
    for kind in rng.sample(KINDS * times, len(KINDS) * times):
        async with caller(kind, postgres.url()) as given:
            made: set[str] = set()
            for _ in range(rng.randint(1, 3)):
                if rng.random() < 0.3:
                    handles = await runner.submit_many(
                        echo, [{}] * rng.randint(1, 20), connection=given.connection
                    )
                    made |= {handle.id for handle in handles}
                else:
                    key = f"key {rng.randrange(10)}" if rng.random() < 0.5 else None
                    made.add((await runner.submit(echo, {}, key=key, connection=given.connection)).id)
            if rng.random() < 0.5:
                await given.commit()
                committed |= made
            elif rng.random() < 0.5:
                await given.rollback()  # else its connection is closed
    assert ids() == committed
    for id in committed:
        await runner.result(id)


async def test_the_runners_hear_of_it_at_the_commit(
    postgres: PostgresServer, schema: str, runner: Runner
) -> None:
    [(bell,)] = postgres.execute(f"SELECT value FROM {schema}.meta WHERE key = 'bell'")
    with psycopg.connect(postgres.url(), autocommit=True) as ear:
        ear.execute(f"LISTEN {channel(bell)}")
        for ends in (Caller.rollback, Caller.commit):
            async with caller("asyncpg", postgres.url()) as given:
                [(pid,)] = await given.rows("SELECT pg_backend_pid()")
                await runner.submit(echo, connection=given.connection)
                await ends(given)
        heard = [(notice.payload, notice.pid) for notice in ear.notifies(timeout=10, stop_after=1)]
    assert heard[0] == ("", pid)


async def test_a_transaction_through_a_pooler(pgbouncer: PgBouncer, runner: Runner, ids: Any) -> None:
    async with caller("psycopg", pgbouncer.url()) as given:
        await runner.submit(echo, key="k", connection=given.connection)
        await given.rollback()
        handle = await runner.submit(echo, key="k", connection=given.connection)
        await given.commit()
        await handle.result()
    assert ids() == {handle.id}


# What is refused leaves the transaction as it was.


async def goes_on(given: Caller, runner: Runner, ids: Any, *joined: str) -> None:
    """The transaction of ``given``, with what ``joined`` it before, can be used and committed; no more is stored."""
    before = ids()
    handle = await runner.submit(echo, connection=given.connection)
    await given.commit()
    assert ids() == before | {handle.id, *joined}


@pytest.mark.parametrize("kind", KINDS)
async def test_a_key_that_another_transaction_stores(
    kind: str, postgres: PostgresServer, runner: Runner, ids: Any
) -> None:
    async with caller("asyncpg", postgres.url()) as first, caller(kind, postgres.url()) as second:
        await runner.submit(echo, {"n": 1}, key="k", connection=first.connection)
        await second.rows(WAIT_LITTLE)
        with pytest.raises(KeyBusy, match="'k'"):
            await runner.submit(echo, {"n": 1}, key="k", connection=second.connection)
        assert await second.rows("SELECT current_setting('lock_timeout')") == [("50ms",)]
        await first.commit()
        with pytest.raises(IdempotencyConflict):
            await runner.submit(echo, {"n": 2}, key="k", connection=second.connection)
        await goes_on(second, runner, ids)


async def test_two_transactions_that_want_each_others_keys(
    postgres: PostgresServer, runner: Runner, ids: Any
) -> None:
    async with caller("asyncpg", postgres.url()) as one, caller("psycopg", postgres.url()) as other:
        first = await runner.submit(echo, key="a", connection=one.connection)
        second = await runner.submit(echo, key="b", connection=other.connection)
        ends = await asyncio.gather(
            runner.submit(echo, key="b", connection=one.connection),
            runner.submit(echo, key="a", connection=other.connection),
            return_exceptions=True,
        )
        assert [type(end) for end in ends] == [KeyBusy, KeyBusy]
        for given, handle in ((one, first), (other, second)):
            assert await given.rows("SELECT current_setting('lock_timeout')") == [("0",)]
            await goes_on(given, runner, ids, handle.id)


@pytest.mark.parametrize(("own", "used"), [("0", "2s"), ("50ms", "50ms"), ("1min", "2s")])
async def test_a_key_is_not_waited_for_longer_than_the_session_waits(
    own: str, used: str, postgres: PostgresServer, runner: Runner
) -> None:
    row = new_row("echo", echo.version, "{}", SubmitOptions(key="k"), 1)
    script = (await runner._engine._storage.joining()).insert_unowned([row])
    answers: list[Rows] = []
    async with caller("psycopg", postgres.url()) as given:
        await given.rows(f"SELECT set_config('lock_timeout', '{own}', true)")
        connection: Any = recognised(given.connection)

        def fetch(text: str, values: tuple[str, ...]) -> Rows:
            answers.append(connection.fetch(text, values))
            return answers[-1]

        assert run(script, fetch) == [None]
        assert [(own, used)] in answers
        assert await given.rows("SELECT current_setting('lock_timeout')") == [(own,)]


async def test_what_the_connection_raises_is_passed_on(
    postgres: PostgresServer, runner: Runner, ids: Any
) -> None:
    """Whoever repeats transactions that cannot be serialised looks for his driver's error."""
    async with caller("psycopg", postgres.url()) as given:
        given.connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        await given.rows("SELECT 1")
        await runner.submit(echo, key="k")
        with pytest.raises(psycopg.errors.SerializationFailure):
            await runner.submit(echo, key="k", connection=given.connection)
        await goes_on(given, runner, ids)


@pytest.mark.parametrize("kind", KINDS)
async def test_another_database(
    kind: str, postgres: PostgresServer, schema: str, runner: Runner, ids: Any
) -> None:
    elsewhere = postgres.create_database(f"{schema}_{KINDS.index(kind)}")

    async def refused(why: str) -> None:
        async with caller(kind, elsewhere) as given:
            for options in ({}, {"key": "k"}):
                with pytest.raises(ValidationError, match=why) as error:
                    await runner.submit(echo, connection=given.connection, **options)
                assert postgres.password not in str(error.value)
            assert await given.rows("SELECT 1") == [(1,)]

    await refused(f"without our schema {schema}")
    async with Runner(elsewhere, schema=schema):
        await refused("another database")
    assert ids() == set()
    with psycopg.connect(elsewhere) as there:
        assert there.execute(f"SELECT count(*) FROM {schema}.executions").fetchall() == [(0,)]


async def test_a_role_without_the_rights(
    postgres: PostgresServer, schema: str, runner: Runner, ids: Any
) -> None:
    role = f"role_of_{schema}"
    postgres.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'w'")
    grants = [
        f"USAGE ON SCHEMA {schema}",
        f"SELECT ON {schema}.meta",
        f"SELECT, INSERT ON {schema}.executions",
    ]
    try:
        for grant in grants:
            async with caller("asyncpg", postgres.url(user=role, password="w")) as given:
                with pytest.raises(ValidationError, match="rights"):
                    await runner.submit(echo, connection=given.connection)
                assert await given.rows("SELECT 1") == [(1,)]
            postgres.execute(f"GRANT {grant} TO {role}")
        async with caller("asyncpg", postgres.url(user=role, password="w")) as given:
            await goes_on(given, runner, ids)
    finally:
        postgres.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")


async def test_a_bad_submit(postgres: PostgresServer, schema: str) -> None:
    settings = Settings(max_pending=1, window=1)
    async with (
        Runner(postgres.url(), schema=schema, workflows=[echo], settings=settings) as runner,
        caller("asyncpg", postgres.url()) as given,
    ):
        with pytest.raises(ContextError):
            await runner.submit(echo, {"n": object()}, connection=given.connection)
        with pytest.raises(ValidationError, match="no workflow|not a workflow|known|registered"):
            await runner.submit("nobody", connection=given.connection)
        with pytest.raises(QueueFull):
            await runner.submit_many(echo, [{}] * 2, connection=given.connection)
        handle = await runner.submit(echo, connection=given.connection)
        await given.commit()
        await handle.result()


@pytest.mark.parametrize("kind", ["asyncpg", "psycopg", "psycopg async", "alchemy", "alchemy async"])
async def test_a_connection_outside_of_a_transaction(
    kind: str, postgres: PostgresServer, runner: Runner, ids: Any
) -> None:
    import asyncpg
    from sqlalchemy.ext.asyncio import create_async_engine

    url, alchemy = postgres.url(), postgres.url().replace("postgresql", "postgresql+psycopg", 1)
    connection: Any
    if kind == "asyncpg":
        connection = await asyncpg.connect(url)
    elif kind == "psycopg":
        connection = psycopg.connect(url, autocommit=True)
    elif kind == "psycopg async":
        connection = await psycopg.AsyncConnection.connect(url, autocommit=True)
    elif kind == "alchemy":
        connection = sqlalchemy.create_engine(alchemy, isolation_level="AUTOCOMMIT").connect()
    else:
        connection = await create_async_engine(alchemy, isolation_level="AUTOCOMMIT").connect()
    try:
        with pytest.raises(ValidationError, match="not inside a transaction"):
            await runner.submit(echo, connection=connection)
    finally:
        if asyncio.iscoroutine(closing := connection.close()):
            await closing
        if (engine := getattr(connection, "engine", None)) is not None and asyncio.iscoroutine(
            disposing := engine.dispose()
        ):
            await disposing
    assert ids() == set()


async def test_what_is_no_connection(postgres: PostgresServer, runner: Runner) -> None:
    engine = sqlalchemy.create_engine("sqlite://")
    with pytest.raises(ValidationError, match="leads to sqlite"), engine.connect() as connection:
        await runner.submit(echo, connection=connection)
    engine.dispose()
    for wrong in (postgres.url(), engine, 7, True):
        with pytest.raises(ValidationError, match="an asyncpg Connection") as error:
            await runner.submit(echo, connection=wrong)  # type: ignore[arg-type]
        assert postgres.password not in str(error.value)


# Nobody waits.


async def test_an_open_transaction_stalls_nobody(
    postgres: PostgresServer, schema: str, runner: Runner
) -> None:
    def another() -> Runner:
        return Runner(postgres.url(), schema=schema, workflows=[echo])

    async with caller("asyncpg", postgres.url()) as open_one, caller("psycopg", postgres.url()) as other:
        stays = [await runner.submit(echo, key=key, connection=open_one.connection) for key in (None, "open")]
        stays += await runner.submit_many(echo, [{}] * 100, connection=open_one.connection)
        busy = asyncio.create_task(runner.submit(echo, key="open"))
        for key in (None, "key"):
            await runner.execute(echo, key=key)
        for handle in await runner.submit_many(echo, [{}] * 100):
            await handle.result()
        joined = await runner.submit(echo, key="other", connection=other.connection)
        await other.commit()
        retried = await (await joined.result() and joined.fork())
        await retried.result()
        assert await joined.cancel() == "completed"
        await runner.prune()
        async with Client(postgres.url(), schema=schema) as client:
            await client.execute("echo")
        dies = another()
        await dies.start()
        await crash(dies)
        async with another() as second:
            await second.execute(echo)
        with pytest.raises(KeyBusy):
            await busy
        await open_one.commit()
    for handle in stays:
        await handle.result()


@pytest.mark.parametrize("ends", [True, False])
async def test_a_key_in_an_open_transaction_delays_no_other_key(
    ends: bool, postgres: PostgresServer, schema: str
) -> None:
    clock = HandClock()
    async with (
        Runner(postgres.url(), schema=schema, workflows=[echo], clock=clock) as runner,
        caller("asyncpg", postgres.url()) as given,
    ):
        first = await runner.submit(echo, key="k", connection=given.connection)
        wanting = [asyncio.create_task(runner.submit(echo, key="k")) for _ in range(10)]
        for number in range(5):
            await runner.submit(echo, key=f"other {number}")
        stuck = runner._engine.access.intake._keyed._stuck
        await until(lambda: len(stuck.get("k", ())) == 10)
        if ends:
            await given.commit()
        clock.advance(KEY_PAUSE if ends else KEY_PATIENCE)
        ended = await asyncio.gather(*wanting, return_exceptions=True)
        expected = [first.id] * 10 if ends else [KeyBusy] * 10
        assert [getattr(end, "id", type(end)) for end in ended] == expected


async def test_the_engines_groups_stall_no_caller(
    postgres: PostgresServer, schema: str, runner: Runner
) -> None:
    async with caller("asyncpg", postgres.url()) as first:
        await runner.submit(echo, connection=first.connection)
        await first.commit()
    held = interfere(runner).hold("commit")
    waits = asyncio.create_task(runner.execute(echo))
    await held.reached()
    handles = []
    with psycopg.connect(postgres.url()) as group:
        group.execute(f"SELECT * FROM {schema}.runners, {schema}.executions FOR UPDATE")
        for kind in ("asyncpg", "psycopg"):
            async with caller(kind, postgres.url()) as given:
                for key in (None, kind):
                    handles.append(await runner.submit(echo, key=key, connection=given.connection))
                await given.commit()
    held.release()
    for handle in handles:
        await handle.result()
    await waits


# Where the statements run.


@pytest.mark.parametrize("blocking", [True, False])
async def test_a_blocking_connection_blocks_no_loop(
    blocking: bool, postgres: PostgresServer, schema: str, runner: Runner
) -> None:
    engine = sqlalchemy.create_engine(postgres.url().replace("postgresql", "postgresql+psycopg", 1))
    threads: set[int] = set()
    sqlalchemy.event.listen(engine, "before_cursor_execute", lambda *_: threads.add(threading.get_ident()))

    def submit() -> int:
        with engine.begin() as connection:
            runner.blocking.submit(echo, key="k", connection=connection)
        return threading.get_ident()

    if blocking:
        assert threads == {await asyncio.to_thread(submit)}
    else:
        with engine.begin() as connection:
            await runner.submit(echo, key="k", connection=connection)
        assert threads and threading.get_ident() not in threads
    engine.dispose()


async def test_who_gives_up_gets_the_connection_back(postgres: PostgresServer, runner: Runner) -> None:
    async with caller("asyncpg", postgres.url()) as first, caller("psycopg", postgres.url()) as second:
        await runner.submit(echo, key="k", connection=first.connection)
        await second.rows(WAIT_LITTLE)
        giving_up = asyncio.create_task(runner.submit(echo, key="k", connection=second.connection))
        await until(lambda: second.connection.info.transaction_status.name == "ACTIVE")
        giving_up.cancel()
        with pytest.raises(asyncio.CancelledError):
            await giving_up
        assert second.connection.info.transaction_status.name == "INTRANS"


@pytest.mark.parametrize("kind", BLOCKING)
def test_the_blocking_runner_and_client(kind: str, postgres: PostgresServer, schema: str, ids: Any) -> None:
    url = postgres.url()
    with BlockingRunner(url, schema=schema, workflows=[echo]) as runner:
        with BLOCKING[kind](url) as given, BlockingClient(url, schema=schema) as client:
            handles = [
                asking.submit("echo", AWKWARD, key=key, connection=given.connection)
                for asking in (runner, client)
                for key in (None, "k")
            ]
            assert handles[1].id == handles[3].id
            with pytest.raises(IdempotencyConflict):
                client.submit("echo", key="k", connection=given.connection)
            handles += client.submit_many("echo", [{}] * 2, connection=given.connection)
            assert ids() == set()
            given._end("commit")
            for handle in handles:
                handle.result()
        with pytest.raises(ValidationError, match="joins the transaction of"):
            runner.submit(echo, connection=7)  # type: ignore[arg-type]
    assert ids() == {handle.id for handle in handles}


@pytest.mark.parametrize("kind", AWAITED)
async def test_a_blocking_call_takes_no_awaited_connection(
    kind: str, postgres: PostgresServer, runner: Runner
) -> None:
    async with caller(kind, postgres.url()) as given:
        with pytest.raises(ValidationError, match="belongs to an event loop"):
            await asyncio.to_thread(runner.blocking.submit, echo, connection=given.connection)


async def test_bodies_join_transactions(postgres: PostgresServer, schema: str) -> None:
    runner = Runner(postgres.url(), schema=schema, workflows=[echo])
    parent = Workflow("parent")

    @parent.task
    def on_a_thread(ctx: Context) -> None:
        with psycopg.connect(postgres.url()) as connection:
            ctx["first"] = runner.blocking.submit(echo, connection=connection).id

    @parent.task(dependencies=[on_a_thread])
    async def on_the_loop(ctx: Context) -> None:
        async with await psycopg.AsyncConnection.connect(postgres.url()) as connection:
            ctx["second"] = (await runner.submit(echo, connection=connection)).id

    async with runner:
        context = (await runner.execute(parent, raise_on_failure=True)).context
        for child in ("first", "second"):
            await runner.result(context[child])


# Elsewhere.


@pytest.mark.parametrize("url", ["sqlite:///work.db", "sqlite://:memory:"])
@pytest.mark.sqlite_only("there is nothing to join")
async def test_sqlite_joins_nothing(url: str, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    async with Runner(url, workflows=[echo]) as runner:
        connection = object()
        for submit in (
            runner.submit(echo, connection=connection),  # type: ignore[arg-type]
            runner.submit_many(echo, [{}], connection=connection),  # type: ignore[arg-type]
        ):
            with pytest.raises(ValidationError, match="belongs to the engine"):
                await submit
        assert await runner.list() == []


@pytest.mark.parametrize("kind", ["asyncpg", "psycopg"])
async def test_payloads_are_encoded(kind: str, postgres: PostgresServer, schema: str) -> None:
    payloads = Payloads([Compression(over=10), Checksum()])
    large = {"text": "ha" * 1000}
    async with (
        Runner(postgres.url(), schema=schema, workflows=[echo], payloads=payloads) as runner,
        caller(kind, postgres.url()) as given,
    ):
        handle = await runner.submit(echo, large, key="k", connection=given.connection)
        assert (await runner.submit(echo, large, key="k", connection=given.connection)).id == handle.id
        with pytest.raises(IdempotencyConflict):
            await runner.submit(echo, {}, key="k", connection=given.connection)
        [(text,)] = await given.rows(f"SELECT input FROM {schema}.executions")
        assert text.startswith("!z.") and len(text) < 1000
        await given.commit()
        assert (await handle.result()).context.to_dict() == large
