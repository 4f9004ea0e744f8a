"""Routing: the first rule that matches, else the task's own option, else this process."""

from __future__ import annotations

from typing import Any

import pytest

from cloacina.errors import RegistrationError, ValidationError, WorkflowError
from cloacina.model.context.context import Context
from cloacina.model.retry import RetryPolicy
from cloacina.model.routing.routing import BUILT_IN, Routing, RoutingRule
from cloacina.model.task import Task, task
from cloacina.model.workflow import Workflow


async def on_loop(ctx: Context) -> None: ...


def on_thread(ctx: Context) -> None: ...


def anything(task: Task, policy: RetryPolicy) -> None: ...


CHECKS = {**BUILT_IN, "gpu": anything, "cluster": anything}


def work(name: str = "work", **options: Any) -> Workflow:
    return Workflow(name, [task(on_loop, id="a", **options), task(on_thread, id="b", **options)])


def routes(*rules: RoutingRule, name: str = "work", **options: Any) -> tuple[str, ...]:
    return Routing(rules, CHECKS).routes(work(name, **options))


@pytest.mark.parametrize(
    ("rules", "option", "found"),
    [
        ([], None, ("loop", "threads")),
        ([], "local", ("loop", "threads")),
        ([], "gpu", ("gpu", "gpu")),
        ([("*", "cluster")], "gpu", ("cluster", "cluster")),
        ([("*::a", "cluster")], "gpu", ("cluster", "gpu")),
        ([("*", "local")], "gpu", ("loop", "threads")),
        ([("*::a", "gpu"), ("*", "cluster")], None, ("gpu", "cluster")),
        ([("*", "cluster"), ("*::a", "gpu")], None, ("cluster", "cluster")),
        ([("public::embedded::work::a", "gpu")], None, ("gpu", "threads")),
        ([("public::embedded::work::?", "gpu")], None, ("gpu", "gpu")),
        ([("*::[bc]", "gpu")], None, ("loop", "gpu")),
        ([("*::WORK::*", "gpu")], None, ("loop", "threads")),
        ([("*work*", "gpu")], None, ("gpu", "gpu")),
        ([("other::*", "gpu"), ("public::other::*", "gpu")], None, ("loop", "threads")),
        ([("*::a", "loop"), ("*::b", "threads")], "gpu", ("loop", "threads")),
    ],
)
def test_the_first_rule_that_matches_decides(
    rules: list[tuple[str, str]], option: str | None, found: tuple[str, ...]
) -> None:
    options = {} if option is None else {"executor": option}
    assert routes(*(RoutingRule(*rule) for rule in rules), **options) == found


def test_routes_come_in_canonical_order() -> None:
    last = task(on_loop, id="z", dependencies=["a", "b"], executor="gpu")
    workflow = Workflow("backwards", [last, task(on_thread, id="b"), task(on_loop, id="a")])
    assert dict(zip(workflow.dag.ids, Routing((), CHECKS).routes(workflow), strict=True)) == {
        "a": "loop", "b": "threads", "z": "gpu",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("rules", "option", "told"),
    [
        (
            [],
            "gpus",
            "sends it: this runner has no executor 'gpus' (known: local, loop, threads, gpu, cluster)",
        ),
        ([], "gpus", "Did you mean 'gpu'"),
        (
            [("*::b", "loop")],
            "local",
            "task 'b': it cannot run where RoutingRule(pattern='*::b', executor='loop')",
        ),
        ([("*::b", "loop")], "local", "a plain def, which would block the loop"),
        ([("*::a", "threads")], "local", "its body is async def, which needs the loop"),
    ],
)
def test_what_cannot_be_routed_is_refused_with_the_remedy(
    rules: list[tuple[str, str]], option: str, told: str
) -> None:
    with pytest.raises(RegistrationError) as caught:
        routes(*(RoutingRule(*rule) for rule in rules), executor=option)
    assert told in str(caught.value)
    assert str(caught.value).startswith("workflow 'work', task ")


def test_an_executor_may_refuse_a_task() -> None:
    def refuses(task: Task, policy: RetryPolicy) -> None:
        raise ValidationError(f"{task.id} is tried {policy.max_attempts} times")

    with pytest.raises(RegistrationError, match=r"executor='picky' sends it: a is tried 7 times"):
        Routing((), {**CHECKS, "picky": refuses}).routes(work(executor="picky", retry=7))


@pytest.mark.parametrize(
    ("pattern", "executor", "told"),
    [
        ("orders", "gpu", "has 1 of 4 parts"),
        ("orders::load", "gpu", "has 2 of 4 parts"),
        ("", "gpu", "has 1 of 4 parts"),
        (None, "gpu", "a routing pattern is a text"),
        (["*"], "gpu", "a routing pattern is a text"),
        ("*", "", "cannot name an executor"),
        ("*", None, "an executor needs a name"),
        ("*", "a b", "cannot name an executor"),
    ],
)
def test_a_rule_that_can_mean_nothing_is_refused(pattern: Any, executor: Any, told: str) -> None:
    with pytest.raises(ValidationError) as caught:
        RoutingRule(pattern, executor)
    assert told in str(caught.value)


@pytest.mark.parametrize(
    "rules", ["*", RoutingRule("*", "gpu"), {"*": "gpu"}, 7, [("*", "gpu")], [None], ["*::a"]]
)
def test_what_is_no_list_of_rules_is_refused(rules: Any) -> None:
    with pytest.raises(ValidationError, match="routing="):
        Routing(rules, CHECKS)


def test_a_rule_to_an_unknown_executor_is_refused_before_anything_is_registered() -> None:
    with pytest.raises(ValidationError, match=r"no executor 'gpus' .*Did you mean 'gpu'"):
        Routing([RoutingRule("*", "gpus")], CHECKS)


@pytest.mark.parametrize("executor", ["", "a b", 7, True, ["gpu"]])
def test_an_option_that_is_no_name_is_refused(executor: Any) -> None:
    with pytest.raises(WorkflowError, match="executor"):
        task(on_loop, executor=executor)


def test_the_executor_is_no_part_of_the_version() -> None:
    assert work(executor="gpu").version == work().version
