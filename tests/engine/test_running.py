"""Running workflows of every shape, and what their results say."""

from __future__ import annotations

import functools
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from cloacina.errors import ExecutionFailed
from cloacina.model.context.context import Context
from cloacina.model.retry import RetryPolicy
from cloacina.model.rules import task_failed
from cloacina.model.status import AttemptState, ExecutionStatus, Reason, TaskState
from cloacina.model.task import Task, task
from cloacina.model.workflow import Workflow
from support.clock import HandClock, until
from support.runners import in_memory, runner_on

COMPLETED, FAILED = ExecutionStatus.COMPLETED, ExecutionStatus.FAILED

# Tasks by id, each with its dependencies.
SHAPES: dict[str, dict[str, list[str]]] = {
    "one": {"a": []},
    "two alone": {"a": [], "b": []},
    "chain": {"a": [], "b": ["a"], "c": ["b"], "d": ["c"]},
    "diamond": {"a": [], "b": ["a"], "c": ["a"], "d": ["b", "c"]},
    "fan-out": {"a": [], **{f"b{i}": ["a"] for i in range(30)}},
    "fan-in": {**{f"a{i}": [] for i in range(30)}, "b": [f"a{i}" for i in range(30)]},
    "declared backwards": {"c": ["b"], "b": ["a"], "a": []},
}


def traced(order: list[str], id: str, after: list[str], kind: str) -> Task:
    """A task that says that it ran, in ``order`` and in a list of its own branch."""

    def body(ctx: Context) -> None:
        order.append(id)
        ctx["ran"].append(id)

    async def async_body(ctx: Context) -> None:
        body(ctx)

    return task(async_body if kind == "async" else body, id=id, dependencies=after)


@pytest.mark.parametrize("kind", ["async", "def"])
@pytest.mark.parametrize("shape", SHAPES)
async def test_every_task_runs_once_and_after_its_dependencies(shape: str, kind: str) -> None:
    order: list[str] = []
    tasks = SHAPES[shape]
    workflow = Workflow("shape", [traced(order, id, after, kind) for id, after in tasks.items()])
    async with in_memory() as runner:
        result = await runner.execute(workflow, {"ran": []})
    assert result.status is COMPLETED
    assert sorted(order) == sorted(tasks)
    assert all(order.index(needed) < order.index(id) for id, after in tasks.items() for needed in after)
    assert sorted(result.context["ran"]) == sorted(tasks)
    fates = {id: (task.state, task.attempts) for id, task in result.tasks.items()}
    assert fates == dict.fromkeys(tasks, (TaskState.COMPLETED, 1))


async def test_the_merged_context_does_not_depend_on_who_was_faster() -> None:
    async with in_memory() as runner:
        seen = set()
        for _ in range(20):
            order: list[str] = []
            tasks = [traced(order, f"a{i}", [], "def") for i in range(6)]
            result = await runner.execute(Workflow("race", tasks), {"ran": []})
            seen.add(tuple(result.context["ran"]))
    assert seen == {("a0", "a1", "a2", "a3", "a4", "a5")}


class Shop:
    def __init__(self, price: int) -> None:
        self.price = price

    async def sell(self, ctx: Context) -> None:
        ctx["method"] = self.price

    @staticmethod
    def close(ctx: Context) -> None:
        ctx["static"] = True

    async def __call__(self, ctx: Context) -> None:
        ctx["object"] = self.price


def scaled(ctx: Context, factor: int) -> None:
    ctx["partial"] = factor


async def async_scaled(factor: int, ctx: Context) -> None:
    ctx["async partial"] = factor


async def test_bodies_may_be_methods_partials_and_objects() -> None:
    shop = Shop(7)
    workflow = Workflow(
        "bodies",
        [
            task(shop.sell),
            task(Shop.close),
            task(shop, id="object"),
            task(functools.partial(scaled, factor=3), id="partial"),
            task(functools.partial(async_scaled, 4), id="async_partial"),
        ],
    )
    async with in_memory() as runner:
        result = await runner.execute(workflow)
    assert result.context.to_dict() == {
        "method": 7, "static": True, "object": 7, "partial": 3, "async partial": 4,
    }  # fmt: skip


@pytest.mark.parametrize("kind", ["async", "def"])
@pytest.mark.parametrize(
    ("returned", "said"),
    [
        (lambda ctx: None, None),
        (lambda ctx: ctx, None),
        (lambda ctx: 7, "int"),
        (lambda ctx: False, "bool"),
        (lambda ctx: {}, "dict"),
        (lambda ctx: Context(), "Context"),
        (lambda ctx: ctx.copy(), "Context"),
        (lambda ctx: object, "type"),
    ],
)
async def test_a_body_returns_nothing_or_its_context(returned: Any, said: str | None, kind: str) -> None:
    def body(ctx: Context) -> Any:
        ctx["changed"] = True
        return returned(ctx)

    async def async_body(ctx: Context) -> Any:
        return body(ctx)

    workflow = Workflow("returns", [task(body if kind == "def" else async_body, id="it")], retry=5)
    async with in_memory() as runner:
        result = await runner.execute(workflow)
    it = result.tasks["it"]
    if said is None:
        assert (result.status, result.context.to_dict()) == (COMPLETED, {"changed": True})
    else:
        assert (result.status, it.attempts, result.context.to_dict()) == (FAILED, 1, {})
        assert it.error is not None
        assert it.error.type == "cloacina.errors.PermanentError"
        assert (
            f"task 'it' of workflow 'returns' returned {said}: return None, or the context"
            in it.error.message
        )


