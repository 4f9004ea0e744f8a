"""Contention: several processes that do everything at once on one file, and never see a locked database."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import apsw
import pytest

from acceptance.support.campaign import campaign
from acceptance.support.mixed import work
from cloacina import Client, ExecutionStatus, Runner, open_readonly
from cloacina.model.ids import new_id
from cloacina.model.status import RunnerState
from cloacina.store.port import WriteStore
from cloacina.store.rows import NewExecution, RunnerRow
from support.runners import outside

SUPPORT = Path(__file__).with_name("support")


@pytest.mark.parametrize(("processes", "requests", "seconds"), [(4, 150, 0.0), campaign(8, 0, 300.0)])
def test_nobody_sees_a_locked_database(processes: int, requests: int, seconds: float, tmp_path: Path) -> None:
    database = str(tmp_path / "work.db")

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
    acknowledged: set[str] = set()
    for process in running:
        output, complaints = process.communicate()
        assert process.returncode == 0, complaints
        told = json.loads(output)
        assert told["errors"] == {}
        assert "locked" not in complaints
        acknowledged.update(told["acknowledged"])
    assert len(acknowledged) > processes * 10
    found = asyncio.run(run_out(database))
    assert {id for id in acknowledged if found.get(id) is None or not found[id].terminal} == set()
    check_starts(database)


@pytest.mark.parametrize(("processes", "executions"), [(4, 1_000), campaign(8, 10_000)])
def test_each_execution_is_started_by_one_of_many(processes: int, executions: int, tmp_path: Path) -> None:
    database, ledger = str(tmp_path / "work.db"), tmp_path / "ledger"
    command = [sys.executable, "-m", "acceptance.support.counting", database, str(ledger)]
    workers = [
        subprocess.Popen(
            command, cwd=SUPPORT.parents[1], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(processes)
    ]
    for worker in workers:
        assert worker.stdout is not None and worker.stdout.readline() == "up\n"
    ids = asyncio.run(submitted(database, executions))
    for worker in workers:
        worker.communicate()
        assert worker.returncode == 0
    assert sorted(ledger.read_text().split()) == sorted(ids)


async def submitted(database: str, executions: int) -> list[str]:
    """Submit so many from this process, and wait until all have ended; return their ids."""
    async with Client(database) as client:
        handles = await client.submit_many("counted", [None] * executions)
        for handle in handles:
            assert (await handle.result()).status is ExecutionStatus.COMPLETED
    return [handle.id for handle in handles]


@pytest.mark.parametrize("orphans", [2_000, campaign(50_000)])
async def test_many_orphans_are_all_worked_off(orphans: int, tmp_path: Path) -> None:
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

    outside(tmp_path / "db", leave)
    async with Runner(tmp_path / "db", workflows=[work]) as runner:
        for execution in await runner.list(limit=1):
            await runner.result(execution.id)
        while left := await runner.list(status=["pending", "running"], limit=1):
            await runner.result(left[0].id)
    with open_readonly(tmp_path / "db") as reader:
        assert reader.query("SELECT status, count(*) AS n FROM executions GROUP BY status") == [
            {"status": "completed", "n": orphans}
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
    with apsw.Connection(database, flags=apsw.SQLITE_OPEN_READONLY) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        states = connection.execute("SELECT DISTINCT state, reason FROM attempts").fetchall()
        commands = connection.execute(
            "SELECT count(*) FROM commands JOIN executions ON executions.id = execution "
            "WHERE status NOT IN ('completed', 'cancelled')"
        ).fetchall()
    allowed = {
        ("completed", None),
        ("cancelled", "cancelled"),
        ("skipped", "cancelled"),
        ("interrupted", "shutdown"),
    }
    assert set(states) <= allowed
    assert commands == [(0,)]
