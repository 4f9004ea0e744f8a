"""One edition of a program that is deployed again and again: ``rolling EDITION DATABASE LEDGER COUNT``.

Its workflow is first → middle → last; in edition 1 the middle task waits at the gate. Edition 3 has another task
before the first one, so that it cannot go on with what the others began. It submits COUNT executions, and stays
until SIGTERM.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path
from typing import Any

from acceptance.support import ledger
from acceptance.support.ledger import say
from cloacina.engine.executors.callbacks import CallbackInfo
from cloacina.model.context.context import Context
from cloacina.model.context.handle import TaskHandle
from cloacina.model.task import Task, task
from cloacina.model.workflow import Workflow
from cloacina.observe.logs import init_logging
from cloacina.runner import Runner
from cloacina.settings import Settings


def over(context: Context, info: CallbackInfo) -> None:
    say("over", info.execution, info.status)


def step(id: str, edition: int, *after: str) -> Task:
    waits = edition == 1 and id == "middle"

    def body(ctx: Context, handle: TaskHandle) -> None:
        ledger.ledger().write("ran", edition, id, handle.execution)
        if waits:
            ledger.ledger().wait_at_gate()
        ctx[id] = edition

    return task(body, id=id, dependencies=after, retry=False)


def made(edition: int) -> Workflow:
    """The workflow of one edition."""
    first = (
        [step("zero", edition), step("first", edition, "zero")] if edition == 3 else [step("first", edition)]
    )
    rest = [step("middle", edition, "first"), step("last", edition, "middle")]
    return Workflow("rolling", [*first, *rest], on_success=over, on_failure=over)


async def main(edition: int, database: str, count: int) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    options: dict[str, Any] = {"poll_interval": 0.05, "shutdown_grace": 10, "thread_slots": 4}
    workflow = made(edition)
    async with Runner(database, workflows=[workflow], settings=Settings(**options)) as runner:
        say("up", runner.id)
        for handle in await runner.submit_many(workflow, [{"by": edition}] * count):
            say("submitted", handle.id)
        await stop.wait()
    say("done")


if __name__ == "__main__":
    init_logging()
    ledger.use(Path(sys.argv[3]))
    asyncio.run(main(int(sys.argv[1]), sys.argv[2], int(sys.argv[4])))
