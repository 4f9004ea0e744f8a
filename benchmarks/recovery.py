"""How long from the restart after ``kill -9``, half way through 200 executions, to the end of them all?

Two real processes: the first kills itself with SIGKILL as the body that makes the half ends, the second is
timed from its start, interpreter and imports included, until every execution has completed.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from pathlib import Path

from benchmarks.harness.crash import DONE, seconds_to_recover
from benchmarks.harness.database import Database
from benchmarks.harness.question import Bodies, Metric, Question, Sample, Setting
from benchmarks.harness.sizes import CRASH_EXECUTIONS, CRASH_LINKS, CRASH_SECONDS, INPUT
from benchmarks.harness.workflows import chain_of
from cloacina.model.context.context import Context
from cloacina.model.status import ExecutionStatus
from cloacina.model.workflow import Workflow

QUESTION = Question(
    (
        Metric(
            "seconds",
            "kill -9 half way through 200 x 5 tasks of 50 ms, restart to all done",
            "s",
            False,
            2.0,
            4.0,
        ),
    ),
    rounds=3,
    peer_rounds=1,
    warm_up=False,
)
HALF = CRASH_EXECUTIONS * CRASH_LINKS // 2


class Work:
    """The bodies; one of them kills the process once half of them have ended, if it is the one to die."""

    def __init__(self) -> None:
        self.dies = False
        self._ended = 0

    async def sleep_async(self, context: Context) -> None:
        await asyncio.sleep(CRASH_SECONDS)
        self._end(context)

    def sleep_def(self, context: Context) -> None:
        time.sleep(CRASH_SECONDS)
        self._end(context)

    def _end(self, context: Context) -> None:
        context["count"] += 1
        self._ended += 1
        if self.dies and self._ended >= HALF:
            os.kill(os.getpid(), signal.SIGKILL)

    def workflow(self, bodies: str) -> Workflow:
        return chain_of(self.sleep_async if bodies == "async" else self.sleep_def, CRASH_LINKS)


def sample(setting: Setting) -> Sample:
    ids = str(setting.folder / "ids")
    command = [sys.executable, "-m", __name__, *setting.database, ids, setting.bodies]
    return {"seconds": seconds_to_recover([*command, "run"], [*command, "resume"])}


async def run(database: Database, ids: Path, bodies: Bodies) -> None:
    """Execute everything; the process is killed half way through."""
    work = Work()
    workflow = work.workflow(bodies)
    async with database.runner(workflows=[workflow]) as runner:
        handles = await asyncio.gather(*(runner.submit(workflow, INPUT) for _ in range(CRASH_EXECUTIONS)))
        remember(ids, [handle.id for handle in handles])
        work.dies = True
        await asyncio.gather(*(handle.result() for handle in handles))


async def resume(database: Database, ids: Path, bodies: Bodies) -> None:
    """Take over, wait for every execution, and say so."""
    workflow = Work().workflow(bodies)
    async with database.runner(workflows=[workflow]) as runner:
        results = await asyncio.gather(*(runner.result(id) for id in remembered(ids)))
        wrong = [result.summary for result in results if result.status is not ExecutionStatus.COMPLETED]
        wrong += [result.id for result in results if result.context["count"] != CRASH_LINKS]
        if wrong or len(results) != CRASH_EXECUTIONS:
            raise AssertionError(f"{len(results)} executions, not completed: {wrong}")
        print(DONE, flush=True)


def remember(file: Path, ids: list[str]) -> None:
    """Let the second process learn of the executions."""
    file.write_text("\n".join(ids))


def remembered(file: Path) -> list[str]:
    return file.read_text().split()


def main(url: str, schema: str, ids: str, bodies: Bodies, part: str) -> None:
    act = run if part == "run" else resume
    asyncio.run(act(Database(url, schema), Path(ids), bodies))


if __name__ == "__main__":
    main(*sys.argv[1:])  # type: ignore[arg-type]
