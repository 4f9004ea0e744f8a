"""Settlements: what becomes of a transaction when its commit fails, is unknown, comes too late, or takes long."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import asyncpg
import psycopg
import pytest

from cloacina.engine.executors.attempt import Attempt
from cloacina.errors import TransactionError
from cloacina.model.context.context import Context
from cloacina.model.context.handle import TaskHandle
from cloacina.model.status import ExecutionStatus, Reason
from cloacina.model.task import task
from cloacina.model.workflow import Workflow
from cloacina.runner import Runner
from cloacina.store.postgres.transactions import transaction
from cloacina.transaction import BlockingTransaction, Transaction
from support.clock import HandClock, turn, until
from support.postgres.bouncer import PgBouncer
from support.postgres.proxy import TcpProxy, Upstream
from support.postgres.server import PostgresServer
from support.runners import Gate, crash, lose, through
from support.transactions import AT_ONCE, SESSIONS, Ledger

pytestmark = pytest.mark.postgres_only

COMPLETED, FAILED, CANCELLED = ExecutionStatus.COMPLETED, ExecutionStatus.FAILED, ExecutionStatus.CANCELLED
DONE, LOST = ("completed", None), ("interrupted", "lost_connection")
CHECK, SETTLE, COMMIT = b"CLOACINA.MARK", b"FOR KEY SHARE", b"COMMIT\0"
LATCH = 7_100_001
"""An advisory lock: while a test holds it, a transaction that wrote a late entry waits in its COMMIT."""


@pytest.fixture
def ledger(postgres: PostgresServer, schema: str) -> Iterator[Ledger]:
    ledger = Ledger(postgres, schema)
    yield ledger
    ledger.close()


def sessions(runner: Runner) -> Any:
    """Those of a runner's transactions."""
    transactions: Any = runner._engine.life.settlements._transactions
    return transactions.sessions


@pytest.fixture
def proxy(postgres: PostgresServer, proxied: Callable[[Upstream], TcpProxy]) -> TcpProxy:
    return proxied(postgres)


class Latch:
    """Holds up every COMMIT of a transaction that wrote to the ledger, until it is opened."""

    def __init__(self, ledger: Ledger) -> None:
        self._server = ledger.server
        function = f"{ledger.schema}_own.wait"
        ledger.server.execute(
            f"CREATE FUNCTION {function}() RETURNS trigger LANGUAGE plpgsql AS"
            f" $$ BEGIN PERFORM pg_advisory_xact_lock({LATCH}); RETURN NULL; END $$"
        )
        ledger.server.execute(
            f"CREATE CONSTRAINT TRIGGER wait AFTER INSERT ON {ledger.table} DEFERRABLE INITIALLY DEFERRED"
            f" FOR EACH ROW EXECUTE FUNCTION {function}()"
        )

    async def __aenter__(self) -> Latch:
        self._holder = await asyncpg.connect(self._server.url())
        await self._holder.execute(f"SELECT pg_advisory_lock({LATCH})")
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._holder.close()

    async def open(self) -> None:
        await self._holder.execute(f"SELECT pg_advisory_unlock({LATCH})")

    async def reached(self, times: int = 1) -> None:
        waiting = f"{SESSIONS} AND query LIKE '%%COMMIT' AND wait_event_type = 'Lock'"
        await until(lambda: self._server.sessions(waiting) == times, "a COMMIT that waits")


def writing(ledger: Ledger, kind: str = "async", *more: Any, **options: Any) -> Workflow:
    """A workflow whose body writes what the input says; ``more`` are tasks beside and after it."""

    async def write(ctx: Context, tx: Transaction) -> None:
        await tx.execute(ledger.insert, ctx["entry"])
        ctx["written"] = True

    def write_on_thread(ctx: Context, tx: BlockingTransaction) -> None:
        tx.execute(ledger.insert, ctx["entry"])
        ctx["written"] = True

    body = write if kind == "async" else write_on_thread
    return Workflow("writing", [task(body, id="write", **{"retry": AT_ONCE, **options}), *more])


