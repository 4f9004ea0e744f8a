"""How many SQL statements does an execution take, with those that begin and end transactions?"""

from __future__ import annotations

import asyncio

from benchmarks.harness.engine import completed
from benchmarks.harness.question import Metric, Question, Sample, Setting
from benchmarks.harness.sizes import CHAIN, count_statements
from benchmarks.harness.statements import counted
from benchmarks.harness.workflows import chain, one_task
from cloacina.settings import Settings

QUESTION = Question(
    (
        Metric("together", "statements for each of 2,000 one-task executions at once", ""),
        Metric("alone", "statements for execute() on an idle engine", ""),
        Metric("step", "statements for each task of a 50-task chain", ""),
    ),
    rounds=1,
    warm_up=False,
    bodies=False,
    stores=("postgres",),
)


def sample(setting: Setting) -> Sample:
    async def main() -> Sample:
        one, chained = one_task(setting.bodies), chain(CHAIN, setting.bodies)
        async with counting.database.runner(workflows=[one, chained], settings=Settings()) as runner:
            return await count_statements(
                count, lambda: completed(runner, one), lambda: completed(runner, chained)
            )

    with counted(setting) as (counting, count):
        return asyncio.run(main())
