"""Does the engine slow down while 100,000 old executions are removed?

The history is made once, by the engine itself with a clock that is 40 days late, and copied for each round. The
same work is measured on two copies: on one everything is kept for ever, on the other the history is pruned all
the time while the work runs.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from benchmarks.harness.engine import completed
from benchmarks.harness.question import Metric, Question, Sample, Setting
from benchmarks.harness.sizes import EXECUTIONS, HISTORY, INPUT, at_once, one_by_one, repeat
from benchmarks.harness.workflows import one_task
from benchmarks.history import AT_ONCE, copy_durably
from cloacina.clock import SystemClock
from cloacina.model.workflow import Workflow
from cloacina.runner import Runner
from cloacina.settings import Settings
from cloacina.store.sqlite.copies.readonly import open_readonly

QUESTION = Question(
    (
        Metric(
            "rate_share", "while 100,000 are pruned: one-task executions/s, share of without", "", True, 0.9
        ),
        Metric("p50_factor", "while 100,000 are pruned: execute() p50, times without", "", False),
        Metric("rate", "while 100,000 are pruned: 2,000 one-task executions at once", "executions/s", True),
        Metric("pruned", "executions pruned a second meanwhile", "executions/s", True),
    ),
    warm_up=False,
    bodies=False,
)
REPEATS = 10
CALLS = 200
FOR_EVER = Settings(keep_completed_days=0, keep_failed_days=0)
DAYS_LATE = 40


class LateClock(SystemClock):
    """The machine's clock, so many days ago."""

    def now(self) -> int:
        return super().now() - DAYS_LATE * 86_400_000_000


def sample(setting: Setting) -> Sample:
    filled = setting.shared / "late.db"
    if not filled.exists():
        asyncio.run(fill(filled, one_task(setting.bodies)))
    found: dict[str, Sample] = {}
    for name, settings in (("without", FOR_EVER), ("pruning", Settings())):
        database = setting.folder / f"{name}.db"
        copy_durably(filled, database)
        found[name] = asyncio.run(figures(database, one_task(setting.bodies), settings))
    without, pruning = found["without"], found["pruning"]
    if not 0 < pruning["pruned"] < HISTORY or without["pruned"]:
        raise AssertionError(f"the history was not pruned all the time, so this is no measurement: {found}")
    return {
        "rate_share": pruning["rate"] / without["rate"],
        "p50_factor": pruning["p50"] / without["p50"],
        "rate": pruning["rate"],
        "pruned": pruning["pruned"] / pruning["seconds"],
    }


async def figures(database: Path, workflow: Workflow, settings: Settings) -> Sample:
    """Throughput and latency on one database, and how much of its history went meanwhile."""
    async with Runner(str(database), workflows=[workflow], settings=settings) as runner:
        loop = asyncio.get_running_loop()
        begin, before = loop.time(), stored(database)
        duration = await repeat(REPEATS, lambda: at_once(EXECUTIONS, lambda: completed(runner, workflow)))
        latencies = await one_by_one(CALLS, lambda: completed(runner, workflow))
        made = REPEATS * EXECUTIONS + CALLS
        return {
            "rate": EXECUTIONS / duration,
            "p50": latencies["p50"],
            "pruned": before + made - stored(database),
            "seconds": loop.time() - begin,
        }


def stored(database: Path) -> int:
    """How many executions there are."""
    with open_readonly(database) as reader:
        count: int = reader.query("SELECT count(*) AS stored FROM executions")[0]["stored"]
        return count


async def fill(database: Path, workflow: Workflow) -> None:
    """Run so many executions to their end, long ago."""
    async with Runner(str(database), workflows=[workflow], settings=FOR_EVER, clock=LateClock()) as runner:
        for _ in range(HISTORY // AT_ONCE):
            for handle in await runner.submit_many(workflow, [INPUT] * AT_ONCE):
                await handle.result()
