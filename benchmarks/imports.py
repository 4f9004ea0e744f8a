"""How much longer does a program start that imports cloacina than one that imports asyncio?"""

from __future__ import annotations

import statistics
import subprocess
import sys

from benchmarks.harness.question import Metric, Question, Sample, Setting

QUESTION = Question(
    (Metric("ms", "import cloacina over bare Python + asyncio", "ms", False, 60),), bodies=False
)
TIMES = 5
PROGRAM = """
import asyncio, time
begin = time.perf_counter()
import {}
print(1e3 * (time.perf_counter() - begin))
"""


def sample(_: Setting) -> Sample:
    return {"ms": import_ms("cloacina")}


def import_ms(package: str) -> float:
    """The median time of the import in fresh processes, in milliseconds; all is compiled before."""
    command = [sys.executable, "-c", PROGRAM.format(package)]
    return statistics.median(float(subprocess.check_output(command)) for _ in range(TIMES))
