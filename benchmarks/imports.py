"""How much longer does a program start that imports cloacina than one that imports asyncio?"""

from __future__ import annotations

import statistics
import subprocess
import sys

from benchmarks.harness.question import Metric, Question, Sample, Setting

QUESTION = Question(
    (
        Metric("package", "import cloacina over bare Python + asyncio", "ms", False, 60),
        Metric("runner", "from cloacina import Runner over bare Python + asyncio", "ms"),
    ),
    bodies=False,
    stores=("sqlite",),
)
TIMES = 5
PROGRAM = """
import asyncio, time
begin = time.perf_counter()
{}
print(1e3 * (time.perf_counter() - begin))
"""


def sample(_: Setting) -> Sample:
    return {
        "package": import_ms("import cloacina"),
        "runner": import_ms("from cloacina import Runner"),
    }


def import_ms(statement: str) -> float:
    """The median time of an import in fresh processes, in milliseconds; the first round compiled it all."""
    command = [sys.executable, "-c", PROGRAM.format(statement)]
    return statistics.median(float(subprocess.check_output(command)) for _ in range(TIMES))