def etl() -> Workflow:
    workflow = Workflow("etl", tags=["nightly"])

    @workflow.task
    async def load(ctx: Context) -> None:
        ctx["rows"] = 3

    @workflow.task(dependencies=[load], retry=False)
    async def check(ctx: Context) -> None:
        raise ValueError("three rows are too few")

    @workflow.task(dependencies=[check])
    async def publish(ctx: Context) -> None: ...

    @workflow.task(dependencies=[check], trigger_rules=task_failed(check))
    async def alert(ctx: Context) -> None: ...

    @workflow.task(dependencies=[alert], trigger_rules=task_failed(alert))
    async def escalate(ctx: Context) -> None: ...

    return workflow


def plain() -> Workflow:
    return Workflow("plain", [task(etl().tasks[0].fn, id="a")])


async def test_a_result_tells_everything() -> None:
    clock, workflow = HandClock(), etl()
    async with in_memory(clock=clock) as runner:
        result = await runner.execute(workflow, {"day": 1}, tags=["eu", "retry-me"])
        again = await runner.get(result.id)
    assert (result.workflow, result.version) == ("etl", workflow.version)
    assert result.status is FAILED
    assert result.context.to_dict() == {"day": 1, "rows": 3}
    assert result.tags == ("eu", "retry-me")
    assert result.error == "check: ValueError: three rows are too few"
    assert result.created == result.started == result.finished
    assert result.duration == timedelta(0)
    assert list(result.tasks) == list(workflow.dag.ids)
    assert {task.id: (task.state, task.reason, task.attempts) for task in result.tasks.values()} == {
        "load": (TaskState.COMPLETED, None, 1),
        "check": (TaskState.FAILED, None, 1),
        "publish": (TaskState.SKIPPED, Reason.DEPENDENCY_FAILED, 0),
        "alert": (TaskState.COMPLETED, None, 1),
        "escalate": (TaskState.SKIPPED, Reason.RULE_NOT_MET, 0),
    }
    assert (
        result.summary
        == str(result)
        == (
            "etl failed in 0.00s (2 completed, 1 failed, 2 skipped): check: ValueError: three rows are too few"
        )
    )
    assert again == result


async def test_an_error_is_told_with_type_message_and_traceback() -> None:
    async with in_memory() as runner:
        result = await runner.execute(etl())
    error = result.tasks["check"].error
    assert error is not None
    assert (error.type, error.message) == ("ValueError", "three rows are too few")
    assert 'raise ValueError("three rows are too few")' in error.traceback
    assert __file__ in error.traceback
    assert "cloacina/engine" not in error.traceback
    assert result.tasks["load"].error is None


async def test_timings_are_those_of_the_clock() -> None:
    clock = HandClock()
    workflow = Workflow("timed", retry=RetryPolicy(max_attempts=2, initial_delay=4.0, jitter=0))

    @workflow.task
    async def fetch(ctx: Context) -> None:
        clock.advance(1)
        if clock.monotonic() < 5:
            raise OSError("not yet")

    async with in_memory(clock=clock) as runner:
        handle = await runner.submit(workflow)
        await until(lambda: clock.pending == [4.0])
        clock.advance(4)
        result = await handle.result()
    history = result.tasks["fetch"].history
    times = [time for attempt in history for time in (attempt.started, attempt.finished)]
    assert [(time - result.created).total_seconds() for time in times if time] == [0, 1, 5, 6]
    assert [(attempt.number, attempt.state) for attempt in history] == [
        (1, AttemptState.FAILED),
        (2, AttemptState.COMPLETED),
    ]
    assert (result.tasks["fetch"].started, result.tasks["fetch"].finished) == (times[0], times[3])
    assert result.duration == timedelta(seconds=6)


async def test_raise_on_failure_raises_with_the_result() -> None:
    async with in_memory() as runner:
        with pytest.raises(ExecutionFailed, match="etl failed in .* three rows are too few") as caught:
            await runner.execute(etl(), raise_on_failure=True)
    assert caught.value.result.status is FAILED  # type: ignore[attr-defined]


async def test_raise_on_failure_returns_a_completed_result() -> None:
    async with in_memory() as runner:
        result = await runner.execute(plain(), raise_on_failure=True)
    assert result.status is COMPLETED


async def test_the_context_of_a_result_is_read_only(tmp_path: Path) -> None:
    async with runner_on(tmp_path / "c.db") as runner:
        result = await runner.execute(etl(), {"day": 1})
    with pytest.raises(Exception, match="read-only"):
        result.context["day"] = 2


async def test_the_engine_goes_on_after_failures() -> None:
    async with in_memory() as runner:
        for _ in range(3):
            assert (await runner.execute(etl())).status is FAILED
        assert (await runner.execute(plain())).status is COMPLETED


async def test_a_wide_and_deep_workflow_runs() -> None:
    order: list[str] = []
    chain = [traced(order, f"t{i}", [f"t{i - 1}"] if i else [], "async") for i in range(1000)]
    async with in_memory() as runner:
        result = await runner.execute(Workflow("deep", chain), {"ran": []})
    assert result.status is COMPLETED
    assert result.context["ran"] == [f"t{i}" for i in range(1000)]
