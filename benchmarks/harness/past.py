"""The past: finished executions, made once by the engine itself, of which each round gets a copy."""

from __future__ import annotations

import asyncio

from benchmarks.harness.database import Database
from benchmarks.harness.question import Setting
from benchmarks.harness.sizes import HISTORY, INPUT
from cloacina.clock import Clock, SystemClock
from cloacina.model.workflow import Workflow
from cloacina.settings import Settings

AT_ONCE = 10_000
FOR_EVER = Settings(keep_completed_days=0, keep_failed_days=0)


def with_past(setting: Setting, name: str, workflow: Workflow, clock: Clock | None = None) -> Database:
    """A new database of this round with `HISTORY` executions of ``workflow``, which ended when ``clock`` says."""
    kept, made = setting.kept("past"), setting.shared / "past.made"
    if not made.exists():
        fill(kept, workflow, HISTORY, clock)
        made.touch()
    database = setting.another(name)
    if database.schema:
        fill(database, workflow, 0)  # its tables; a file brings its own
    database.copy_from(kept)
    return database


def fill(database: Database, workflow: Workflow, number: int, clock: Clock | None = None) -> None:
    """Run so many executions to their end, which stay for ever."""

    async def main() -> None:
        async with database.runner(
            workflows=[workflow], settings=FOR_EVER, clock=clock or SystemClock()
        ) as runner:
            for _ in range(number // AT_ONCE):
                for handle in await runner.submit_many(workflow, [INPUT] * AT_ONCE):
                    await handle.result()

    asyncio.run(main())
