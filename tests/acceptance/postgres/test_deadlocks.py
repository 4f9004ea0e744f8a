"""Everything at once, from several processes, one of which is killed: nobody ever waits for the other in a ring."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest

from acceptance.support.campaign import campaign
from acceptance.support.mixed import work
from acceptance.test_contention import run_out
from cloacina import Runner
from support.postgres.server import PostgresServer

TESTS = Path(__file__).parents[2]


@pytest.mark.parametrize(("processes", "seconds"), [(4, 4.0), campaign(8, 600.0)])
def test_there_are_no_deadlocks(postgres: PostgresServer, processes: int, seconds: float) -> None:
    """Submits, commands, retries, forks, registrations, pruning and claims; and sweeps, since a runner dies."""
    name = f"deadlocks_{processes}"
    database = postgres.create_database(name)

    async def register() -> None:
        async with Runner(database, workflows=[work]):
            pass

    asyncio.run(register())
    running = [
        subprocess.Popen(
            [sys.executable, "-m", "acceptance.support.mixed", database, str(seed), "0", str(seconds), "prune"],
            cwd=TESTS, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for seed in range(processes + 1)
    ]  # fmt: skip
    victim = running.pop(1)
    with pytest.raises(subprocess.TimeoutExpired):
        victim.wait(seconds / 2)
    victim.kill()
    victim.communicate()
    outputs = [process.communicate() for process in running]
    for output, complaints in outputs:
        assert json.loads(output.splitlines()[-1])["errors"] == {}
        assert "refused" not in complaints and "deadlock" not in complaints, complaints
    assert all(status.terminal for status in asyncio.run(run_out(database)).values())
    found = postgres.execute(
        "SELECT deadlocks, xact_commit > 1000 FROM pg_stat_database WHERE datname = %s", name
    )
    assert found == [(0, True)]
