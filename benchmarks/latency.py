"""How long does ``execute()`` of one task take on an idle engine?"""

from __future__ import annotations

from benchmarks.harness.engine import Execute, with_runner
from benchmarks.harness.question import Metric, Question, Sample, Setting
from benchmarks.harness.sizes import CALLS, one_by_one
from benchmarks.harness.workflows import one_task

QUESTION = Question(
    (
        Metric("p50", "execute() on an idle engine, p50", "ms", False, 1.0, 2.0, 0.6),
        Metric("p95", "execute() on an idle engine, p95", "ms"),
        Metric("p99", "execute() on an idle engine, p99", "ms"),
    )
)


def sample(setting: Setting) -> Sample:
    return with_runner(setting.database, one_task(setting.bodies), measure)


async def measure(execute: Execute) -> Sample:
    return await one_by_one(CALLS, execute)
