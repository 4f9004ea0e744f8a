"""Crash in the middle, start again, find everything complete.

    python 05_crash_and_resume.py

The program starts itself twice. The first process works through an order and is killed, as by `kill -9`, in
the middle of the third step; it gets no chance to clean up. The second one only opens the same database: it
finds the first dead, takes over, and finishes. Steps that had ended are not done again.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

from cloacina import Context, ExecutionStatus, Runner, Workflow

DATABASE = "sqlite:///crash_and_resume.db"

order = Workflow("order", description="Reserve, charge, ship, thank")


def say(text: str) -> None:
    print(f"  [process {os.getpid()}] {text}", flush=True)


@order.task
def reserve(ctx: Context) -> None:
    """Done by the first process."""
    say("reserve")
    ctx["reserved"] = True


@order.task(dependencies=[reserve])
def charge(ctx: Context) -> None:
    """Done by the first process, and never again: charging twice would be bad."""
    say("charge")
    ctx["charged"] = 99


@order.task(dependencies=[charge])
def ship(ctx: Context) -> None:
    """The first process dies in here."""
    say("ship")
    if os.environ.get("CRASH") == "yes":
        say("... killed")
        os.kill(os.getpid(), signal.SIGKILL)
    ctx["shipped"] = True


@order.task(dependencies=[ship])
def thank(ctx: Context) -> None:
    """Done by the second process."""
    say("thank")


async def first() -> None:
    async with Runner(DATABASE, workflows=[order]) as runner:
        await runner.execute(order, {"order": 4711})


async def second() -> None:
    async with Runner(DATABASE, workflows=[order]) as runner:
        [stored] = await runner.list(workflow="order", limit=1)
        result = await runner.result(stored.id)
        print(result.summary)
        for task in result.tasks.values():
            print(f"  {task.id}: {' then '.join(attempt.state for attempt in task.history)}")
        assert result.status is ExecutionStatus.COMPLETED


def main() -> None:
    if len(sys.argv) > 1:
        asyncio.run(first() if sys.argv[1] == "first" else second())
        return
    for name in ("", "-wal", "-shm"):
        Path(f"crash_and_resume.db{name}").unlink(missing_ok=True)
    print("The first process:", flush=True)
    died = subprocess.run(
        [sys.executable, __file__, "first"], env={**os.environ, "CRASH": "yes"}, check=False
    )
    print(f"It ended with {died.returncode}. The second process:", flush=True)
    subprocess.run([sys.executable, __file__, "second"], check=True)


if __name__ == "__main__":
    main()
