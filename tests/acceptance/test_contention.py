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
from cloacina import ExecutionStatus, Runner

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
