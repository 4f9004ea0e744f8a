"""Rules, optional and recovering tasks, and views that cannot be built, through the real engine."""

from __future__ import annotations

from typing import Any

import pytest

from cloacina.model.context.context import Context
from cloacina.model.context.keys import Key
from cloacina.model.rules import Condition, always, context_value, task_failed, task_skipped, task_success
from cloacina.model.status import AttemptState, ExecutionStatus, Reason, TaskState
from cloacina.model.task import Task, task
from cloacina.model.workflow import Workflow
from support.runners import in_memory

COMPLETED, FAILED = ExecutionStatus.COMPLETED, ExecutionStatus.FAILED


def step(id: str, *after: str, fails: bool = False, rule: Condition | None = None, **options: Any) -> Task:
    """A task that adds its id to the list ``ran``, or fails."""

    async def body(ctx: Context) -> None:
        ctx["ran"].append(id)
        if fails:
            raise ValueError(f"{id} fails")

    if rule is not None:
        options["trigger_rules"] = rule
    return task(body, id=id, dependencies=after, retry=False, **options)


CASES: dict[str, tuple[list[Task], ExecutionStatus, str]] = {
    "an alert does not mend": (
        [step("a", fails=True), step("alert", "a", rule=task_failed("a"))],
        FAILED,
        "alert",
    ),
    "a stand-in and a join do": (
        [step("a", fails=True), step("f", "a", rule=task_failed("a")), step("j", "a", "f")],
        COMPLETED,
        "f j",
    ),
    "an optional task may fail": (
        [step("a"), step("e", fails=True, optional=True), step("r", "a", "e")],
        COMPLETED,
        "a r",
    ),
    "an optional task alone may fail": ([step("e", fails=True, optional=True)], COMPLETED, ""),
    "one that recovers mends what it stands for": (
        [
            step("a", fails=True),
            step("b", "a"),
            step("c", "b"),
            step("f", "a", rule=task_failed("a"), recovers=True),
        ],
        COMPLETED,
        "f",
    ),
    "one that recovers and fails does not": (
        [step("a", fails=True), step("f", "a", fails=True, rule=task_failed("a"), recovers=True)],
        FAILED,
        "",
    ),
    "clean-up runs and mends nothing": (
        [step("a", fails=True), step("b", "a"), step("c", "a", "b", rule=always())],
        FAILED,
        "c",
    ),
    "a skip can be tested": (
        [step("a"), step("b", "a", rule=task_failed("a")), step("c", "b", rule=task_skipped("b"))],
        COMPLETED,
        "a c",
    ),
    "skipped branches join": (
        [
            step("a"),
            step("b", "a", rule=task_success("a")),
            step("c", "a", rule=task_failed("a")),
            step("j", "b", "c"),
        ],
        COMPLETED,
        "a b j",
    ),
}


@pytest.mark.parametrize("name", CASES)
async def test_cases(name: str) -> None:
    tasks, outcome, ran = CASES[name]
    async with in_memory() as runner:
        result = await runner.execute(Workflow("case", tasks), {"ran": []})
    assert (result.status, result.context["ran"]) == (outcome, ran.split())
    assert (result.error is None) is (outcome is COMPLETED)


@pytest.mark.parametrize(
    ("condition", "holds"),
    [
        (context_value("n", "GreaterThan", 3), True),
        (context_value("n", ">", 4), False),
        (context_value("input", "==", "x"), True),
        (context_value("set", "Contains", "a"), True),
        (context_value("gone", "NotExists"), True),
        (~context_value("missing", "Exists"), True),
        (context_value("late", "Exists"), False),
        (context_value("n", ">", 3) & context_value("input", "!=", "x"), False),
    ],
)
async def test_a_rule_sees_the_view_of_its_task(condition: Condition, holds: bool) -> None:
    def first(ctx: Context) -> None:
        ctx["n"] = 4
        ctx["set"] = ["a"]
        del ctx["gone"]

    def beside(ctx: Context) -> None:
        ctx["late"] = True

    workflow = Workflow(
        "views",
        [task(first), task(beside), step("it", "first", rule=task_success("first") & condition)],
    )
    async with in_memory() as runner:
        result = await runner.execute(workflow, {"input": "x", "gone": 1, "ran": []})
    assert result.status is COMPLETED
    assert result.tasks["it"].state is (TaskState.COMPLETED if holds else TaskState.SKIPPED)


# Views that cannot be built.


