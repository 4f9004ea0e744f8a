"""Claims on one server from many sides: no more than was asked for, each execution by one, and fair shares."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from acceptance.support.campaign import campaign
from acceptance.test_contention import submitted
from cloacina.store.postgres.database import PostgresDatabase, PostgresWriter
from cloacina.store.postgres.location import server_location
from cloacina.store.postgres.server.connection import Connection
from cloacina.store.rows import ClaimRequest, Group
from store.make import new, runner
from support.postgres.server import PostgresServer

TESTS = Path(__file__).parents[2]
LIMIT = 7
PLANS = {
    "as it is": {},
    "nested loops": {"enable_hashjoin": "off", "enable_mergejoin": "off", "enable_material": "off"},
    "hash joins": {"enable_hashjoin": "on", "enable_nestloop": "off", "enable_seqscan": "on"},
    "merge joins": {"enable_mergejoin": "on", "enable_nestloop": "off", "enable_indexscan": "off"},
    "sequential scans": {"enable_seqscan": "on", "enable_indexscan": "off", "enable_bitmapscan": "off"},
}
"""Settings that force the planner to read the claim in other ways."""


@pytest.mark.parametrize("plan", PLANS)
def test_a_claim_takes_and_locks_no_more_than_it_was_asked_for(
    postgres: PostgresServer, schema: str, plan: str
) -> None:
    """Rows that a claim has locked, and those that it took, are counted while its transaction is open."""
    location = server_location(postgres.url(), schema)
    versions = tuple((f"wf{n}", "v1") for n in range(3))
    writer = PostgresDatabase(location).writer()
    rows = [new(f"e{n:04}", workflow=versions[n % 3][0]) for n in range(500)]
    writer.insert_unowned(rows)
    writer.close()
    free = f"SELECT count(*) FROM (SELECT 1 FROM {schema}.executions WHERE owner IS NULL FOR UPDATE SKIP LOCKED) AS f"

    def claims(number: int) -> list[str]:
        connection = Connection(location, settings=PLANS[plan])
        claimer, taken = PostgresWriter(connection), list[str]()
        me = f"runner-{number}"
        claimer.register_runner(runner(me))
        for group in (1, 2, 3):
            before = postgres.execute(free)[0][0] if number == 0 else 0
            with connection.transaction():
                found = claimer.commit(Group(me, group, (), ClaimRequest(versions, LIMIT, 100)))
                assert len(found) == LIMIT
                assert number or postgres.execute(free) == [(before - LIMIT,)]
            taken += [row.id for row in found]
        connection.close()
        return taken

    alone = claims(0)
    with ThreadPoolExecutor(15) as pool:
        taken = [id for ids in pool.map(claims, range(1, 16)) for id in ids]
    assert len({*alone, *taken}) == len(alone) + len(taken) == 16 * 3 * LIMIT
    owned = postgres.execute(f"SELECT owner, count(*) FROM {schema}.executions GROUP BY owner")
    assert dict(owned) == {**{f"runner-{n}": 3 * LIMIT for n in range(16)}, None: 500 - 16 * 3 * LIMIT}


@pytest.mark.parametrize("executions", [400, campaign(8_000)])
def test_equal_runners_do_equal_shares(
    executions: int, database_of: Callable[[str], str], tmp_path: Path
) -> None:
    """Bodies that take their time, on four runners with few slots: none does a fifth more or less than its share."""
    database, ledger = database_of(f"shares_{executions}"), tmp_path / "ledger"
    command = [sys.executable, "-m", "acceptance.support.counting", database, str(ledger), "0.05", "8"]
    workers = [
        subprocess.Popen(command, cwd=TESTS, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    for worker in workers:
        assert worker.stdout is not None and worker.stdout.readline() == "up\n"
    ids = asyncio.run(submitted(database, executions))
    for worker in workers:
        worker.communicate()
        assert worker.returncode == 0
    lines = [line.split() for line in ledger.read_text().splitlines()]
    assert sorted(id for id, _ in lines) == sorted(ids)
    shares = Counter(int(pid) for _, pid in lines)
    assert shares.keys() == {worker.pid for worker in workers}
    print(shares)
    assert all(abs(share - executions / 4) <= executions / 20 for share in shares.values()), shares
