"""Whether a condition holds: the operators on JSON values, three values, and what would turn the result over."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloacina.errors import ContextError
from cloacina.logic.conditions import compare, could_hold, evaluate, turning
from cloacina.model.rules import (
    All,
    Always,
    Any_,
    Condition,
    ContextValue,
    None_,
    Not,
    TaskFailed,
    TaskSkipped,
    TaskSuccess,
    ValueOperator,
    all_of,
    always,
    any_of,
    context_value,
    none_of,
    task_failed,
    task_skipped,
    task_success,
)
from cloacina.model.status import TaskState

C, F, S = TaskState.COMPLETED, TaskState.FAILED, TaskState.SKIPPED
STATES = {"a": C, "b": F, "c": S}
MISSING = object()
NEGATIVE = {"NotEquals", "NotContains", "NotExists"}


def no_view() -> Any:
    raise AssertionError("the view was asked for")


def test_outcomes_of_tasks() -> None:
    for make, state in ((task_success, C), (task_failed, F), (task_skipped, S)):
        held = {task for task in STATES if evaluate(make(task), STATES.__getitem__, no_view)}
        assert held == {task for task, found in STATES.items() if found is state}


HOLDS = {
    "==": [
        (1, 1), (1, 1.0), (0.0, -0.0), (None, None), (True, True), ("a", "a"), ([1, {"a": [2]}], [1.0, {"a": [2]}]),
        ({"a": 1, "b": None}, {"b": None, "a": 1}), (2**53, float(2**53)), (2**70, 2**70),
    ],
    "!=": [
        (1, 2), (1, True), (0, False), (1, "1"), (None, 0), (None, False), ("", None), ([1], [True]), ([1], 1),
        ({"a": 0}, {"a": False}), ([], {}), ({"a": 1}, {"a": 1, "b": 2}), ([1], [1, 1]), (2**53 + 1, float(2**53)),
        ("a", ["a"]),
    ],
    ">": [(2, 1), (1.5, 1), (2**53 + 1, float(2**53)), (2**70, 1e3), ("b", "a"), ("ab", "a"), ("é", "z"), (0, -0.5)],
    "<": [(1, 2), (1, 1.5), (float(2**53), 2**53 + 1), ("", "a"), ("Z", "a"), ("10", "9")],
    ">=": [(2, 2), (2, 2.0), (3, 2), ("a", "a")],
    "<=": [(2, 2), (2.0, 2), (1, 2), ("a", "a")],
    "contains": [
        ("abc", "b"), ("abc", ""), ([1, "a"], "a"), ([1], 1.0), ([[1]], [1]), ([None], None), ({"a": 1}, "a"),
        ({"": 1}, ""),
    ],
    "not_contains": [
        ("abc", "d"), ("1", 1), ([1], True), ([], None), ([[1]], 1), ({"a": 1}, 1), ({"a": 1}, "b"), (12, 1),
        (None, None), (True, True), ("abc", None),
    ],
}  # fmt: skip
FALSE_FOR_UNLIKE = [
    (True, 0),
    (1, False),
    ("1", 0),
    (1, "0"),
    (None, 0),
    ([2], [1]),
    ({"a": 2}, {"a": 1}),
    ([2], 1),
]


@pytest.mark.parametrize(
    ("operator", "found", "value"), [(op, *pair) for op, pairs in HOLDS.items() for pair in pairs]
)
def test_operators(operator: str, found: Any, value: Any) -> None:
    opposite = {"==": "!=", "!=": "==", ">": "<=", "<=": ">", ">=": "<", "<": ">="}
    opposite |= {"contains": "not_contains", "not_contains": "contains"}
    assert compare(ContextValue("k", operator, value), {"k": found})
    assert not compare(ContextValue("k", opposite[operator], value), {"k": found})


@pytest.mark.parametrize(("found", "value"), FALSE_FOR_UNLIKE)
@pytest.mark.parametrize("operator", [">", ">=", "<", "<="])
def test_no_order_between_unlike_types(operator: str, found: Any, value: Any) -> None:
    assert not compare(ContextValue("k", operator, value), {"k": found})
    assert not compare(ContextValue("k", operator, found), {"k": value})


@pytest.mark.parametrize("found", [None, 0, False, "", [], {}])
def test_a_key_exists_whatever_it_holds(found: Any) -> None:
    assert compare(ContextValue("k", "exists"), {"k": found})
    assert not compare(ContextValue("k", "not_exists"), {"k": found})


@pytest.mark.parametrize("operator", ValueOperator)
@pytest.mark.parametrize("value", [None, 0, "", [], True])
def test_without_the_key_only_the_negative_operators_hold(operator: ValueOperator, value: Any) -> None:
    operand = () if operator in (ValueOperator.EXISTS, ValueOperator.NOT_EXISTS) else (value,)
    leaf = ContextValue("k", operator, *operand)
    assert compare(leaf, {"other": value}) is (operator in NEGATIVE)
    assert evaluate(~leaf, STATES.__getitem__, dict) is (operator not in NEGATIVE)


TRUE, FALSE, OPEN = always(), ~always(), context_value("k", "==", 1)


@pytest.mark.parametrize(
    ("condition", "holds", "could"),
    [
        (TRUE, True, True),
        (FALSE, False, False),
        (OPEN, False, True),
        (~OPEN, True, True),
        (all_of(TRUE, OPEN), False, True),
        (all_of(OPEN, FALSE), False, False),
        (any_of(FALSE, OPEN), False, True),
        (any_of(OPEN, TRUE), True, True),
        (none_of(OPEN, FALSE), True, True),
        (none_of(OPEN, TRUE), False, False),
        (~any_of(OPEN, TRUE), False, False),
        (~all_of(OPEN, FALSE), True, True),
        (all_of(TRUE, TRUE), True, True),
        (none_of(FALSE), True, True),
        (none_of(TRUE), False, False),
        (all_of(task_success("a"), OPEN), False, True),
        (all_of(OPEN, task_success("b")), False, False),
    ],
    ids=repr,
)
def test_an_open_context_value_leaves_the_result_open(condition: Condition, holds: bool, could: bool) -> None:
    assert evaluate(condition, STATES.__getitem__, dict) is holds
    assert could_hold(condition, STATES.__getitem__) is could


def test_the_view_is_asked_for_only_if_a_context_value_decides() -> None:
    assert not evaluate(task_success("b") & OPEN, STATES.__getitem__, no_view)
    assert evaluate(task_success("a") | OPEN, STATES.__getitem__, no_view)
    assert could_hold(OPEN, STATES.__getitem__)


def test_an_error_of_the_view_comes_through() -> None:
    def view() -> Any:
        raise ContextError("no view", path="k")

    with pytest.raises(ContextError, match="no view"):
        evaluate(task_success("a") & OPEN, STATES.__getitem__, view)
    with pytest.raises(ContextError, match="no view"):
        turning(OPEN, STATES.__getitem__, view)


def test_a_deep_rule_and_a_deep_value_are_walked() -> None:
    rule: Condition = task_success("a")
    value: Any = 1
    for _ in range(98):
        rule, value = Not(rule), [value]
    assert evaluate(rule, STATES.__getitem__, no_view)
    assert turning(rule, {"a": F}.__getitem__, no_view) == {"a"}
    assert compare(ContextValue("k", "==", value), {"k": value})


_leaves = st.sampled_from(
    [Always(), ContextValue("t", "==", 1), ContextValue("f", "==", 1)]
    + [kind(task) for kind in (TaskSuccess, TaskFailed, TaskSkipped) for task in "abc"]
)
_conditions = st.recursive(
    _leaves,
    lambda inner: st.one_of(
        inner.map(Not),
        *(st.builds(kind, st.lists(inner, min_size=1, max_size=4).map(tuple)) for kind in (All, Any_, None_)),
    ),
    max_leaves=10,
)


@given(_conditions)
@settings(max_examples=150)
def test_what_turns_the_result_over_is_what_evaluating_once_for_each_task_finds(condition: Condition) -> None:
    view = {"t": 1}
    for ended in product((C, F, S), repeat=3):
        states = dict(zip("abc", ended, strict=True))
        holds = evaluate(condition, states.__getitem__, lambda: view)
        assert turning(condition, states.__getitem__, lambda: view) == {
            task
            for task in condition.tasks()
            if evaluate(condition, {**states, task: C}.__getitem__, lambda: view) is not holds
        }
        assert could_hold(condition, states.__getitem__) or not holds
