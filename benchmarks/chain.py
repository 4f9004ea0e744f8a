"""How long does a task take in a chain of 50, one execution at a time?"""

from __future__ import annotations

from benchmarks.harness.engine import Execute, with_runner
from benchmarks.harness.question import Metric, Question, Sample, Setting
from benchmarks.harness.sizes import CHAIN, CHAIN_REPEATS, repeat
from benchmarks.harness.workflows import chain

QUESTION = Question((Metric("step", "50-task chain", "ms/task", False, 0.6, 1.0, 0.6),))


def sample(setting: Setting) -> Sample:
    return with_runner(setting.database, chain(CHAIN, setting.bodies), measure)


async def measure(execute: Execute) -> Sample:
    return {"step": 1e3 * await repeat(CHAIN_REPEATS, execute) / CHAIN}
