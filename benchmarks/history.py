"""Does the engine slow down with 100,000 finished executions stored?

The history is made once, by the engine itself, and copied for each round. A runner on an empty database and one on
the copy take turns, piece by piece, so that a busy moment of the machine strikes both.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from benchmarks.harness.engine import completed
from benchmarks.harness.past import with_past
from benchmarks.harness.question import Metric, Question, Sample, Setting
from benchmarks.harness.sizes import CALLS, EXECUTIONS, at_once, in_turns
from benchmarks.harness.workflows import one_task
from cloacina.settings import Settings

QUESTION = Question(
    (
        Metric("rate_share", "100,000 stored: one-task executions/s, share of empty", "", True, 0.9, 0.9),
        Metric("p50_factor", "100,000 stored: execute() p50, times empty", "", False, 1.1, 1.1),
        Metric("rate", "100,000 stored: 2,000 one-task executions at once", "executions/s", True),
        Metric("p50", "100,000 stored: execute() on an idle engine, p50", "ms"),
    ),
    warm_up=False,
    bodies=False,
)
REPEATS = 6
"""How often the throughput is measured on either database: one run is short, and the share of two shorter."""

Work = Callable[[], Awaitable[object]]


def sample(setting: Setting) -> Sample:
    filled = with_past(setting, "filled", one_task(setting.bodies))

    async def main() -> Sample:
        workflow, settings = one_task(setting.bodies), Settings()
        async with (
            setting.database.runner(workflows=[workflow], settings=settings) as on_empty,
            filled.runner(workflows=[workflow], settings=settings) as on_filled,
        ):
            return await figures(
                lambda: completed(on_empty, workflow), lambda: completed(on_filled, workflow)
            )

    return asyncio.run(main())


async def figures(empty: Work, filled: Work) -> Sample:
    """Throughput and latency of the two."""
    whole = await in_turns(REPEATS, lambda: at_once(EXECUTIONS, empty), lambda: at_once(EXECUTIONS, filled))
    single = await in_turns(CALLS, empty, filled)
    return {
        "rate_share": whole[0] / whole[1],
        "p50_factor": single[1] / single[0],
        "rate": EXECUTIONS / whole[1],
        "p50": 1e3 * single[1],
    }
