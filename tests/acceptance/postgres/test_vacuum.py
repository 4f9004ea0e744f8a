"""The engine never holds back vacuum: transactions are short, none is open across a body, tables stay small."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import closing

import psycopg
import pytest

from acceptance.support.campaign import campaign
from acceptance.support.stage import Stage
from cloacina import Context, Runner, Workflow
from support.postgres.server import PostgresServer

TABLES = ("executions", "attempts", "runners", "leases", "commands", "events", "runner_workflows")

_OLDEST = """
    SELECT coalesce(max(extract(epoch FROM clock_timestamp() - xact_start)), 0) FROM pg_stat_activity
    WHERE application_name LIKE 'cloacina%' AND backend_type = 'client backend'"""


def test_no_transaction_is_open_while_bodies_run(stage: Stage, mortal: PostgresServer) -> None:
    stage.close_gate()
    child = stage.start(stage.asks(*["gated"] * 10), pace="at once", poll_interval=0.2)
    for _ in range(10):
        child.line("waiting")
    assert child.outlives(0.5)
    with closing(psycopg.connect(mortal.socket_url(), autocommit=True)) as looking:
        sampled = [looking.execute(_OLDEST.encode()).fetchall()[0][0] for _ in range(200)]
    assert max(sampled) < 0.4, "it is as old as the bodies"
    assert sorted(sampled)[100] == 0
    stage.open_gate()
    assert child.wait() == 0, child.tail()
    stage.finally_()


@pytest.mark.parametrize(
    ("executions", "longest", "naptime"), [(2_000, 5.0, "1s"), campaign(500_000, 1.0, "1min")]
)
async def test_tables_stay_small_and_transactions_short(
    own_postgres: Callable[..., PostgresServer], executions: int, longest: float, naptime: str
) -> None:
    """After a million tasks no table is three times as large as its live rows need, with the server's own settings.

    By those autovacuum looks once a minute. In the first one a table of executions grows to three times what it needs,
    and is reused from then on: so where the test is short, autovacuum looks every second.
    """
    postgres, schema = own_postgres(autovacuum_naptime=naptime), "tenant"
    work = Workflow("work")

    @work.task
    async def first(ctx: Context) -> None:
        ctx["first"] = 1

    @work.task(dependencies=[first])
    async def last(ctx: Context) -> None:
        ctx["last"] = 1

    oldest, ended = 0.0, asyncio.Event()

    async def sample() -> None:
        nonlocal oldest
        async with await psycopg.AsyncConnection.connect(postgres.url(), autocommit=True) as looking:
            while not ended.is_set():
                found = await (await looking.execute(_OLDEST.encode())).fetchall()
                oldest = max(oldest, float(found[0][0]))
                await asyncio.sleep(0.01)

    sampling = asyncio.create_task(sample())
    async with Runner(postgres.url(), schema=schema, workflows=[work]) as runner:
        for _ in range(executions // 1_000):
            handles = await runner.submit_many(work, [None] * 500)
            handles += await asyncio.gather(*(runner.submit(work) for _ in range(500)))
            for handle in handles:
                await handle.result()
    ended.set()
    await sampling
    assert oldest < longest
    before = sizes(postgres, schema)
    postgres.execute(f"VACUUM FULL {', '.join(f'{schema}.{table}' for table in TABLES)}")
    after = sizes(postgres, schema)
    for table in TABLES:
        assert before[table] < max(3 * after[table], 1_000_000), f"{table}: {before[table]} of {after[table]}"


def sizes(postgres: PostgresServer, schema: str) -> dict[str, int]:
    """Bytes of each table with its indexes."""
    return {
        table: postgres.execute(f"SELECT pg_total_relation_size('{schema}.{table}')")[0][0]
        for table in TABLES
    }
