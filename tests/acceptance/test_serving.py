"""`Runner.serve`: a worker that is stopped by signals, as systemd and containers do it."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cloacina import Runner
from cloacina.errors import WrongThread
from cloacina.model.status import AttemptState
from support.runners import in_memory

WORKER = """
import asyncio, sys
from cloacina import Context, Runner, Settings, Workflow

work = Workflow("work")

@work.task
async def slow(ctx: Context) -> None:
    print("started", flush=True)
    await (asyncio.Event().wait() if "stuck" in sys.argv else asyncio.to_thread(sys.stdin.readline))
    ctx["done"] = True

async def main():
    async with Runner(sys.argv[1], workflows=[work], settings=Settings(shutdown_grace=60)) as runner:
        handle = await runner.submit(work)
        print(handle.id, flush=True)
        await runner.serve()
    print("served", flush=True)

asyncio.run(main())
"""


def start(database: Path, *how: str) -> tuple[subprocess.Popen[str], str]:
    """A worker whose body has started, and the execution."""
    worker = subprocess.Popen(
        [sys.executable, "-c", WORKER, str(database), *how],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert worker.stdout is not None
    lines = {worker.stdout.readline().strip() for _ in range(2)}
    (id,) = lines - {"started"}
    return worker, id


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_bodies_end(number: signal.Signals, tmp_path: Path) -> None:
    worker, id = start(tmp_path / "db")
    assert worker.stderr is not None
    worker.send_signal(number)
    assert "bodies that still run: 1" in worker.stderr.readline()
    output, errors = worker.communicate("go on\n")
    assert (worker.returncode, output) == (0, "served\n"), errors
    assert asyncio.run(context_of(tmp_path / "db", id)) == {"done": True}


def test_a_second_signal_cuts_them(tmp_path: Path) -> None:
    worker, id = start(tmp_path / "db", "stuck")
    assert worker.stderr is not None
    worker.send_signal(signal.SIGTERM)
    worker.stderr.readline()
    worker.send_signal(signal.SIGTERM)
    output, errors = worker.communicate("")
    assert (worker.returncode, output) == (0, "served\n"), errors
    assert asyncio.run(states_of(tmp_path / "db", id)) == [("interrupted", "shutdown")]


async def context_of(database: Path, id: str) -> dict[str, object]:
    async with Runner(database) as runner:
        return (await runner.get(id)).context.to_dict()


async def states_of(database: Path, id: str) -> list[tuple[AttemptState, object]]:
    async with Runner(database) as runner:
        history = (await runner.get(id)).tasks["slow"].history
        return [(attempt.state, attempt.reason) for attempt in history]


async def test_other_threads_hear_no_signals() -> None:
    def elsewhere() -> None:
        async def main() -> None:
            async with in_memory() as runner:
                with pytest.raises(WrongThread, match="main thread only"):
                    await runner.serve()

        asyncio.run(main())

    await asyncio.to_thread(elsewhere)