def writers(**options: Any) -> tuple[list[Task], dict[str, Any]]:
    """Two branches that write the same key."""

    def left(ctx: Context) -> None:
        ctx["total"] = 1

    def right(ctx: Context) -> None:
        ctx["total"] = 2

    return [task(left), task(right)], options


def broken_merge(current: int, new: int) -> int:
    raise ArithmeticError("cannot add")


def not_json(current: int, new: int) -> int:
    return object()  # type: ignore[return-value]


VIEWS: dict[str, tuple[dict[str, Any], str]] = {
    "a conflict": ({"on_conflict": "error"}, "'left' and 'right' both wrote total"),
    "a merge that raises": ({"keys": [Key("total", int, merge=broken_merge)]}, "ArithmeticError: cannot add"),
    "a merge without JSON": ({"keys": [Key("total", int, merge=not_json)]}, "total"),
}


@pytest.mark.parametrize("name", VIEWS)
@pytest.mark.parametrize("kind", ["view", "rule"])
async def test_a_view_that_cannot_be_built_fails_the_task_without_retry(kind: str, name: str) -> None:
    options, said = VIEWS[name]
    rule = context_value("total", ">", 0) if kind == "rule" else None
    tasks = [*writers()[0], step("it", "left", "right", rule=rule), step("after", "it")]
    async with in_memory() as runner:
        result = await runner.execute(Workflow("views", tasks, **options), {"ran": []})
    it = result.tasks["it"]
    assert (it.state, it.reason, it.attempts, it.started) == (TaskState.FAILED, Reason.CONTEXT, 0, None)
    assert [(attempt.number, attempt.state) for attempt in it.history] == [(0, AttemptState.FAILED)]
    assert it.error is not None and said in it.error.message
    assert result.tasks["after"].reason is Reason.DEPENDENCY_FAILED
    assert result.status is FAILED
    assert result.error is not None and result.error.startswith("it: ")


@pytest.mark.parametrize("name", VIEWS)
async def test_a_sink_that_cannot_be_built_fails_the_execution_with_its_input(name: str) -> None:
    options, said = VIEWS[name]
    async with in_memory() as runner:
        result = await runner.execute(Workflow("sink", writers()[0], **options), {"day": 1})
        again = await runner.get(result.id)
    assert (result.status, result.context.to_dict()) == (FAILED, {"day": 1})
    assert {task.state for task in result.tasks.values()} == {TaskState.COMPLETED}
    assert result.error is not None
    assert result.error.startswith("the result's context cannot be built: ")
    assert said in result.error
    assert again == result


def fat(id: str, *after: str) -> Task:
    def body(ctx: Context) -> None:
        ctx[id] = "x" * 600

    return task(body, id=id, dependencies=after)


async def test_a_view_that_is_too_large_fails_the_task() -> None:
    workflow = Workflow("large", [fat("a"), fat("b"), fat("it", "a", "b")])
    async with in_memory(max_context_bytes=1000) as runner:
        result = await runner.execute(workflow, {"day": 1})
    assert (result.status, result.context.to_dict()) == (FAILED, {"day": 1})
    assert result.tasks["it"].reason is Reason.CONTEXT
    assert result.error is not None and "over the limit of 1,000" in result.error


async def test_a_body_that_makes_its_context_too_large_fails() -> None:
    workflow = Workflow("large", [fat("a"), fat("b", "a")], retry=1)
    async with in_memory(max_context_bytes=1000) as runner:
        result = await runner.execute(workflow)
    assert result.tasks["b"].error is not None
    assert result.tasks["b"].error.type == "cloacina.errors.ContextError"
    assert (result.status, list(result.context)) == (FAILED, ["a"])


async def test_a_failed_attempt_leaves_nothing_in_the_context() -> None:
    workflow = Workflow("clean")

    @workflow.task(retry=False)
    async def it(ctx: Context) -> None:
        ctx["half"] = True
        ctx["list"].append(1)
        raise ValueError

    async with in_memory() as runner:
        result = await runner.execute(workflow, {"list": []})
    assert result.context.to_dict() == {"list": []}


@pytest.mark.parametrize(
    ("merge", "total"),
    [(None, 2), (lambda a, b: a + b, 3), (max, 2), (min, 1)],
)
async def test_branches_are_merged_as_the_key_says(merge: Any, total: int) -> None:
    keys = [] if merge is None else [Key("total", int, merge=merge)]
    workflow = Workflow("merged", [*writers()[0], step("it", "left", "right")], keys=keys)
    async with in_memory() as runner:
        result = await runner.execute(workflow, {"ran": []})
    assert (result.status, result.context["total"]) == (COMPLETED, total)
