"""How many one-task executions a second, when 2,000 are submitted at once?"""

from __future__ import annotations

from benchmarks.harness.engine import Execute, with_runner
from benchmarks.harness.question import Metric, Question, Sample, Setting
from benchmarks.harness.sizes import EXECUTIONS, at_once
from benchmarks.harness.workflows import one_task

QUESTION = Question(
    (Metric("rate", "2,000 one-task executions at once", "executions/s", True, 8_000, 6_000, 0.33),)
)


def sample(setting: Setting) -> Sample:
    return with_runner(setting.database, one_task(setting.bodies), measure)


async def measure(execute: Execute) -> Sample:
    return {"rate": EXECUTIONS / await at_once(EXECUTIONS, execute)}
