"""What does an idle engine cost: SQL statements and CPU time?

CPU time is that of the whole process, its lease and store threads included; that of a server is not in it.
"""

from __future__ import annotations

from benchmarks.harness.engine import Execute, with_runner
from benchmarks.harness.question import Metric, Question, Sample, Setting
from benchmarks.harness.sizes import watch_idle
from benchmarks.harness.statements import counted
from benchmarks.harness.workflows import one_task

QUESTION = Question(
    (
        Metric("statements", "idle: SQL statements a minute", "", False, 0, 30),
        Metric("cpu", "idle: CPU seconds a minute", "s", False, 0.1, 0.1),
    ),
    rounds=1,
    warm_up=False,
    bodies=False,
)


def sample(setting: Setting) -> Sample:
    with counted(setting) as (counting, count):

        async def measure(execute: Execute) -> Sample:
            await execute()
            return await watch_idle(count)

        return with_runner(counting.database, one_task(setting.bodies), measure)
