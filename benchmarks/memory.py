"""How much memory does an execution take that is stored and has no owner?

The runner's few slots are taken by bodies that wait, so everything submitted after them stays unowned. The
first 100,000 are not counted: they size the buffers that later ones use again. What is reported is by how much
the memory held between two submits, in the median, grows with 100,000 more: the C library gives a large buffer back
to the system or keeps it for the next, as it likes, so that single moments differ by some megabytes.
"""

from __future__ import annotations

import asyncio
import gc
from pathlib import Path
from statistics import median

from benchmarks.harness.question import Metric, Question, Sample, Setting
from benchmarks.harness.sizes import INPUT, WAITING
from cloacina.model.context.context import Context
from cloacina.model.workflow import Workflow
from cloacina.runner import Runner
from cloacina.settings import Settings

QUESTION = Question(
    (
        Metric(
            "bytes", "memory per stored, unowned execution (below 10 bytes is none)", "bytes", False, 10, 10
        ),
    ),
    rounds=2,
    warm_up=False,
    bodies=False,
)
AT_ONCE = 10_000
SMALL = Settings(async_slots=2, thread_slots=1, window=2, shutdown_grace=0.1)


def sample(setting: Setting) -> Sample:
    return asyncio.run(measure(setting))


async def measure(setting: Setting) -> Sample:
    started, opened = asyncio.Event(), asyncio.Event()

    async def wait(context: Context) -> None:
        started.set()
        await opened.wait()

    gate = Workflow("gate")
    gate.add(wait)
    async with setting.database.runner(workflows=[gate], settings=SMALL) as runner:
        for _ in range(SMALL.window):
            await runner.submit(gate, INPUT)
        await started.wait()
        before = await held(runner, gate)
        return {"bytes": (await held(runner, gate) - before) / WAITING}


async def held(runner: Runner, workflow: Workflow) -> float:
    """Store so many executions, and return how many bytes the process held between two submits, in the median."""
    moments = []
    for _ in range(WAITING // AT_ONCE):
        await submit(runner, workflow)
        moments.append(resident_bytes())
    return median(moments)


async def submit(runner: Runner, workflow: Workflow) -> None:
    """Store so many executions at once, and keep nothing of them."""
    await runner.submit_many(workflow, [INPUT] * AT_ONCE)


def resident_bytes() -> int:
    """The memory that this process holds now."""
    gc.collect()
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise OSError("/proc/self/status says nothing of VmRSS")
