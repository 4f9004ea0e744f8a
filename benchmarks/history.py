"""Does the engine slow down with 100,000 finished executions stored?

The history is made once, by the engine itself, and copied for each round. Empty and filled databases are
measured in turn, within the same round.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from pathlib import Path

from benchmarks import latency
from benchmarks.harness.engine import Execute, with_runner
from benchmarks.harness.question import Metric, Question, Sample, Setting
from benchmarks.harness.sizes import EXECUTIONS, HISTORY, INPUT, at_once, repeat
from benchmarks.harness.workflows import one_task
from cloacina.runner import Runner

QUESTION = Question(
    (
        Metric("rate_share", "100,000 stored: one-task executions/s, share of empty", "", True, 0.9),
        Metric("p50_factor", "100,000 stored: execute() p50, times empty", "", False, 1.1),
        Metric("rate", "100,000 stored: 2,000 one-task executions at once", "executions/s", True),
        Metric("p50", "100,000 stored: execute() on an idle engine, p50", "ms"),
    ),
    warm_up=False,
    bodies=False,
)
AT_ONCE = 10_000
REPEATS = 5
"""How often the throughput is measured on either database: one run is short, and the share of two shorter."""


def sample(setting: Setting) -> Sample:
    filled = setting.shared / "filled.db"
    if not filled.exists():
        asyncio.run(fill(filled, setting))
    with_history = Setting(setting.folder / "filled", setting.shared, setting.bodies)
    with_history.folder.mkdir()
    copy_durably(filled, with_history.database)
    empty, full = figures(setting), figures(with_history)
    return {
        "rate_share": full["rate"] / empty["rate"],
        "p50_factor": full["p50"] / empty["p50"],
        "rate": full["rate"],
        "p50": full["p50"],
    }


def figures(setting: Setting) -> Sample:
    """Throughput and latency on one database."""
    workflow = one_task(setting.bodies)
    rate = with_runner(setting, workflow, throughput)
    return {**rate, **with_runner(setting, workflow, latency.measure)}


async def throughput(execute: Execute) -> Sample:
    return {"rate": EXECUTIONS / await repeat(REPEATS, lambda: at_once(EXECUTIONS, execute))}


async def fill(database: Path, setting: Setting) -> None:
    """Run so many executions to their end."""
    workflow = one_task(setting.bodies)
    async with Runner(str(database), workflows=[workflow]) as runner:
        for _ in range(HISTORY // AT_ONCE):
            for handle in await runner.submit_many(workflow, [INPUT] * AT_ONCE):
                await handle.result()


def copy_durably(source: Path, target: Path) -> None:
    """Copy a closed database, and leave nothing for the disk to do during the measurement."""
    shutil.copyfile(source, target)
    descriptor = os.open(target, os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
