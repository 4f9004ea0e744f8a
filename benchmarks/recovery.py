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
from benchmarks.harness.question import Bodies, Metric, Question, Sample, Setting
from benchmarks.harness.sizes import CRASH_EXECUTIONS, CRASH_LINKS, CRASH_SECONDS, INPUT
from benchmarks.harness.workflows import chain_of
from cloacina.model.context.context import Context
from cloacina.model.status import ExecutionStatus
from cloacina.model.workflow import Workflow
from cloacina.runner import Runner

QUESTION = Question(
    (
        Metric(
            "seconds", "kill -9 half way through 200 x 5 tasks of 50 ms, restart to all done", "s", False, 2.0
        ),
    ),
    rounds=3,
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
    command = [sys.executable, "-m", __name__, str(setting.database), setting.bodies]
    return {"seconds": seconds_to_recover([*command, "run"], [*command, "resume"])}


async def run(database: str, bodies: Bodies) -> None:
    """Execute everything; the process is killed half way through."""
    work = Work()
    workflow = work.workflow(bodies)
    async with Runner(database, workflows=[workflow]) as runner:
        handles = await asyncio.gather(*(runner.submit(workflow, INPUT) for _ in range(CRASH_EXECUTIONS)))
        ids_beside(database).write_text("\n".join(handle.id for handle in handles))
        work.dies = True
        await asyncio.gather(*(handle.result() for handle in handles))


async def resume(database: str, bodies: Bodies) -> None:
    """Take over, wait for every execution, and say so."""
    workflow = Work().workflow(bodies)
    ids = ids_beside(database).read_text().split()
    async with Runner(database, workflows=[workflow]) as runner:
        results = await asyncio.gather(*(runner.result(id) for id in ids))
        wrong = [result.summary for result in results if result.status is not ExecutionStatus.COMPLETED]
        wrong += [result.id for result in results if result.context["count"] != CRASH_LINKS]
        if wrong or len(results) != CRASH_EXECUTIONS:
            raise AssertionError(f"{len(results)} executions, not completed: {wrong}")
        print(DONE, flush=True)


def ids_beside(database: str) -> Path:
    """The file by which the second process learns of the executions."""
    return Path(f"{database}.ids")


def main(database: str, bodies: Bodies, part: str) -> None:
    asyncio.run(run(database, bodies) if part == "run" else resume(database, bodies))


if __name__ == "__main__":
    main(*sys.argv[1:])  # type: ignore[arg-type]
