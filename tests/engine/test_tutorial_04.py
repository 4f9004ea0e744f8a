"""The resilient pipeline of tutorial 04: every path through its seven tasks."""

from __future__ import annotations

from pathlib import Path

import pytest

from cloacina.errors import TaskError
from cloacina.model.context.context import Context
from cloacina.model.context.keys import Key
from cloacina.model.retry import RetryPolicy
from cloacina.model.rules import all_of, any_of, context_value, task_failed, task_success
from cloacina.model.status import ExecutionStatus, Reason, TaskState
from cloacina.model.workflow import Workflow
from support.clock import HandClock, until
from support.runners import runner_on

QUALITY = Key("data_quality_score", int)
RETRIES = RetryPolicy(max_attempts=3, initial_delay=1.0, backoff="exponential", jitter=0)


def resilient_pipeline() -> Workflow:
    """``ctx["fail"]`` names the tasks that fail; ``ctx["fetch_failures"]`` counts failures before a success."""
    pipeline = Workflow("resilient_pipeline", retry=False)
    attempts: dict[str, int] = {}

    def fail_if_asked(ctx: Context, id: str) -> None:
        if id in ctx["fail"]:
            raise TaskError(f"{id} is down")

    @pipeline.task(retry=RETRIES)
    async def fetch_data(ctx: Context) -> None:
        attempts["fetch"] = attempts.get("fetch", 0) + 1
        if attempts["fetch"] <= ctx["fetch_failures"]:
            raise TaskError("the source is away")
        ctx["raw_data"] = {"source": "external", "quality": ctx["quality"]}

    @pipeline.task(dependencies=[fetch_data], trigger_rules=task_failed(fetch_data))
    def cached_data(ctx: Context) -> None:
        fail_if_asked(ctx, "cached_data")
        ctx["raw_data"] = {"source": "cache", "quality": 65}

    @pipeline.task(dependencies=[fetch_data, cached_data])
    async def process_data(ctx: Context) -> None:
        fail_if_asked(ctx, "process_data")
        ctx[QUALITY] = ctx["raw_data"]["quality"]

    @pipeline.task(dependencies=[process_data], trigger_rules=task_success(process_data) & (QUALITY > 80))
    async def high_quality_processing(ctx: Context) -> None:
        fail_if_asked(ctx, "high_quality_processing")
        ctx["path"] = "high"

    @pipeline.task(
        dependencies=[process_data],
        trigger_rules=all_of(task_success(process_data), context_value(QUALITY, "less_than", 81)),
    )
    def low_quality_processing(ctx: Context) -> None:
        fail_if_asked(ctx, "low_quality_processing")
        ctx["path"] = "low"

    @pipeline.task(
        dependencies=[fetch_data, cached_data],
        trigger_rules=task_failed(fetch_data) & task_failed(cached_data),
    )
    async def failure_notification(ctx: Context) -> None:
        ctx["notified"] = True

    @pipeline.task(
        dependencies=[high_quality_processing, low_quality_processing],
        trigger_rules=any_of(task_success(high_quality_processing), task_success(low_quality_processing)),
    )
    async def final_report(ctx: Context) -> None:
        ctx["report"] = f"{ctx['raw_data']['source']}, {ctx['path']}"

    return pipeline


TASKS = ["fetch_data", "cached_data", "process_data", "high_quality_processing", "low_quality_processing",
         "failure_notification", "final_report"]  # fmt: skip
NOT_MET, DEPENDENCY = Reason.RULE_NOT_MET, Reason.DEPENDENCY_FAILED
RAN, BROKE = None, "failed"


@pytest.mark.parametrize(
    ("failures", "quality", "fail", "outcome", "fates", "report"),
    [
        (0, 83, [], "completed", [RAN, NOT_MET, RAN, RAN, NOT_MET, NOT_MET, RAN], "external, high"),
        (2, 83, [], "completed", [RAN, NOT_MET, RAN, RAN, NOT_MET, NOT_MET, RAN], "external, high"),
        (0, 80, [], "completed", [RAN, NOT_MET, RAN, NOT_MET, RAN, NOT_MET, RAN], "external, low"),
        (0, 81, [], "completed", [RAN, NOT_MET, RAN, RAN, NOT_MET, NOT_MET, RAN], "external, high"),
        (3, 83, [], "completed", [BROKE, RAN, RAN, NOT_MET, RAN, NOT_MET, RAN], "cache, low"),
        (
            3, 83, ["cached_data"], "failed",
            [BROKE, BROKE, DEPENDENCY, DEPENDENCY, DEPENDENCY, RAN, DEPENDENCY], None,
        ),
        (
            0, 83, ["process_data"], "failed",
            [RAN, NOT_MET, BROKE, DEPENDENCY, DEPENDENCY, NOT_MET, DEPENDENCY], None,
        ),
        (
            0, 83, ["high_quality_processing"], "failed",
            [RAN, NOT_MET, RAN, BROKE, NOT_MET, NOT_MET, DEPENDENCY], None,
        ),
        (
            3, 83, ["low_quality_processing"], "failed",
            [BROKE, RAN, RAN, NOT_MET, BROKE, NOT_MET, DEPENDENCY], None,
        ),
    ],
)  # fmt: skip
async def test_every_path(
    tmp_path: Path,
    failures: int,
    quality: int,
    fail: list[str],
    outcome: str,
    fates: list[object],
    report: str | None,
) -> None:
    clock = HandClock()
    async with runner_on(tmp_path / "c.db", clock=clock) as runner:
        input = {"fetch_failures": failures, "quality": quality, "fail": fail}
        idle = {wait: timers(clock, wait) for wait in (1.0, 2.0)}
        handle = await runner.submit(resilient_pipeline(), input)
        for wait in [1.0, 2.0][:failures]:
            await until(lambda wait=wait: timers(clock, wait) > idle[wait])  # type: ignore[misc]
            clock.advance(wait)
        result = await handle.result()
    assert result.status is ExecutionStatus(outcome)
    told = {
        task.id: BROKE if task.state is TaskState.FAILED else task.reason for task in result.tasks.values()
    }
    assert told == dict(zip(TASKS, fates, strict=True))
    assert result.tasks["fetch_data"].attempts == min(failures + 1, 3)
    assert result.context.get("report") == report
    assert result.context.get("notified", False) is (fates[5] is RAN)


def timers(clock: HandClock, wait: float) -> int:
    """How many timers are due in ``wait`` seconds."""
    return sum(due == pytest.approx(wait) for due in clock.pending)
