"""Workers: processes that run one-task executions of a database that they share with others.

``python -m benchmarks.harness.workers URL SCHEMA`` is one. It says "ready" once everything is imported, opens its
runner when it is sent a line, says "up" then, and at the end of its input how many bodies it has run.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from subprocess import PIPE, Popen
from typing import Any

from benchmarks.harness.database import Database
from benchmarks.harness.workflows import chain_of
from cloacina.model.context.context import Context
from cloacina.model.workflow import Workflow
from cloacina.settings import Settings


class Workers:
    """So many processes, started and ready; `bodies` has how many each has run after the ``with`` statement."""

    def __init__(self, database: Database, number: int) -> None:
        command = [sys.executable, "-m", __name__, *database]
        self._processes = [Popen(command, stdin=PIPE, stdout=PIPE, text=True) for _ in range(number)]
        self.bodies: list[int] = []

    def release(self) -> None:
        """Let them all open their runners at once."""
        for process in self._processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()

    def wait_for(self, word: str) -> None:
        """Return when every one has said this."""
        for process in self._processes:
            assert process.stdout is not None
            said = process.stdout.readline().strip()
            if said != word:
                raise AssertionError(f"a worker said {said!r}, not {word!r}")

    def end(self) -> None:
        """Let them end."""
        said = [process.communicate()[0] for process in self._processes]
        self.bodies = [int(last) for last in said if last.strip()]


@contextmanager
def working(database: Database, number: int, at_once: bool = False) -> Iterator[Workers]:
    """So many workers that run; with ``at_once`` they start when they are released."""
    workers = Workers(database, number)
    try:
        workers.wait_for("ready")
        if not at_once:
            workers.release()
            workers.wait_for("up")
        yield workers
    finally:
        workers.end()


class Counting:
    """The body of the workflow ``chain_1``, which counts how often it runs in this process."""

    def __init__(self) -> None:
        self.runs = 0

    def workflow(self) -> Workflow:
        return chain_of(self.count, 1)

    async def count(self, context: Context) -> None:
        context["count"] += 1
        self.runs += 1


async def work(database: Database) -> None:
    """Be a worker until the standard input is closed."""
    loop, counting = asyncio.get_running_loop(), Counting()
    async with database.runner(workflows=[counting.workflow()], settings=Settings()):
        say("up")
        await loop.run_in_executor(None, sys.stdin.readline)
    say(counting.runs)


def say(word: Any) -> None:
    print(word, flush=True)


if __name__ == "__main__":
    say("ready")
    sys.stdin.readline()
    asyncio.run(work(Database(*sys.argv[1:])))
