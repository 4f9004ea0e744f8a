"""Workflows: how they are put together, when they freeze, what they say about themselves."""

from __future__ import annotations

import dataclasses
from datetime import timedelta
from typing import Any

import pytest

from cloacina.errors import WorkflowError
from cloacina.model.context.context import Context
from cloacina.model.context.keys import Key
from cloacina.model.retry import RetryPolicy
from cloacina.model.rules import task_failed
from cloacina.model.task import Task, task
from cloacina.model.workflow import Workflow


def extract(ctx: Context) -> None: ...
def load(ctx: Context) -> None: ...


def told(ctx: Context, info: object) -> None: ...


def test_three_ways_to_add_a_task() -> None:
    workflow = Workflow("etl", [task(extract)])

    @workflow.task
    def clean(ctx: Context) -> None: ...

    @workflow.task(dependencies=["extract", clean])
    def merge(ctx: Context) -> None: ...

    added = workflow.add(load, dependencies=[merge], retry=5)
    assert workflow.add(task(load, id="last")) is workflow.tasks[-1]
    assert [made.id for made in workflow.tasks] == ["extract", "clean", "merge", "load", "last"]
    assert (added.dependencies, added.retry) == (("merge",), RetryPolicy(5))
    assert isinstance(clean, Task)


def test_an_id_may_be_declared_later() -> None:
    workflow = Workflow("etl")
    workflow.add(load, dependencies=["extract"])
    workflow.add(extract)
    assert workflow.dag.ids == ("extract", "load")


def test_a_task_may_belong_to_several_workflows() -> None:
    shared = task(extract)
    one, two = Workflow("one", [shared]), Workflow("two", [shared, task(load, dependencies=[shared])])
    assert one.dag.tasks[0] is two.dag.tasks[0] is shared


def test_every_option() -> None:
    total = Key("total", int, merge=max)
    workflow = Workflow(
        "etl",
        [task(extract)],
        description="All of it.",
        tags=["nightly"],
        retry=4,
        timeout=timedelta(hours=1),
        keys=[total, Key("n", int)],
        on_conflict="error",
        on_success=told,
        on_failure=told,
    )
    assert (workflow.name, workflow.description, workflow.tags) == ("etl", "All of it.", ("nightly",))
    assert (workflow.retry, workflow.timeout, workflow.on_conflict) == (RetryPolicy(4), 3600.0, "error")
    assert set(workflow.keys) == {"total", "n"}
    assert workflow.keys["total"] is total
    assert workflow.on_success is workflow.on_failure is told
    told_of = workflow.metadata
    assert (told_of.name, told_of.description, told_of.tags, told_of.tasks) == (
        "etl", "All of it.", ("nightly",), 1
    )  # fmt: skip
    assert told_of.version == workflow.version


def test_the_defaults() -> None:
    workflow = Workflow("etl")
    assert (workflow.retry, workflow.timeout, workflow.on_conflict) == (RetryPolicy(), None, "merge")
    assert (workflow.description, workflow.tags, dict(workflow.keys)) == ("", (), {})
    assert repr(workflow) == "<Workflow etl: 0 tasks>"


def test_policies_are_those_of_the_tasks_else_that_of_the_workflow() -> None:
    workflow = Workflow("etl", [task(load, dependencies=["extract"]), task(extract, retry=False)], retry=5)
    assert workflow.dag.ids == ("extract", "load")
    assert workflow.policies == (RetryPolicy.none(), RetryPolicy(5))
    assert workflow.policy(1) == RetryPolicy(5)


USES: list[Any] = [
    lambda workflow: workflow.dag,
    lambda workflow: workflow.version,
    lambda workflow: workflow.metadata,
    lambda workflow: workflow.policies,
    lambda workflow: workflow.validate(),
    lambda workflow: workflow.unversioned,
]


@pytest.mark.parametrize("use", USES)
def test_the_first_use_freezes(use: Any) -> None:
    workflow = Workflow("etl", [task(extract)])
    assert not workflow.frozen
    use(workflow)
    assert workflow.frozen
    for add in (workflow.add, workflow.task):
        with pytest.raises(WorkflowError, match="workflow 'etl', task 'load': it comes too late"):
            add(load)
    assert [made.id for made in workflow.tasks] == ["extract"]


def test_looking_does_not_freeze() -> None:
    workflow = Workflow("etl", [task(extract)])
    assert repr(workflow)
    assert workflow.tasks
    assert not workflow.frozen


@pytest.mark.parametrize("use", USES)
def test_a_workflow_that_is_refused_does_not_freeze_and_can_be_mended(use: Any) -> None:
    workflow = Workflow("etl", [task(load, dependencies=["extract"])])
    for _ in range(2):
        with pytest.raises(WorkflowError, match="'extract', which the workflow does not have"):
            use(workflow)
    workflow.add(extract)
    use(workflow)
    assert workflow.frozen


def test_a_task_that_is_refused_is_not_added() -> None:
    workflow = Workflow("etl")
    with pytest.raises(WorkflowError):
        workflow.add(load, timeout=-1)
    workflow.add(load)
    with pytest.raises(WorkflowError):
        workflow.add(load)
    assert workflow.dag.ids == ("load",)


def test_validate_returns_the_workflow() -> None:
    workflow = Workflow("etl", [task(extract)])
    assert workflow.validate() is workflow
    assert workflow.validate() is workflow


def test_a_workflow_is_immutable() -> None:
    workflow = Workflow("etl")
    with pytest.raises(dataclasses.FrozenInstanceError):
        workflow.timeout = 3.0  # type: ignore[misc]
    with pytest.raises(TypeError):
        workflow.keys["n"] = Key("n", int)  # type: ignore[index]


def test_tutorial_four_of_the_seeds() -> None:
    workflow = Workflow("resilient")
    fetch = workflow.add(extract, id="fetch_data", retry_attempts=3, retry_delay_ms=1000)
    cached = workflow.add(load, id="cached_data", dependencies=[fetch], trigger_rules=task_failed(fetch))
    workflow.add(load, id="process_data", dependencies=[fetch, cached])
    workflow.add(
        load,
        id="failure_notification",
        dependencies=[fetch, cached],
        trigger_rules=task_failed(fetch) & task_failed(cached),
    )
    assert workflow.dag.levels == (
        ("fetch_data",),
        ("cached_data",),
        ("process_data", "failure_notification"),
    )
