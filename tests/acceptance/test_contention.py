"""Contention: several processes that do everything at once on one database, and never see it locked."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import apsw
import psycopg
import pytest

from acceptance.support.campaign import campaign
from acceptance.support.mixed import work
from cloacina import Client, ExecutionStatus, Runner
from cloacina.model.ids import new_id
from cloacina.model.status import RunnerState
from cloacina.store.port import WriteStore
from cloacina.store.rows import NewExecution, RunnerRow
from support.runners import outside

SUPPORT = Path(__file__).with_name("support")


@pytest.fixture(params=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest, tmp_path: Path, database_of: Callable[[str], str]) -> str:
    """The URL of an empty database."""
    return str(tmp_path / "work.db") if request.param == "sqlite" else database_of(request.node.name)


@pytest.mark.parametrize(("processes", "requests", "seconds"), [(4, 150, 0.0), campaign(8, 0, 300.0)])
def test_nobody_sees_a_locked_database(processes: int, requests: int, seconds: float, database: str) -> None:
    async def register() -> None:
        async with Runner(database, workflows=[work]):
            pass

    asyncio.run(register())
    command = [sys.executable, "-m", "acceptance.support.mixed", database]
    running = [
        subprocess.Popen(
            [*command, str(seed), str(requests), str(seconds)],
            cwd=SUPPORT.parents[1], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for seed in range(processes)
    ]  # fmt: skip
    outputs = [process.communicate() for process in running]
    acknowledged: set[str] = set()
    for output, complaints in outputs:
        assert [line for line in complaints.splitlines() if "bodies that still run" not in line] == []
        told = json.loads(output.splitlines()[-1])
        assert told["errors"] == {}
        acknowledged.update(told["acknowledged"])
    assert len(acknowledged) > processes * 10
    found = asyncio.run(run_out(database))
    assert {id for id in acknowledged if found.get(id) is None or not found[id].terminal} == set()
    check_starts(database)


@pytest.mark.parametrize(("processes", "executions"), [(4, 1_000), campaign(8, 10_000)])
def test_each_execution_is_started_by_one_of_many(
    processes: int, executions: int, database: str, tmp_path: Path
) -> None:
    ledger = tmp_path / "ledger"
    command = [sys.executable, "-m", "acceptance.support.counting", database, str(ledger)]
    piped = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    workers = [
        subprocess.Popen(command, cwd=SUPPORT.parents[1], text=True, **piped) for _ in range(processes)
    ]
    for worker in workers:
        assert worker.stdout is not None and worker.stdout.readline() == "up\n"
    ids = asyncio.run(submitted(database, executions))
    complaints = [worker.communicate()[1] for worker in workers]
    assert complaints == [""] * processes
    assert sorted(line.split()[0] for line in ledger.read_text().splitlines()) == sorted(ids)


async def submitted(database: str, executions: int) -> list[str]:
    """Submit so many from this process, and wait until all have ended; return their ids."""
    async with Client(database) as client:
        handles = await client.submit_many("counted", [None] * executions)
        for handle in handles:
            assert (await handle.result()).status is ExecutionStatus.COMPLETED
    return [handle.id for handle in handles]


@pytest.mark.parametrize("orphans", [2_000, campaign(50_000)])
async def test_many_orphans_are_all_worked_off(orphans: int, database: str) -> None:
    dead = RunnerRow("gone", "here", 1, 1, RunnerState.ALIVE, 0)
    orphan = NewExecution(
        "", "work", work.version, ExecutionStatus.PENDING, '{"n": 1}', None, 0, "[]", dead.id, 1, None
    )

    def leave(store: WriteStore) -> None:
        store.register_runner(dead)
        store.register_versions(dead.id, [("work", work.version, work.to_json())], 1)
        for first in range(0, orphans, 10_000):
            stored = min(10_000, orphans - first)
            store.insert_unowned([orphan._replace(id=new_id(1)) for _ in range(stored)])

    outside(database, leave)
    async with Runner(database, workflows=[work]) as runner:
        for execution in await runner.list(limit=1):
            await runner.result(execution.id)
        while left := await runner.list(status=["pending", "running"], limit=1):
            await runner.result(left[0].id)
    assert rows(database, "SELECT status, count(*) FROM executions GROUP BY status") == [
        ("completed", orphans)
    ]


async def run_out(database: str) -> dict[str, ExecutionStatus]:
    """Let what is left come to its end; return how everything ended."""
    async with Runner(database, workflows=[work]) as runner:
        while left := await runner.list(status=["pending", "running"], limit=1):
            await runner.result(left[0].id)
        found: dict[str, ExecutionStatus] = {}
        page = await runner.list(limit=10_000)
        while page:
            found |= {one.id: one.status for one in page}
            page = await runner.list(limit=10_000, before=page[-1].id)
        return found


def check_starts(database: str) -> None:
    """No attempt failed, and only a shutdown has interrupted some."""
    states = rows(database, "SELECT DISTINCT state, reason FROM attempts")
    commands = rows(
        database,
        "SELECT count(*) FROM commands JOIN executions ON executions.id = execution "
        "WHERE status NOT IN ('completed', 'cancelled')",
    )
    allowed = {
        ("completed", None),
        ("cancelled", "cancelled"),
        ("skipped", "cancelled"),
        ("interrupted", "shutdown"),
    }
    assert set(states) <= allowed
    assert commands == [(0,)]


def rows(database: str, text: str) -> list[tuple[object, ...]]:
    """What is stored, as read past the engine."""
    if database.startswith("postgresql:"):
        with psycopg.connect(database, options="-c search_path=cloacina") as server:
            return server.execute(text.encode()).fetchall()
    with apsw.Connection(database, flags=apsw.SQLITE_OPEN_READONLY) as file:
        assert file.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        return file.execute(text).fetchall()
