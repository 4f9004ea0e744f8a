"""Transactions of bodies: committed together with the completion of their task, or rolled back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import asyncpg
import pytest

from cloacina.errors import CheckpointError, PermanentError, TransactionError
from cloacina.model.context.context import Context
from cloacina.model.context.handle import TaskHandle
from cloacina.model.retry import RetryPolicy
from cloacina.model.status import ExecutionStatus
from cloacina.model.task import task
from cloacina.model.workflow import Workflow
from cloacina.store.payloads import Payloads
from cloacina.transaction import BlockingTransaction, Transaction
from support.clock import HandClock, until
from support.payloads import encryption
from support.postgres.server import PostgresServer
from support.runners import Gate
from support.transactions import AT_ONCE, SESSIONS, Ledger

pytestmark = pytest.mark.postgres_only

COMPLETED, FAILED, CANCELLED = ExecutionStatus.COMPLETED, ExecutionStatus.FAILED, ExecutionStatus.CANCELLED
DONE = ("completed", None)
KINDS = pytest.mark.parametrize("kind", ["async", "def"])


@pytest.fixture
def ledger(postgres: PostgresServer, schema: str) -> Iterator[Ledger]:
    ledger = Ledger(postgres, schema)
    yield ledger
    ledger.close()


def writing(ledger: Ledger, kind: str, then: Callable[[], object] = lambda: None, **options: Any) -> Workflow:
    """A workflow whose body writes one entry, and does ``then``."""

    async def write(ctx: Context, tx: Transaction) -> None:
        await tx.execute(ledger.insert, "a")
        ctx["seen"] = [dict(row) for row in await tx.fetch(f"SELECT entry FROM {ledger.table}")]
        then()

    def write_on_thread(ctx: Context, tx: BlockingTransaction) -> None:
        tx.execute(ledger.insert, "a")
        ctx["seen"] = [dict(row) for row in tx.fetch(f"SELECT entry FROM {ledger.table}")]
        then()

    body = write if kind == "async" else write_on_thread
    return Workflow("writing", [task(body, id="write", **{"retry": AT_ONCE, **options})])


def bare(body: Callable[..., Any], *, name: str = "writing", id: str = "write", **options: Any) -> Workflow:
    return Workflow(name, [task(body, id=id, **{"retry": AT_ONCE, **options})])


@KINDS
@pytest.mark.parametrize("payloads", [None, Payloads([encryption()])], ids=["plain", "encoded"])
async def test_what_a_body_writes_is_committed_with_its_completion(
    ledger: Ledger, kind: str, payloads: Any
) -> None:
    before: list[list[str]] = []
    workflow = writing(ledger, kind, lambda: before.append(ledger.entries()))
    async with ledger.runner(workflow, payloads=payloads) as runner:
        result = await runner.execute(workflow)
    assert (result.status, result.context["seen"]) == (COMPLETED, [{"entry": "a"}])
    assert (before, ledger.entries(), ledger.attempts()) == ([[]], ["a"], [DONE])
    assert ledger.together()
    [(stored,)] = ledger.server.execute(f'SELECT delta FROM "{ledger.schema}".attempts')
    assert ("entry" in stored) is (payloads is None)


@KINDS
async def test_all_statements_answer_as_asyncpg_does(ledger: Ledger, kind: str) -> None:
    many = [("a",), ("b",)]
    count = f"SELECT count(*), min(entry) FROM {ledger.table}"

    async def write(ctx: Context, tx: Transaction) -> None:
        await tx.executemany(ledger.insert, many)
        row = await tx.fetchrow(count)
        assert row is not None and row[0] == row["count"] == 2
        none = await tx.fetchrow(f"{count} HAVING false")
        ctx["found"] = [await tx.execute(ledger.insert, "c"), *row, none, await tx.fetchval(count)]

    def write_on_thread(ctx: Context, tx: BlockingTransaction) -> None:
        tx.executemany(ledger.insert, many)
        row = tx.fetchrow(count)
        assert row is not None and row[0] == row["count"] == 2
        none = tx.fetchrow(f"{count} HAVING false")
        ctx["found"] = [tx.execute(ledger.insert, "c"), *row, none, tx.fetchval(count)]

    workflow = bare(write if kind == "async" else write_on_thread)
    async with ledger.runner(workflow) as runner:
        result = await runner.execute(workflow, raise_on_failure=True)
    assert result.context["found"] == ["INSERT 0 1", 2, "a", None, 3]
    assert ledger.entries() == ["a", "b", "c"]


@KINDS
async def test_what_a_failed_body_wrote_is_rolled_back(ledger: Ledger, kind: str) -> None:
    errors = iter([ValueError("one"), ValueError("two")])

    def fail() -> None:
        for error in errors:
            raise error

    workflow = writing(ledger, kind, fail)
    async with ledger.runner(workflow) as runner:
        result = await runner.execute(workflow)
    assert (result.status, result.tasks["write"].attempts) == (COMPLETED, 3)
    assert (ledger.entries(), ledger.attempts()) == (["a"], [("failed", None)] * 2 + [DONE])


@KINDS
async def test_what_a_body_wrote_that_changed_a_wrong_key_is_rolled_back(ledger: Ledger, kind: str) -> None:
    workflow = writing(ledger, kind, writes=["other"])
    async with ledger.runner(workflow) as runner:
        result = await runner.execute(workflow)
    assert (result.status, ledger.entries()) == (FAILED, [])


@KINDS
@pytest.mark.parametrize("end", ["timeout", "cancel", "execution timeout"])
async def test_what_a_body_wrote_that_was_stopped_is_rolled_back(ledger: Ledger, kind: str, end: str) -> None:
    gate, clock = Gate(), HandClock()

    async def write(ctx: Context, tx: Transaction) -> None:
        await tx.execute(ledger.insert, "a")
        await gate.pass_through(ctx)

    def write_on_thread(ctx: Context, tx: BlockingTransaction) -> None:
        tx.execute(ledger.insert, "a")
        gate.entered += 1
        tx.execute("SELECT pg_sleep(100)")

    body = write if kind == "async" else write_on_thread
    step = task(body, id="write", retry=1, timeout=5 if end == "timeout" else None)
    workflow = Workflow("writing", [step], timeout=5 if end == "execution timeout" else None)
    async with ledger.runner(workflow, clock=clock) as runner:
        handle = await runner.submit(workflow)
        await gate.reached()
        if end == "cancel":
            await handle.cancel()
        else:
            clock.advance(6)
        result = await handle.result()
        # Nobody holds its locks any more.
        await until(
            lambda: not ledger.server.sessions(f"{SESSIONS} AND state <> 'idle'"), "the end of the session"
        )
        ledger.server.execute(f"INSERT INTO {ledger.table} (entry) VALUES ('a')")
    assert result.status is (CANCELLED if end == "cancel" else FAILED)
    assert ledger.entries() == ["a"]
    assert ledger.attempts()[0][0] == ("timed_out" if end == "timeout" else "cancelled")


async def test_a_statement_that_failed_and_was_passed_over_fails_the_attempt(ledger: Ledger) -> None:
    async def write(ctx: Context, tx: Transaction) -> None:
        await tx.execute(ledger.insert, "a")
        with pytest.raises(asyncpg.UniqueViolationError):
            await tx.execute(ledger.insert, "a")

    workflow = bare(write)
    async with ledger.runner(workflow) as runner:
        result = await runner.execute(workflow)
    assert (result.status, result.tasks["write"].attempts, ledger.entries()) == (FAILED, 3, [])
    error = result.tasks["write"].error
    assert error is not None and "UniqueViolationError" in error.message and "savepoint" in error.message


async def test_a_savepoint_saves_the_rest(ledger: Ledger) -> None:
    async def write(ctx: Context, tx: Transaction) -> None:
        await tx.execute(ledger.insert, "a")
        await tx.execute("SAVEPOINT here")
        with pytest.raises(asyncpg.UniqueViolationError):
            await tx.execute(ledger.insert, "a")
        await tx.execute("ROLLBACK TO here")

    workflow = bare(write)
    async with ledger.runner(workflow) as runner:
        assert (await runner.execute(workflow)).status is COMPLETED
    assert ledger.entries() == ["a"]


@pytest.mark.parametrize("passed_over", [False, True])
@pytest.mark.parametrize(
    ("statement", "stays"),
    [
        ("COMMIT", True),
        ("ROLLBACK", False),
        ("COMMIT; BEGIN", True),
        ("COMMIT AND CHAIN", True),
        ("ROLLBACK; BEGIN", False),
    ],
)
async def test_a_body_that_ends_its_transaction_by_itself_fails_for_good(
    ledger: Ledger, statement: str, stays: bool, passed_over: bool
) -> None:
    async def write(ctx: Context, tx: Transaction) -> None:
        await tx.execute(ledger.insert, "a")
        try:
            await tx.execute(statement)
            await tx.execute(ledger.insert, "b")
        except PermanentError:
            if not passed_over:
                raise

    workflow = bare(write)
    async with ledger.runner(workflow) as runner:
        result = await runner.execute(workflow)
    assert (result.status, result.tasks["write"].attempts, ledger.entries()) == (
        FAILED,
        1,
        ["a"][: int(stays)],
    )
    error = result.tasks["write"].error
    assert error is not None and "ended its transaction by itself" in error.message


async def test_a_constraint_that_is_checked_at_the_commit_fails_the_attempt(ledger: Ledger) -> None:
    starts: list[int] = []

    async def write(ctx: Context, tx: Transaction) -> None:
        starts.append(len(starts))
        await tx.execute(ledger.insert_late, "a")
        await tx.execute(ledger.insert_late, "a" if len(starts) < 3 else "b")

    retry = RetryPolicy(max_attempts=3, initial_delay=0, jitter=0, retry_on=asyncpg.UniqueViolationError)
    workflow = bare(write, retry=retry)
    async with ledger.runner(workflow) as runner:
        result = await runner.execute(workflow)
    assert (result.status, ledger.entries()) == (COMPLETED, ["a", "b"])
    assert ledger.attempts() == [("failed", None)] * 2 + [DONE]
    assert ledger.together()


@pytest.mark.parametrize("limit", ["the setting", "idle", "statement"])
async def test_a_transaction_that_takes_too_long_is_rolled_back(ledger: Ledger, limit: str) -> None:
    clock = HandClock()
    gate = Gate()
    starts: list[Exception | None] = []

    async def write(ctx: Context, tx: Transaction) -> None:
        starts.append(None)
        await tx.execute(ledger.insert, "a")
        if len(starts) == 1:
            try:
                if limit == "statement":
                    await tx.execute("SELECT pg_sleep(100)")
                await gate.pass_through(ctx)
                await tx.execute("SELECT 1")
            except Exception as error:
                starts[0] = error
                raise

    workflow = bare(write)
    seconds = 60 if limit == "the setting" else 0.1
    async with ledger.runner(workflow, clock=clock, transaction_timeout=seconds) as runner:
        handle = await runner.submit(workflow)
        if limit != "statement":
            await gate.reached()
        if limit == "idle":
            await until(lambda: not ledger.server.sessions(SESSIONS), "the end of the idle session")
        elif limit == "the setting":
            clock.advance(61)
        gate.open()
        result = await handle.result()
    assert (result.status, ledger.entries(), ledger.attempts()) == (
        COMPLETED,
        ["a"],
        [("failed", None), DONE],
    )
    expected = asyncpg.QueryCanceledError if limit == "statement" else TransactionError
    assert isinstance(starts[0], expected)


async def test_a_connection_that_is_lost_in_the_body_fails_the_attempt(ledger: Ledger) -> None:
    lost: list[Exception] = []

    async def write(ctx: Context, tx: Transaction) -> None:
        await tx.execute(ledger.insert, "a")
        if not lost:
            ledger.server.kill_backends(SESSIONS)
            try:
                await tx.execute(ledger.insert, "b")
            except Exception as error:
                lost.append(error)  # and goes on, as if nothing had happened

    workflow = bare(write)
    async with ledger.runner(workflow) as runner:
        result = await runner.execute(workflow)
    assert (result.status, ledger.entries(), ledger.attempts()) == (
        COMPLETED,
        ["a"],
        [("failed", None), DONE],
    )
    assert isinstance(lost[0], TransactionError)


async def test_a_session_that_died_while_it_was_idle_is_not_noticed(ledger: Ledger) -> None:
    workflow = bare(_inserts(ledger))
    async with ledger.runner(workflow) as runner:
        await runner.execute(workflow, {"entry": "a"})
        assert ledger.server.kill_backends(SESSIONS) == 1
        assert (await runner.execute(workflow, {"entry": "b"})).tasks["write"].attempts == 1
    assert ledger.entries() == ["a", "b"]


async def test_a_session_is_used_again_as_if_it_were_new_and_let_go_after_a_while(ledger: Ledger) -> None:
    clock = HandClock()

    async def write(ctx: Context, tx: Transaction) -> None:
        ctx["found"] = [
            await tx.fetchval("SELECT pg_backend_pid()"),
            *[await tx.fetchval(f"SHOW {name}") for name in ("search_path", "enable_seqscan", "work_mem")],
            await tx.fetchval(
                "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()"
            ),
        ]
        await tx.execute(
            "SET search_path = nowhere; SET work_mem = '7MB'; SELECT pg_advisory_lock(7); CREATE TEMP TABLE t (x int)"
        )

    workflow = bare(write)
    async with ledger.runner(workflow, clock=clock) as runner:
        found: list[Any] = []
        for _ in range(2):
            found.append((await runner.execute(workflow, raise_on_failure=True)).context["found"])
            await until(lambda: 60 in clock.pending, "the session that is kept")
        assert ledger.server.sessions(SESSIONS) == 1
        clock.advance(61)
        await until(lambda: not ledger.server.sessions(SESSIONS), "the end of the idle session")
        third = await runner.execute(workflow, raise_on_failure=True)
    assert found[0] == found[1]
    assert found[0][1:] == ['"$user", public', "on", "4MB", 0]
    assert third.context["found"][0] != found[0][0]


async def test_a_body_that_writes_nothing_takes_no_connection(ledger: Ledger) -> None:
    async def write(ctx: Context, tx: Transaction) -> None:
        assert repr(tx)

    workflow = bare(write)
    async with ledger.runner(workflow) as runner:
        assert (await runner.execute(workflow)).status is COMPLETED
        assert ledger.server.sessions(SESSIONS) == 0


@KINDS
async def test_a_body_that_has_ended_writes_nothing_any_more(ledger: Ledger, kind: str) -> None:
    kept: list[Any] = []

    async def write(ctx: Context, tx: Transaction) -> None:
        await tx.execute(ledger.insert, "a")
        kept.append(tx)

    def write_on_thread(ctx: Context, tx: BlockingTransaction) -> None:
        tx.execute(ledger.insert, "a")
        kept.append(tx)

    workflow = bare(write if kind == "async" else write_on_thread)
    async with ledger.runner(workflow) as runner:
        await runner.execute(workflow)
        with pytest.raises((PermanentError, asyncio.CancelledError)):
            if kind == "async":
                await kept[0].execute(ledger.insert, "b")
            else:
                await asyncio.to_thread(kept[0].execute, ledger.insert, "b")
    assert ledger.entries() == ["a"]


async def test_statements_of_one_body_wait_for_each_other(ledger: Ledger) -> None:
    left: list[asyncio.Task[Any]] = []

    async def write(ctx: Context, tx: Transaction) -> None:
        await asyncio.gather(*(tx.execute(ledger.insert, name) for name in "abc"))
        left.append(asyncio.create_task(tx.fetch("SELECT pg_sleep(0.05)")))
        await asyncio.sleep(0)

    workflow = bare(write)
    async with ledger.runner(workflow) as runner:
        assert (await runner.execute(workflow)).status is COMPLETED
    await left[0]
    assert ledger.entries() == ["a", "b", "c"]


@KINDS
async def test_neither_deferred_nor_checkpointed_while_it_is_open(ledger: Ledger, kind: str) -> None:
    raised: list[type[BaseException]] = []

    async def write(ctx: Context, handle: TaskHandle, tx: Transaction) -> None:
        await handle.defer_until(lambda: True, poll_interval=1)
        await ctx.checkpoint("before", lambda: 1)
        for work in (
            lambda: ctx.checkpoint("within", lambda: tx.execute(ledger.insert, "a")),
            lambda: ctx.checkpoint("after", lambda: 1),
            lambda: handle.defer_until(lambda: False, poll_interval=1),
        ):
            try:
                await work()
            except PermanentError as error:
                raised.append(type(error))

    def write_on_thread(ctx: Context, handle: TaskHandle, tx: BlockingTransaction) -> None:
        handle.defer_until(lambda: True, poll_interval=1)
        ctx.checkpoint("before", lambda: 1)
        for work in (
            lambda: ctx.checkpoint("within", lambda: tx.execute(ledger.insert, "a")),
            lambda: ctx.checkpoint("after", lambda: 1),
            lambda: handle.defer_until(lambda: False, poll_interval=1),
        ):
            try:
                work()
            except PermanentError as error:
                raised.append(type(error))

    workflow = bare(write if kind == "async" else write_on_thread)
    async with ledger.runner(workflow) as runner:
        assert (await runner.execute(workflow)).status is COMPLETED
    assert (raised, ledger.entries()) == ([CheckpointError, CheckpointError, PermanentError], ["a"])
    names = ledger.server.execute(f'SELECT name FROM "{ledger.schema}".checkpoints')
    assert names == [("before",)]


async def test_a_deferred_body_writes_nothing(ledger: Ledger) -> None:
    clock = HandClock()

    async def write(ctx: Context, handle: TaskHandle, tx: Transaction) -> None:
        holds = False

        async def look() -> bool:
            nonlocal holds
            before, holds = holds, True
            if before:
                await tx.execute(ledger.insert, "a")
            return before

        await handle.defer_until(look, poll_interval=5)

    workflow = bare(write)
    async with ledger.runner(workflow, clock=clock) as runner:
        handle = await runner.submit(workflow)
        await until(lambda: clock.pending and min(clock.pending) <= 5, "the deferral")
        clock.advance(5)
        result = await handle.result()
    error = result.tasks["write"].error
    assert result.status is FAILED and error is not None and "deferred" in error.message
    assert ledger.entries() == []


async def test_a_higher_isolation_level_sees_its_runner_though_that_commits_beside_it(ledger: Ledger) -> None:
    inner = Workflow("inner", [task(_nothing, id="it")])

    async def write(ctx: Context, tx: Transaction) -> None:
        await tx.execute("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE")
        await tx.execute(ledger.insert, "a")
        await runner.execute(inner)

    workflow = bare(write)
    async with ledger.runner(workflow, inner) as runner:
        assert (await runner.execute(workflow)).status is COMPLETED
    assert (ledger.entries(), ledger.attempts()) == (["a"], [DONE])


async def _nothing(ctx: Context) -> None: ...


def _inserts(ledger: Ledger) -> Callable[..., Any]:
    async def write(ctx: Context, tx: Transaction) -> None:
        await tx.execute(ledger.insert, ctx["entry"])

    return write