@pytest.mark.parametrize("kind", ["async", "def"])
@pytest.mark.parametrize("marker", [CHECK, SETTLE, COMMIT], ids=["check", "settle", "commit"])
@pytest.mark.parametrize("reached", [False, True], ids=["before", "after"])
async def test_a_lost_connection_neither_loses_nor_doubles(
    ledger: Ledger, proxy: TcpProxy, kind: str, marker: bytes, reached: bool
) -> None:
    workflow = writing(ledger, kind, task(_nothing, id="next", dependencies=["write"]), retry=1)
    applied = reached and marker == COMMIT
    entries = [f"entry {number}" for number in range(5)]
    async with ledger.runner(workflow, through=proxy) as runner:
        for entry in entries:
            fault = (proxy.cut_reply_to if reached else proxy.cut_before)(marker)
            result = await runner.execute(workflow, {"entry": entry})
            fault.wait()
            assert (result.status, result.context["written"]) == (COMPLETED, True)
    assert (ledger.entries(), ledger.together()) == (entries, True)
    assert ledger.attempts() == ([DONE] if applied else [LOST, DONE]) * len(entries)
    assert ledger.attempts("next") == [DONE] * len(entries)


@pytest.mark.parametrize("reached", [False, True], ids=["before", "after"])
async def test_a_server_that_cannot_be_asked_is_asked_until_it_answers(
    ledger: Ledger, proxy: TcpProxy, reached: bool
) -> None:
    workflow = writing(ledger)
    async with ledger.runner(workflow, through=proxy) as runner:
        await runner.execute(workflow, {"entry": "first"})
        await until(lambda: sessions(runner)._idle, "a session that is idle")
        fault = (proxy.cut_reply_to if reached else proxy.cut_before)(COMMIT)
        proxy.refuse()
        asked = runner._engine.life.settlements
        handle = await runner.submit(workflow, {"entry": "a"})
        await until(lambda: not fault.armed, "the cut")
        await until(lambda: asked._works, "the question")
        await asyncio.sleep(0.05)
        proxy.heal()
        assert (await handle.result()).status is COMPLETED
    assert ledger.entries() == ["a", "first"]
    assert ledger.attempts() == [DONE, *([DONE] if reached else [LOST, DONE])]


@pytest.mark.parametrize("isolation", ["READ COMMITTED", "REPEATABLE READ"])
@pytest.mark.parametrize("known", ["to the attempts", "to the runner's row"])
async def test_a_zombie_commits_nothing(ledger: Ledger, isolation: str, known: str) -> None:
    gate = Gate()
    starts: list[str] = []

    async def write(ctx: Context, tx: Transaction) -> None:
        starts.append("")
        await tx.execute(f"SET TRANSACTION ISOLATION LEVEL {isolation}")
        await tx.execute(ledger.insert, f"start {len(starts)}")
        await gate.pass_through(ctx)

    workflow = Workflow("writing", [task(write, id="write", retry=1)])
    async with ledger.runner(workflow) as runner:
        handle = await runner.submit(workflow)
        await gate.reached()
        before, now = runner._engine.life.runner, runner._engine.clock.now()
        if known == "to the attempts":
            freed = await through(runner, lambda store: store.recover(before, Reason.LOST_LEASE, now))
            assert freed == 1  # an open transaction delays nobody
        else:
            ledger.server.execute(
                f'SELECT 1 FROM "{ledger.schema}".runners FOR UPDATE;'
                f" UPDATE \"{ledger.schema}\".runners SET state = 'dead'"
            )  # fmt: skip
        assert ledger.entries() == []
        gate.open()
        assert (await handle.result()).status is COMPLETED
        assert runner._engine.life.runner != before
    assert ledger.entries() == ["start 2"]
    assert ledger.attempts() == [("interrupted", "lost_lease"), DONE]


async def test_nobody_is_declared_dead_between_the_fence_and_the_commit(ledger: Ledger) -> None:
    workflow = writing(ledger)
    async with Latch(ledger) as latch, ledger.runner(workflow) as runner:
        handle = await runner.submit(workflow, {"entry": "a"})
        await latch.reached()
        row = f"SELECT 1 FROM \"{ledger.schema}\".runners WHERE state = 'alive' FOR UPDATE NOWAIT"
        with pytest.raises(psycopg.errors.LockNotAvailable):
            ledger.server.execute(row)
        await latch.open()
        assert (await handle.result()).status is COMPLETED
    assert ledger.entries() == ["a"]


