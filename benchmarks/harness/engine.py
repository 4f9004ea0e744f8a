"""The engine under measurement: a runner on a round's own database."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from benchmarks.harness.database import Database
from benchmarks.harness.question import Sample
from benchmarks.harness.sizes import INPUT
from cloacina.model.result import ExecutionResult
from cloacina.model.workflow import Workflow
from cloacina.runner import Runner
from cloacina.settings import Settings

Execute = Callable[[], Awaitable[ExecutionResult]]


def with_runner(
    database: Database, workflow: Workflow, measure: Callable[[Execute], Awaitable[Sample]]
) -> Sample:
    """Open a runner with default settings, and let ``measure`` execute ``workflow`` on the usual input."""

    async def main() -> Sample:
        async with database.runner(workflows=[workflow], settings=Settings()) as runner:
            return await measure(lambda: completed(runner, workflow))

    return asyncio.run(main())


async def completed(runner: Runner, workflow: Workflow) -> ExecutionResult:
    """Execute ``workflow`` on the usual input; raises if it does not complete: a failure is no figure."""
    return await runner.execute(workflow, INPUT, raise_on_failure=True)
