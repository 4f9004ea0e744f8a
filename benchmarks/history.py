"""Does the engine slow down with 100,000 finished executions stored?

The history is made once, by the engine itself, and copied for each round. Empty and filled databases are
measured in turn, within the same round.
"""

from __future__ import annotations

from benchmarks import latency
from benchmarks.harness.database import Database
from benchmarks.harness.engine import Execute, with_runner
from benchmarks.harness.past import with_past
from benchmarks.harness.question import Bodies, Metric, Question, Sample, Setting
from benchmarks.harness.sizes import EXECUTIONS, at_once, repeat
from benchmarks.harness.workflows import one_task

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
REPEATS = 5
"""How often the throughput is measured on either database: one run is short, and the share of two shorter."""


def sample(setting: Setting) -> Sample:
    workflow = one_task(setting.bodies)
    filled = with_past(setting, "filled", workflow)
    empty, full = figures(setting.database, setting.bodies), figures(filled, setting.bodies)
    return {
        "rate_share": full["rate"] / empty["rate"],
        "p50_factor": full["p50"] / empty["p50"],
        "rate": full["rate"],
        "p50": full["p50"],
    }


def figures(database: Database, bodies: Bodies) -> Sample:
    """Throughput and latency on one database."""
    workflow = one_task(bodies)
    rate = with_runner(database, workflow, throughput)
    return {**rate, **with_runner(database, workflow, latency.measure)}


async def throughput(execute: Execute) -> Sample:
    return {"rate": EXECUTIONS / await repeat(REPEATS, lambda: at_once(EXECUTIONS, execute))}