@pytest.mark.parametrize("moment", ["in the body", "in the commit"])
async def test_who_dies_leaves_all_or_nothing(ledger: Ledger, moment: str) -> None:
    gate = Gate()
    starts: list[str] = []

    async def write(ctx: Context, tx: Transaction) -> None:
        starts.append("")
        await tx.execute(ledger.insert, f"start {len(starts)}")
        if moment == "in the body":
            await gate.pass_through(ctx)

    workflow = Workflow("writing", [task(write, id="write", retry=1)])
    async with Latch(ledger) as latch:
        first = ledger.runner(workflow)
        await first.start()
        handle = await first.submit(workflow)
        await (gate.reached() if moment == "in the body" else latch.reached())
        dead = first._engine.life.runner
        await crash(first)
        await until(lambda: not ledger.server.sessions(f"{SESSIONS} AND state = 'idle in transaction'"))
    gate.open()
    async with ledger.runner(workflow) as second:
        now = second._engine.clock.now()
        await through(second, lambda store: store.recover(dead, Reason.CRASH, now))
        second._engine.life.claims.look_for_work()
        await second.result(handle.id)
    assert len(ledger.entries()) == 1 and ledger.together()
    assert ledger.attempts()[-1] == DONE


async def test_groups_go_on_beside_a_commit_that_takes_long(ledger: Ledger) -> None:
    gate = Gate()
    beside = task(gate.pass_through, id="beside")
    after = task(_nothing, id="after", dependencies=["write"])
    last = task(_nothing, id="last", dependencies=["beside", "after"])
    workflow, other = (
        writing(ledger, "async", beside, after, last),
        Workflow("other", [task(_nothing, id="it")]),
    )
    async with Latch(ledger) as latch, ledger.runner(workflow, other) as runner:
        handle = await runner.submit(workflow, {"entry": "a"})
        await latch.reached()
        gate.open()  # a branch of the same execution ends, and waits for its turn
        for _ in range(3):
            assert (await runner.execute(other)).status is COMPLETED
        assert ledger.attempts() == [("running", None)]
        assert (ledger.attempts("beside"), ledger.attempts("after")) == ([("running", None)], [])
        await latch.open()
        result = await handle.result()
    assert (result.status, ledger.entries(), ledger.together()) == (COMPLETED, ["a"], True)
    assert [len(task.history) for task in result.tasks.values()] == [1, 1, 1, 1]


async def test_branches_with_transactions_are_committed_one_after_the_other(ledger: Ledger) -> None:
    branches = [task(_named(ledger), id=f"branch_{number}") for number in range(6)]
    last = task(_nothing, id="last", dependencies=branches)
    workflow = Workflow("writing", [*branches, last])
    async with ledger.runner(workflow) as runner:
        result = await runner.execute(workflow)
    assert (result.status, len(ledger.entries()), ledger.together()) == (COMPLETED, 6, True)
    # Whatever else its item holds, no two entries were committed by one transaction.
    assert ledger.server.execute(f"SELECT count(DISTINCT xmin::text) FROM {ledger.table}") == [(6,)]


@pytest.mark.parametrize("what", ["cancel", "pause", "lost runner", "shutdown"])
async def test_what_comes_while_a_commit_is_under_way(ledger: Ledger, what: str) -> None:
    # A task that is to start next has a slot, for which a shutdown would wait anyway.
    more = () if what == "shutdown" else (task(_nothing, id="next", dependencies=["write"]),)
    workflow = writing(ledger, "async", *more)
    async with Latch(ledger) as latch, ledger.runner(workflow) as runner:
        handle = await runner.submit(workflow, {"entry": "a"})
        await latch.reached()
        if what == "lost runner":
            lose(runner)
            await until(lambda: not ledger.server.sessions(f"{SESSIONS} AND state = 'idle in transaction'"))
            command = None
        else:
            calls = {"cancel": handle.cancel, "pause": handle.pause, "shutdown": runner.shutdown}
            command = asyncio.ensure_future(calls[what]())
            await turn()
            assert not sessions(runner)._closed  # a shutdown waits too
        await latch.open()
        if command is not None:
            await command
        if what == "pause":
            assert ledger.attempts("next") in ([], [DONE])
            await handle.resume()
        if what != "shutdown":
            result = await handle.result()
            assert result.status is (CANCELLED if what == "cancel" else COMPLETED)
    assert ledger.entries() == ["a"] and ledger.together()
    assert ledger.attempts()[-1] == DONE


async def test_an_item_that_the_store_refuses_fails_the_task(ledger: Ledger) -> None:
    ledger.server.execute(f"CREATE SCHEMA IF NOT EXISTS {ledger.schema}")
    workflow = writing(ledger, "async", task(_nothing, id="next", dependencies=["write"]))
    async with ledger.runner(workflow) as runner:
        ledger.server.execute(
            f"ALTER TABLE \"{ledger.schema}\".attempts ADD CHECK (task <> 'write' OR delta IS NULL)"
        )
        result = await runner.execute(workflow, {"entry": "a"})
    assert (result.status, ledger.entries(), ledger.attempts()) == (FAILED, [], [("failed", None)])


