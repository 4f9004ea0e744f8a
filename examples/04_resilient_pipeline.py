"""A pipeline that survives its sources: retry, fall back, decide by quality, report.

Seven tasks. `fetch_data` may fail and is tried three times; `cached_data` takes its place when it is lost;
`process_data` rates what came; by that rating the high or the low path runs; `final_report` joins them;
`failure_notification` runs only when both sources are lost.

    python 04_resilient_pipeline.py                             # a random run, repeatable with --seed
    python 04_resilient_pipeline.py --fetch-failure 1           # the cache serves
    python 04_resilient_pipeline.py --fetch-failure 1 --cache-failure 1
    python 04_resilient_pipeline.py --fetch-failure 0 --quality 60
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import random
from datetime import UTC, datetime

from cloacina import (
    Context,
    ExecutionResult,
    Key,
    RetryPolicy,
    Runner,
    TaskState,
    Workflow,
    all_of,
    any_of,
    init_logging,
    task_failed,
    task_success,
)

log = logging.getLogger("pipeline")

QUALITY = Key("data_quality_score", int)
OPTIONS = Key("options", dict[str, float])

pipeline = Workflow("error_handling_workflow", description="Fetch, fall back, decide by quality, report")


@pipeline.task(retry=RetryPolicy(max_attempts=3, initial_delay=0.2, backoff="exponential"))
async def fetch_data(ctx: Context) -> None:
    """Ask the external source, which often fails."""
    log.info("asking the external source")
    if chance(ctx, "fetch_failure"):
        raise ConnectionError("external source temporarily unavailable")
    average = int(ctx[OPTIONS]["quality"])
    ctx["raw_data"] = records("external", [average + 2, average - 8, average + 6])


@pipeline.task(dependencies=[fetch_data], trigger_rules=task_failed(fetch_data), retry=False)
def cached_data(ctx: Context) -> None:
    """Serve what the cache still has."""
    log.info("serving from the cache")
    if chance(ctx, "cache_failure"):
        raise LookupError("the cache is empty")
    ctx["raw_data"] = records("cache", [60, 65, 70])


@pipeline.task(dependencies=[fetch_data, cached_data], retry=False)
async def process_data(ctx: Context) -> None:
    """Rate the data, wherever it came from."""
    raw = ctx["raw_data"]
    qualities = [record["quality"] for record in raw["records"]]
    ctx[QUALITY] = sum(qualities) // len(qualities)
    ctx["processed_data"] = {"source": raw["source"], "quality_score": ctx[QUALITY]}
    log.info("quality score: %d", ctx[QUALITY])


@pipeline.task(
    dependencies=[process_data],
    trigger_rules=all_of(task_success(process_data), QUALITY > 80),
    retry=False,
)
async def high_quality_processing(ctx: Context) -> None:
    """The path for data that is worth the effort."""
    ctx["processing_result"] = {"path": "high_quality", "enhancements": ["validation", "premium"]}


@pipeline.task(
    dependencies=[process_data],
    trigger_rules=all_of(task_success(process_data), QUALITY <= 80),
    retry=False,
)
async def low_quality_processing(ctx: Context) -> None:
    """The path for the rest."""
    ctx["processing_result"] = {"path": "low_quality", "enhancements": ["validation"]}


@pipeline.task(
    dependencies=[fetch_data, cached_data],
    trigger_rules=all_of(task_failed(fetch_data), task_failed(cached_data)),
    retry=False,
)
async def failure_notification(ctx: Context) -> None:
    """Call somebody: both sources are lost."""
    log.error("both sources failed")
    ctx["failure_notification"] = {"level": "high", "message": "both data sources failed"}


@pipeline.task(
    dependencies=[high_quality_processing, low_quality_processing],
    trigger_rules=any_of(task_success(high_quality_processing), task_success(low_quality_processing)),
    retry=False,
)
async def final_report(ctx: Context) -> None:
    """Say what was done."""
    ctx["execution_report"] = {
        "data_source": ctx["processed_data"]["source"],
        "quality_score": ctx[QUALITY],
        "processing_path": ctx["processing_result"]["path"],
    }


CHANCES = random.Random()


def chance(ctx: Context, failure: str) -> bool:
    """True with the probability that the options give to this failure; drawn anew for each attempt."""
    return CHANCES.random() < ctx[OPTIONS][failure]


def records(source: str, qualities: list[int]) -> dict[str, object]:
    """Data as a source would give it."""
    rows = [{"id": number, "quality": quality} for number, quality in enumerate(qualities, 1)]
    return {"source": source, "records": rows, "fetched_at": datetime.now(UTC)}


def report(result: ExecutionResult) -> None:
    """Print how each task ended."""
    signs = {TaskState.COMPLETED: "✅", TaskState.SKIPPED: "⏭️", TaskState.FAILED: "❌"}
    print(f"\nPipeline {result.status}")
    if result.duration is not None:
        print(f"Total execution time: {result.duration.total_seconds():.1f}s")
    print(f"Tasks: {len(result.tasks)}")
    for task in result.tasks.values():
        again = f" ({task.attempts} attempts)" if task.attempts > 1 else ""
        print(f"  {signs[task.state]} {task.id}: {task.state}{again}")
        if task.state is TaskState.SKIPPED:
            print(f"       reason: {task.reason}")
        if task.error is not None:
            print(f"       error: {task.error}")
    if "execution_report" in result.context:
        print(f"Report: {result.context['execution_report']}")


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--database", default="sqlite:///error_handling.db")
    parser.add_argument("--fetch-failure", type=float, default=0.7, help="probability that a fetch fails")
    parser.add_argument("--cache-failure", type=float, default=0.1, help="probability that the cache fails")
    parser.add_argument("--quality", type=int, default=83, help="average quality of fetched data")
    parser.add_argument("--seed", type=int, help="repeat a run")
    options = parser.parse_args()
    CHANCES.seed(options.seed)
    init_logging(logging.INFO)
    chosen = {name: getattr(options, name) for name in ("fetch_failure", "cache_failure", "quality")}
    async with Runner(options.database, workflows=[pipeline]) as runner:
        result = await runner.execute(pipeline, {"options": chosen})
    report(result)


if __name__ == "__main__":
    asyncio.run(main())
