"""Declared keys: what may be declared, and reads that nothing can have written."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypedDict

import pydantic
import pytest

from cloacina.errors import WorkflowError
from cloacina.model.context.context import Context
from cloacina.model.context.keys import Key
from cloacina.model.definition.declared import undeclared
from cloacina.model.json.patch import Patch
from cloacina.model.rules import Condition, context_value, task_success
from cloacina.model.task import task
from cloacina.model.workflow import Workflow

TOTAL = Key("total", int)


class Input(TypedDict):
    orders: list[int]


class Anything(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="allow")


def body(ctx: Context) -> None: ...


def chain(last: dict[str, Any], *above: Iterable[str | Key[Any]] | None, inputs: Any = Input) -> Workflow:
    """Tasks a, b, ... one after the other with these ``writes``, then ``last`` with its options."""
    workflow = Workflow("w", inputs=inputs)
    before: list[str] = []
    for name, writes in zip("abcdef", above, strict=False):
        options: dict[str, Any] = {} if writes is None else {"writes": writes}
        workflow.add(body, id=name, dependencies=before, **options)
        before = [name]
    workflow.add(body, id="last", dependencies=before, **last)
    return workflow


@pytest.mark.parametrize("option", ["reads", "writes"])
@pytest.mark.parametrize(
    ("value", "found"),
    [
        (None, None),
        ([], set()),
        (["a", TOTAL], {"a", "total"}),
        ({"a": 1}.keys(), {"a"}),
        ((TOTAL,), {"total"}),
    ],
)
def test_keys_are_names_or_keys(option: str, value: Any, found: set[str] | None) -> None:
    assert getattr(task(body, **{option: value}), option) == found


@pytest.mark.parametrize("option", ["reads", "writes"])
@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("total", "'total' is no list"),
        (3, "3 is no list"),
        ({"a": 1}, "is no list"),
        ([3], "has 3, which is no key"),
        ([""], "has '', which is no key"),
        (["a\0"], "NUL"),
    ],
)
def test_what_names_no_key(option: str, value: Any, said: str) -> None:
    with pytest.raises(WorkflowError, match=f"task 'body': {option}.*{said}"):
        task(body, **{option: value})


@pytest.mark.parametrize(
    ("patch", "found"),
    [
        ({}, []),
        ({"set": {"a": 1}}, []),
        (
            {"set": {"b": 1}, "remove": ["c"], "append": {"d": [1]}, "patch": {"e": {"set": {"a": 1}}}},
            [*"bcde"],
        ),
    ],
)
def test_undeclared_keys_of_a_patch(patch: Patch, found: list[str]) -> None:
    assert undeclared(frozenset("a"), patch) == found


READ = context_value("totl", ">", 3)


@pytest.mark.parametrize(
    ("last", "above", "said"),
    [
        ({"reads": ["totl"]}, [["total"]], "it reads 'totl', which neither.* Did you mean 'total'"),
        ({"reads": ["x", "orders"]}, [], "it reads 'x', which neither the input has"),
        ({"trigger_rules": READ}, [[TOTAL]], "its rule tests 'totl'.*'total'"),
        ({"trigger_rules": ~READ, "reads": ["b"]}, [[TOTAL]], "it reads 'b', 'totl'"),
        ({"trigger_rules": task_success("a") & context_value("k", "Exists")}, [[]], "its rule tests 'k'"),
        ({"reads": ["c"]}, [["a"], ["b"]], "task 'last': it reads 'c'"),
    ],
)
def test_a_read_that_nothing_can_have_written(last: dict[str, Any], above: list[Any], said: str) -> None:
    workflow = chain(last, *above)
    with pytest.raises(WorkflowError, match=said):
        workflow.validate()
    assert not workflow.frozen


@pytest.mark.parametrize(
    ("last", "above", "inputs"),
    [
        ({"reads": ["orders", TOTAL]}, [["total"]], Input),
        ({"reads": ["a", "b"]}, [["a"], ["b"]], Input),
        ({"reads": ["own"], "writes": ["own"]}, [None], Input),
        ({"reads": ["x"]}, [["a"], None, ["b"]], Input),
        ({"reads": ["x"]}, [["a"]], None),
        ({"reads": ["x"], "trigger_rules": READ}, [["a"]], Anything),
        ({"trigger_rules": context_value("orders", "Contains", 1)}, [[]], Input),
    ],
)
def test_what_may_be_read(last: dict[str, Any], above: list[Any], inputs: Any) -> None:
    assert chain(last, *above, inputs=inputs).validate().frozen


def test_only_tasks_above_count() -> None:
    workflow = Workflow("w", inputs=Input)
    workflow.add(body, id="beside", writes=["b"])
    workflow.add(body, id="undeclared")
    workflow.add(body, id="reader", reads=["b"])
    with pytest.raises(WorkflowError, match="task 'reader': it reads 'b'"):
        workflow.validate()
    assert isinstance(READ, Condition)


def test_a_join_sees_what_all_branches_write() -> None:
    workflow = Workflow("w", inputs=Input)
    workflow.add(body, id="left", writes=["l"])
    workflow.add(body, id="right", writes=["r"])
    workflow.add(body, id="join", dependencies=["left", "right"], reads=["l", "r", "orders"])
    assert workflow.validate().frozen


def test_declarations_are_checks_and_no_part_of_the_version() -> None:
    def version(inputs: Any, **options: Any) -> str:
        return Workflow("w", [task(body, **options)], inputs=inputs).version

    assert version(None) == version(Input, reads=["orders"], writes=["x"])
