"""A program whose bodies have transactions is killed again and again: what it wrote and the attempts agree."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

from support.postgres.server import PostgresServer
from support.transactions import Ledger

EXECUTIONS, KILLS = 60, 4

PROGRAM = """
import asyncio, sys
from cloacina import Context, Runner, Workflow
from cloacina.transaction import BlockingTransaction, Transaction

url, schema, insert, count = sys.argv[1:]
writing = Workflow("writing")

@writing.task
async def write(ctx: Context, tx: Transaction) -> None:
    print("started", flush=True)
    await tx.execute(insert, f"{ctx['number']}")
    await tx.execute("SELECT pg_sleep(0.01)")
    print("wrote", flush=True)

@writing.task(dependencies=[write])
def write_again(ctx: Context, tx: BlockingTransaction) -> None:
    tx.execute(insert, f"{ctx['number']} again")
    print("wrote", flush=True)

async def main() -> None:
    async with Runner(url, schema=schema, workflows=[writing]) as runner:
        handles = [
            await runner.submit(writing, {"number": number}, key=f"{number}") for number in range(int(count))
        ]
        for handle in handles:
            assert (await handle.result()).status == "completed"

asyncio.run(main())
"""


def test_kills_neither_lose_nor_double(
    postgres: PostgresServer, schema: str, tmp_path: Path, rng: random.Random
) -> None:
    ledger = Ledger(postgres, schema)
    try:
        (tmp_path / "program.py").write_text(PROGRAM)
        kills = 0
        while _run(
            ledger, tmp_path, lines=rng.randrange(1, 2 * EXECUTIONS // KILLS) if kills < KILLS else None
        ):
            kills += 1
        assert kills == KILLS
        assert sorted(ledger.entries()) == sorted(
            f"{number}{more}" for number in range(EXECUTIONS) for more in ("", " again")
        )
        assert ledger.together()
        for task in ("write", "write_again"):
            states = [state for state, _ in ledger.attempts(task)]
            assert states.count("completed") == EXECUTIONS
            assert set(states) <= {"completed", "interrupted"}
    finally:
        ledger.close()


def _run(ledger: Ledger, folder: Path, lines: int | None) -> bool:
    """Run the program, until it has said so many ``lines``; True if it was killed then."""
    arguments = [ledger.server.url(), ledger.schema, ledger.insert, f"{EXECUTIONS}"]
    with subprocess.Popen(
        [sys.executable, "program.py", *arguments], cwd=folder, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        for number, _ in enumerate(child.stdout, 1):
            if number == lines:
                child.kill()
                return True
    assert child.returncode == 0
    return False