@pytest.mark.parametrize("setting", ["on", "off", "remote_apply"])
async def test_a_commit_is_flushed_whatever_the_database_says(ledger: Ledger, setting: str) -> None:
    async def write(ctx: Context, tx: Transaction) -> None:
        await tx.execute(f"SET LOCAL synchronous_commit = {setting}")
        await tx.execute(ledger.insert, "a")

    workflow = Workflow("writing", [task(write, id="write")])
    async with Latch(ledger) as latch, ledger.runner(workflow) as runner:
        handle = await runner.submit(workflow)
        await latch.reached()
        said = ledger.server.execute(f"SELECT query FROM pg_stat_activity WHERE {SESSIONS}")
        await latch.open()
        assert (await handle.result()).status is COMPLETED
    assert said == [("SET LOCAL synchronous_commit = on; COMMIT" if setting == "off" else "COMMIT",)]


async def test_a_pooler_may_sit_between(ledger: Ledger, pgbouncer: PgBouncer) -> None:
    workflow = writing(ledger)
    async with ledger.runner(workflow, through=pgbouncer) as runner:
        for entry in "abc":
            result = await runner.execute(workflow, {"entry": entry})
            assert (result.status, result.tasks["write"].attempts) == (COMPLETED, 1)
    assert (ledger.entries(), ledger.together()) == (["a", "b", "c"], True)


async def test_a_body_that_ended_well_is_rolled_back_if_its_execution_is_cancelled_meanwhile(
    ledger: Ledger,
) -> None:
    left: list[asyncio.Task[Any]] = []

    async def write(ctx: Context, tx: Transaction) -> None:
        await tx.execute(ledger.insert, "a")
        left.append(asyncio.create_task(tx.execute(f"SELECT pg_advisory_xact_lock({LATCH})")))
        await asyncio.sleep(0)

    workflow = Workflow("writing", [task(write, id="write")])
    async with Latch(ledger) as latch, ledger.runner(workflow) as runner:
        handle = await runner.submit(workflow)
        await until(lambda: left, "the body")
        await handle.cancel()
        await latch.open()
        await left[0]
        assert (await handle.result()).status is CANCELLED
        await until(lambda: sessions(runner).free == 8, "the connection that is given back")
    assert (ledger.entries(), ledger.attempts()) == ([], [("cancelled", "cancelled")])


# Connections.


async def test_bodies_wait_until_there_is_a_connection(ledger: Ledger) -> None:
    gate, waiting = Gate(), Gate()
    clock = HandClock()

    async def write(ctx: Context, tx: Transaction) -> None:
        waiting.entered += 1
        await tx.execute(ledger.insert, ctx["entry"])
        await gate.pass_through(ctx)

    workflow = Workflow("writing", [task(write, id="write", timeout=5, retry=1)])
    async with ledger.runner(workflow, clock=clock, transaction_connections=2) as runner:
        first = [await runner.submit(workflow, {"entry": f"{number}"}) for number in range(2)]
        await gate.reached(2)
        more = [await runner.submit(workflow, {"entry": f"{number}"}) for number in range(2, 5)]
        await waiting.reached(5)
        assert (gate.entered, ledger.server.sessions(SESSIONS)) == (2, 2)
        explained = (await runner.explain(more[0].id)).tasks["write"]
        assert explained.endswith("waits until one of the connections for transactions is free")
        await more[1].cancel()
        clock.advance(6)  # the time of a body that waits for a connection stands still
        gate.open()
        ended = [(await handle.result()).status for handle in (*first, *more)]
        await runner._engine.life.settlements.drained()
        assert ledger.server.sessions(SESSIONS) <= 2
    assert ended == [FAILED, FAILED, COMPLETED, CANCELLED, COMPLETED]
    assert ledger.entries() == ["2", "4"]


async def test_who_still_waits_for_a_connection_when_its_body_has_failed_gets_none(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transaction, "ROLL_BACK_SECONDS", 0.01)
    gate, left = Gate(), list[asyncio.Task[Any]]()

    async def hold(ctx: Context, tx: Transaction) -> None:
        await tx.execute(ledger.insert, "held")
        await gate.pass_through(ctx)

    async def write(ctx: Context, tx: Transaction) -> None:
        left.append(asyncio.create_task(tx.execute(ledger.insert, "late")))
        await asyncio.sleep(0)
        raise ValueError

    holding, workflow = Workflow("holding", [task(hold, id="hold")]), Workflow("w", [task(write, retry=1)])
    async with ledger.runner(holding, workflow, transaction_connections=1) as runner:
        held = await runner.submit(holding)
        await gate.reached()
        assert (await runner.execute(workflow)).status is FAILED
        gate.open()
        assert (await held.result()).status is COMPLETED
        with pytest.raises(TransactionError, match="was rolled back"):
            await left[0]
        assert sessions(runner).free == 1
    assert ledger.entries() == ["held"]


