"""How long DBOS takes from its restart after ``kill -9`` to the end of all workflows."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from typing import Any

from dbos import DBOS, SetWorkflowID

from benchmarks.harness.crash import DONE, seconds_to_recover
from benchmarks.harness.database import Database
from benchmarks.harness.question import Sample, Setting
from benchmarks.harness.sizes import CRASH_EXECUTIONS, CRASH_LINKS, CRASH_SECONDS, INPUT
from benchmarks.peers.dbos_launch import launch

HALF = CRASH_EXECUTIONS * CRASH_LINKS // 2
ended = 0
to_be_killed = False
"""True in the first process once all workflows are started."""


@DBOS.step()
async def slow(document: dict[str, Any]) -> int:
    global ended
    await asyncio.sleep(CRASH_SECONDS)
    ended += 1
    if to_be_killed and ended >= HALF:
        os.kill(os.getpid(), signal.SIGKILL)
    return int(document["count"]) + 1


@DBOS.workflow()
async def slow_chain(document: dict[str, Any]) -> dict[str, Any]:
    for _ in range(CRASH_LINKS):
        document["count"] = await slow(document)
    return document


def sample(wal: bool, setting: Setting) -> Sample:
    command = [sys.executable, "-m", __name__, *setting.database, str(int(wal))]
    return {"seconds": seconds_to_recover([*command, "run"], [*command, "resume"])}


async def run() -> None:
    """Start all workflows; the process is killed half way through."""
    global to_be_killed

    async def start(number: int) -> Any:
        with SetWorkflowID(f"crash-{number}"):
            return await DBOS.start_workflow_async(slow_chain, dict(INPUT))

    handles: list[Any] = await asyncio.gather(*map(start, range(CRASH_EXECUTIONS)))
    to_be_killed = True
    await asyncio.gather(*(handle.get_result() for handle in handles))


async def resume() -> None:
    """Wait for all workflows, which the launch recovered; say so."""
    ids = [f"crash-{number}" for number in range(CRASH_EXECUTIONS)]
    handles: list[Any] = [await DBOS.retrieve_workflow_async(id) for id in ids]
    results: list[Any] = await asyncio.gather(*(handle.get_result() for handle in handles))
    if any(result["count"] != CRASH_LINKS for result in results):
        raise AssertionError("a workflow did not do all its steps")
    print(DONE, flush=True)


async def main() -> None:
    url, schema, wal, part = sys.argv[1:]
    launch(Database(url, schema), wal == "1")
    await (run() if part == "run" else resume())
    DBOS.destroy()


if __name__ == "__main__":
    asyncio.run(main())
