"""Does the engine slow down while 100,000 old executions are removed?

The history is made once, by the engine itself with a clock that is 40 days late, and copied for each round. The
same work is measured on two copies: on one everything is kept for ever, on the other the history is pruned all
the time while the work runs.
"""

from __future__ import annotations

import asyncio

from benchmarks.harness.database import Database
from benchmarks.harness.engine import completed
from benchmarks.harness.past import FOR_EVER, with_past
from benchmarks.harness.question import Metric, Question, Sample, Setting
from benchmarks.harness.sizes import EXECUTIONS, HISTORY, at_once, one_by_one, repeat
from benchmarks.harness.workflows import one_task
from cloacina.clock import SystemClock
from cloacina.model.workflow import Workflow
from cloacina.settings import Settings

QUESTION = Question(
    (
        Metric(
            "rate_share",
            "while 100,000 are pruned: one-task executions/s, share of without",
            "",
            True,
            0.9,
            0.9,
        ),
        Metric("p50_factor", "while 100,000 are pruned: execute() p50, times without", "", False),
        Metric("rate", "while 100,000 are pruned: 2,000 one-task executions at once", "executions/s", True),
        Metric("pruned", "executions pruned a second meanwhile", "executions/s", True),
    ),
    rounds=3,
    warm_up=False,
    bodies=False,
)
REPEATS = 10
CALLS = 200
DAYS_LATE = 40


class LateClock(SystemClock):
    """The machine's clock, so many days ago."""

    def now(self) -> int:
        return super().now() - DAYS_LATE * 86_400_000_000


def sample(setting: Setting) -> Sample:
    found: dict[str, Sample] = {}
    for name, settings in (("without", FOR_EVER), ("pruning", Settings())):
        workflow = one_task(setting.bodies)
        database = with_past(setting, name, workflow, LateClock())
        found[name] = asyncio.run(figures(database, workflow, settings))
    without, pruning = found["without"], found["pruning"]
    if not 0 < pruning["pruned"] < HISTORY or without["pruned"]:
        raise AssertionError(f"the history was not pruned all the time, so this is no measurement: {found}")
    return {
        "rate_share": pruning["rate"] / without["rate"],
        "p50_factor": pruning["p50"] / without["p50"],
        "rate": pruning["rate"],
        "pruned": pruning["pruned"] / pruning["seconds"],
    }


async def figures(database: Database, workflow: Workflow, settings: Settings) -> Sample:
    """Throughput and latency on one database, and how much of its history went meanwhile."""
    async with database.runner(workflows=[workflow], settings=settings) as runner:
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


def stored(database: Database) -> int:
    """How many executions there are."""
    return int(database.rows("SELECT count(*) AS stored FROM executions")[0][0])
