"""How many tasks a second in 100 chains of 10 that run side by side?"""

from __future__ import annotations

from benchmarks.harness.engine import Execute, with_runner
from benchmarks.harness.question import Metric, Question, Sample, Setting
from benchmarks.harness.sizes import CHAINS, CHAINS_REPEATS, LINKS, at_once, repeat
from benchmarks.harness.workflows import chain

QUESTION = Question((Metric("rate", "100 chains of 10", "tasks/s", True, 10_000, 6_000, 0.25),))


def sample(setting: Setting) -> Sample:
    return with_runner(setting.database, chain(LINKS, setting.bodies), measure)


async def measure(execute: Execute) -> Sample:
    return {"rate": CHAINS * LINKS / await repeat(CHAINS_REPEATS, lambda: at_once(CHAINS, execute))}
