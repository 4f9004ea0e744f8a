"""How long does a call of a body in a process of its own take, and how many a second?

The same execution as in ``latency``, whose task runs in a child process that was used before; then what a context
of 1 MB adds, and what it takes to start a child.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from benchmarks.harness.question import Bodies, Metric, Question, Sample, Setting
from benchmarks.harness.sizes import CALLS, INPUT, PROCESS_CALLS, PROCESS_STARTS, at_once, in_turns, repeat
from benchmarks.harness.workflows import TRIVIAL
from cloacina.model.workflow import Workflow
from cloacina.runner import Runner
from cloacina.settings import Settings

QUESTION = Question(
    (
        Metric("call", "execute() of a body in a process over one here", "ms", False, 1.0),
        Metric("p50", "execute() of a body in a process, p50", "ms"),
        Metric("large", "the same with 1 MB of context, p50", "ms"),
        Metric("rate", f"{PROCESS_CALLS} executions of it at once", "/s", True),
        Metric("start", "execute() of a body in a new process", "ms"),
    ),
    stores=("sqlite",),
)
LARGE: dict[str, Any] = {**INPUT, "large": "x" * 999_000}


def sample(setting: Setting) -> Sample:
    return asyncio.run(measure(setting))


async def measure(setting: Setting) -> Sample:
    async with setting.database.runner(settings=Settings()) as runner:
        inside, outside = (workflow(setting.bodies, where) for where in ("local", "process"))
        here, there = await called(runner, [inside, outside], INPUT, CALLS)
        (large,) = await called(runner, [outside], LARGE, CALLS // 10)
        seconds = await at_once(PROCESS_CALLS, lambda: execute(runner, setting.bodies))
    return {
        "call": there - here,
        "p50": there,
        "large": large,
        "rate": PROCESS_CALLS / seconds,
        "start": 1e3 * await starting(setting),
    }


async def called(runner: Runner, works: list[Workflow], given: dict[str, Any], times: int) -> list[float]:
    """The median time of an execution of each workflow, in milliseconds; they take turns."""

    def one(work: Workflow) -> Callable[[], Awaitable[object]]:
        return lambda: runner.execute(work, given, raise_on_failure=True)

    calls = [one(work) for work in works]
    await in_turns(1, *calls)  # starts the children
    return [1e3 * median for median in await in_turns(times, *calls)]


async def execute(runner: Runner, bodies: Bodies) -> None:
    await runner.execute(workflow(bodies, "process"), INPUT, raise_on_failure=True)


async def starting(setting: Setting) -> float:
    """The median of executions that each need a new child, in seconds."""
    settings = Settings(process_slots=1, process_attempts=1)
    async with setting.another("starts").runner(settings=settings) as runner:
        return await repeat(PROCESS_STARTS, lambda: execute(runner, setting.bodies))


def workflow(bodies: Bodies, executor: str) -> Workflow:
    """A workflow of one task there."""
    key = (bodies, executor)
    if key not in WORKFLOWS:
        WORKFLOWS[key] = Workflow(f"{executor}_{bodies}")
        WORKFLOWS[key].add(TRIVIAL[bodies], id="step", executor=executor)
    return WORKFLOWS[key]


WORKFLOWS: dict[tuple[Bodies, str], Workflow] = {}
