"""How many tasks a second in a fan-out of 2,000 and its fan-in?"""

from __future__ import annotations

from benchmarks.harness.engine import Execute, with_runner
from benchmarks.harness.question import Metric, Question, Sample, Setting
from benchmarks.harness.sizes import BRANCHES, FAN_REPEATS, repeat
from benchmarks.harness.workflows import fan

QUESTION = Question((Metric("rate", "fan-out of 2,000 and a fan-in", "tasks/s", True, 11_000, 8_000, 0.16),))


def sample(setting: Setting) -> Sample:
    return with_runner(setting.database, fan(BRANCHES, setting.bodies), measure)


async def measure(execute: Execute) -> Sample:
    return {"rate": (BRANCHES + 1) / await repeat(FAN_REPEATS, execute)}