async def test_a_settlement_that_stands_still_is_soon_ended_by_the_server(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has locked its runner's row: until it ends, nobody can declare the runner dead."""
    monkeypatch.setattr(transaction, "_HURRY", transaction._HURRY.replace("'5s'", "'50ms'"))
    answered, frozen = transaction.PostgresTransaction._answered, list[bool]()

    async def freeze(own: transaction.PostgresTransaction, work: Any) -> Any:
        found = await answered(own, work)
        if not frozen and isinstance(found, list) and "fenced" in found[0]:
            frozen.append(True)
            await until(lambda: not ledger.server.sessions(SESSIONS), "the end of the session")
        return found

    monkeypatch.setattr(transaction.PostgresTransaction, "_answered", freeze)
    async with ledger.runner(writing(ledger, timeout=600.0)) as runner:
        result = await runner.execute("writing", {"entry": "once"})
        assert (result.status, frozen) == (COMPLETED, [True])
    assert (ledger.entries(), ledger.together()) == (["once"], True)
    assert ledger.attempts() == [LOST, DONE]


async def test_who_waits_for_something_else_holds_no_connection(ledger: Ledger) -> None:
    clock, ready = HandClock(), False
    inner = writing(ledger)

    async def write(ctx: Context, handle: TaskHandle, tx: Transaction) -> None:
        await handle.defer_until(lambda: ready, poll_interval=5)
        await runner.execute(inner, {"entry": f"inner {ctx['entry']}"})
        await tx.execute(ledger.insert, ctx["entry"])

    outer = Workflow("outer", [task(write, id="outer")])
    async with ledger.runner(inner, outer, clock=clock, transaction_connections=1) as runner:
        handles = [await runner.submit(outer, {"entry": f"{number}"}) for number in range(3)]
        await until(lambda: len([due for due in clock.pending if due <= 5]) >= 3, "the deferrals")
        assert (await runner.execute(inner, {"entry": "between"})).status is COMPLETED
        ready = True
        clock.advance(5)
        assert [(await handle.result()).status for handle in handles] == [COMPLETED] * 3
    assert len(ledger.entries()) == 7 and ledger.together()


async def test_no_connection_is_lost_whatever_happens(ledger: Ledger, proxy: TcpProxy) -> None:
    def broken(number: int) -> str:
        return ["nothing", "raise", "commit", "error", "kill"][number % 5]

    async def write(ctx: Context, tx: Transaction) -> None:
        await tx.execute(ledger.insert, f"{ctx['number']}")
        how = broken(ctx["number"]) if len(_attempts(runner, ctx)) else "nothing"
        if how == "raise":
            raise ValueError
        if how == "commit":
            await tx.execute("ROLLBACK")
        if how == "error":
            await tx.execute("SELECT 1 / 0")
        if how == "kill":
            await tx.execute("SELECT pg_terminate_backend(pg_backend_pid())")

    workflow = Workflow("writing", [task(write, id="write", retry=1)])
    async with ledger.runner(workflow, through=proxy, transaction_connections=3) as runner:
        handles = await runner.submit_many(workflow, [{"number": number} for number in range(40)])
        ended = [(await handle.result()).status for handle in handles]
        await runner._engine.life.settlements.drained()
        assert sessions(runner).free == 3
        assert ledger.server.sessions(SESSIONS) <= 3
    assert ended == [COMPLETED if broken(number) == "nothing" else FAILED for number in range(40)]
    assert len(ledger.entries()) == 8 and ledger.together()


def _attempts(runner: Runner, ctx: Context) -> list[Attempt]:
    drivers = runner._engine.life.drivers.values()
    return [attempt for driver in drivers for attempt in driver.running.values() if attempt.context is ctx]


async def _nothing(ctx: Context) -> None: ...


def _named(ledger: Ledger) -> Callable[..., Any]:
    async def write(ctx: Context, handle: Any, tx: Transaction) -> None:
        await tx.execute(ledger.insert, handle.task)

    return write
