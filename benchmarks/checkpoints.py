"""How long does a checkpoint take in one body, and how many a second in 100 bodies side by side?"""

from __future__ import annotations

from benchmarks.harness.engine import Execute, with_runner
from benchmarks.harness.question import Bodies, Metric, Question, Sample, Setting
from benchmarks.harness.sizes import (
    CHAINS_REPEATS,
    CHECKPOINT_BODIES,
    CHECKPOINT_REPEATS,
    CHECKPOINTS,
    at_once,
    repeat,
)
from benchmarks.harness.workflows import chain_of
from cloacina.model.context.context import Context
from cloacina.model.workflow import Workflow

QUESTION = Question(
    (
        Metric("step", f"{CHECKPOINTS} checkpoints in one body", "ms/checkpoint"),
        Metric(
            "rate", f"{CHECKPOINTS} checkpoints in each of {CHECKPOINT_BODIES} bodies", "checkpoints/s", True
        ),
    )
)


def made() -> dict[str, int]:
    return {"count": 1}


async def keep_async(context: Context) -> None:
    for number in range(CHECKPOINTS):
        value = await context.checkpoint(f"step {number}", made)
        context["count"] += value["count"]


def keep_def(context: Context) -> None:
    for number in range(CHECKPOINTS):
        value = context.checkpoint(f"step {number}", made)
        context["count"] += value["count"]


def workflow(bodies: Bodies) -> Workflow:
    """A workflow of one task that stores checkpoints, one after the other."""
    return chain_of(keep_async if bodies == "async" else keep_def, 1)


def sample(setting: Setting) -> Sample:
    return with_runner(setting.database, workflow(setting.bodies), measure)


async def measure(execute: Execute) -> Sample:
    alone = await repeat(CHECKPOINT_REPEATS, execute)
    together = await repeat(CHAINS_REPEATS, lambda: at_once(CHECKPOINT_BODIES, execute))
    return {"step": 1e3 * alone / CHECKPOINTS, "rate": CHECKPOINT_BODIES * CHECKPOINTS / together}
