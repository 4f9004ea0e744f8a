"""How long Procrastinate takes from its restart after ``kill -9`` to the end of all jobs.

It gives back nothing by itself: as its documentation has it, the second process asks for the jobs of stalled workers,
here once a second, and retries them.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from typing import Any

from procrastinate import App

from benchmarks.harness.crash import DONE, seconds_to_recover
from benchmarks.harness.database import Database
from benchmarks.harness.question import Sample, Setting
from benchmarks.harness.sizes import CRASH_EXECUTIONS, CRASH_LINKS, CRASH_SECONDS, INPUT
from benchmarks.peers.procrastinate_app import make, new_app, worker_of

HALF = CRASH_EXECUTIONS * CRASH_LINKS // 2
ENDED = "SELECT count(*) FROM procrastinate_jobs WHERE status = 'succeeded' AND (args ->> 'left')::int = 0"


def sample(setting: Setting) -> Sample:
    make(setting.database)
    command = [sys.executable, "-m", __name__, *setting.database]
    return {"seconds": seconds_to_recover([*command, "run"], [*command, "resume"])}


def slow_chain(app: App, dies: bool) -> Any:
    """The job that sleeps and defers the next of its chain; if it ``dies``, then when half of them have ended."""
    ended = 0

    @app.task(name="slow")
    async def slow(document: dict[str, Any], left: int) -> None:
        nonlocal ended
        await asyncio.sleep(CRASH_SECONDS)
        document["count"] += 1
        if left:
            await slow.defer_async(document=document, left=left - 1)
        ended += 1
        if dies and ended >= HALF:
            os.kill(os.getpid(), signal.SIGKILL)

    return slow


async def run(database: Database) -> None:
    """Start all chains; the process is killed half way through."""
    app = new_app(database)
    slow = slow_chain(app, True)
    async with app.open_async():
        await app.schema_manager.apply_schema_async()
        await asyncio.gather(
            *(slow.defer_async(document=INPUT, left=CRASH_LINKS - 1) for _ in range(CRASH_EXECUTIONS))
        )
        await worker_of(app)


async def resume(database: Database) -> None:
    """Retry what the dead worker had, until all chains have ended; say so."""
    app = new_app(database)
    slow_chain(app, False)
    async with app.open_async():
        worker = worker_of(app)
        while database.rows(ENDED)[0][0] < CRASH_EXECUTIONS:
            for job in await app.job_manager.get_stalled_jobs():
                await app.job_manager.retry_job(job)
            await asyncio.sleep(1)
        print(DONE, flush=True)
        worker.cancel()
        await asyncio.gather(worker, return_exceptions=True)


if __name__ == "__main__":
    url, schema, part = sys.argv[1:]
    asyncio.run((run if part == "run" else resume)(Database(url, schema)))
