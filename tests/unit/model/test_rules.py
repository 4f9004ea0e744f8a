"""Rules as values: how they are made, refused, written and read."""

from __future__ import annotations

import copy
import pickle
from dataclasses import FrozenInstanceError
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloacina.errors import WorkflowError
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
    can_stand_in,
    condition_from_json,
    context_value,
    none_of,
    task_failed,
    task_skipped,
    task_success,
)

A, B, Q = task_success("a"), task_failed("b"), context_value("q", ">", 80)
KEY = SimpleNamespace(name="score")

_texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=5)
_scalars = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | _texts
)
_values = st.recursive(
    _scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_texts, inner, max_size=3),
    max_leaves=6,
)
_compared = [op for op in ValueOperator if op not in (ValueOperator.EXISTS, ValueOperator.NOT_EXISTS)]
_leaves: st.SearchStrategy[Condition] = st.one_of(
    st.builds(Always),
    st.builds(TaskSuccess, _texts),
    st.builds(TaskFailed, _texts),
    st.builds(TaskSkipped, _texts),
    st.builds(ContextValue, _texts, st.sampled_from(_compared), _values),
    st.builds(ContextValue, _texts, st.sampled_from(["Exists", "not_exists"])),
)
conditions = st.recursive(
    _leaves,
    lambda inner: st.one_of(
        st.builds(Not, inner),
        *(st.builds(kind, st.lists(inner, min_size=1, max_size=3).map(tuple)) for kind in (All, Any_, None_)),
    ),
    max_leaves=8,
)


@given(conditions)
@settings(max_examples=150)
def test_json_written_is_read_as_the_same(condition: Condition) -> None:
    written = condition.to_json()
    read = condition_from_json(written)
    assert read == condition
    assert hash(read) == hash(condition)
    assert read.to_json() == written


WRITTEN = [
    (always(), {"type": "Always"}),
    (task_success("a"), {"type": "TaskSuccess", "task_name": "a"}),
    (task_failed("a"), {"type": "TaskFailed", "task_name": "a"}),
    (task_skipped("a"), {"type": "TaskSkipped", "task_name": "a"}),
    (Q, {"type": "ContextValue", "key": "q", "operator": "GreaterThan", "value": 80}),
    (context_value("q", "exists"), {"type": "ContextValue", "key": "q", "operator": "Exists", "value": None}),
    (all_of(always()), {"type": "All", "conditions": [{"type": "Always"}]}),
    (any_of(always()), {"type": "Any", "conditions": [{"type": "Always"}]}),
    (none_of(always()), {"type": "None", "conditions": [{"type": "Always"}]}),
    (~always(), {"type": "Not", "condition": {"type": "Always"}}),
]


@pytest.mark.parametrize(("condition", "written"), WRITTEN, ids=lambda value: str(value)[:40])
def test_canonical_json(condition: Condition, written: dict[str, Any]) -> None:
    assert condition.to_json() == written
    assert condition_from_json(written) == condition
    assert eval(repr(condition)) == condition


@pytest.mark.parametrize("value", [None, True])
def test_operators_without_an_operand_take_none_or_true_for_it(value: Any) -> None:
    written = {"type": "ContextValue", "key": "q", "operator": "NotExists", "value": value}
    assert (
        context_value("q", "not_exists", value)
        == context_value("q", "not_exists")
        == condition_from_json(written)
    )


IS_TRUE = context_value("ok", "==", True)
READ_TOO = [
    {"type": "Conditional", "condition": {"field": "ok", "operator": "Equals", "value": True}},
    {"type": "Conditional", "condition": {"key": "ok", "operator": "==", "value": True}},
    {
        "type": "Conditional",
        "condition": {"type": "ContextValue", "field": "ok", "operator": "equals", "value": True},
    },
    {"type": "Conditional", "field": "ok", "operator": "Equals", "value": True},
    {"type": "ContextValue", "field": "ok", "operator": "equals", "value": True},
]


@pytest.mark.parametrize("written", READ_TOO, ids=str)
def test_other_forms_of_a_context_value_are_read(written: dict[str, Any]) -> None:
    assert condition_from_json(written) == IS_TRUE


OPERATORS = {
    ValueOperator.EQUALS: ("Equals", "equals", "=="),
    ValueOperator.NOT_EQUALS: ("NotEquals", "not_equals", "!="),
    ValueOperator.GREATER_THAN: ("GreaterThan", "greater_than", ">"),
    ValueOperator.GREATER_OR_EQUAL: ("GreaterOrEqual", "greater_or_equal", ">="),
    ValueOperator.LESS_THAN: ("LessThan", "less_than", "<"),
    ValueOperator.LESS_OR_EQUAL: ("LessOrEqual", "less_or_equal", "<="),
    ValueOperator.CONTAINS: ("Contains", "contains"),
    ValueOperator.NOT_CONTAINS: ("NotContains", "not_contains"),
    ValueOperator.EXISTS: ("Exists", "exists"),
    ValueOperator.NOT_EXISTS: ("NotExists", "not_exists"),
}


@pytest.mark.parametrize("operator", ValueOperator)
def test_spellings_of_operators(operator: ValueOperator) -> None:
    assert {ValueOperator(word) for word in OPERATORS[operator]} == {operator}


@pytest.mark.parametrize(
    "word", ["", "=", "EQUALS", "Greater_Than", "greaterthan", "=>", None, 3, [1], "_missing_"]
)
def test_unknown_operators(word: Any) -> None:
    with pytest.raises(WorkflowError, match=r"context_value\('q'\) has the operator .* use one of Equals"):
        context_value("q", word, 1)


def test_tasks_and_keys_are_named_by_objects_too() -> None:
    task = SimpleNamespace(id="a")
    assert (task_success(task), task_failed(task), task_skipped(task)) == (
        TaskSuccess("a"),
        TaskFailed("a"),
        TaskSkipped("a"),
    )
    assert context_value(KEY, ">", 1) == ContextValue("score", ValueOperator.GREATER_THAN, 1)


@pytest.mark.parametrize("make", [task_success, task_failed, task_skipped])
@pytest.mark.parametrize("task", ["", None, 3, ["a"], SimpleNamespace(id=3)])
def test_what_names_no_task(make: Any, task: Any) -> None:
    with pytest.raises(WorkflowError, match=rf"{make.__name__}\(\) takes a task or its id, not"):
        make(task)


@pytest.mark.parametrize("key", ["", None, 3, SimpleNamespace(name=b"q")])
def test_what_names_no_key(key: Any) -> None:
    with pytest.raises(WorkflowError, match=r"context_value\(\) takes a key or its name, not"):
        context_value(key, ">", 1)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("==",), "has no value"),
        (("==", float("nan")), "no JSON: .*value.*nan"),
        (("==", {"a": [1, float("inf")]}), r"no JSON: .*value\.a\[1\]"),
        (("==", {1, 2}), "no JSON: .*value"),
        (("==", object()), "no JSON: .*value"),
        (("exists", False), "leave out the value False"),
        (("not_exists", 5), "leave out the value 5"),
    ],
)
def test_operands_that_do_not_fit(arguments: tuple[Any, ...], problem: str) -> None:
    with pytest.raises(WorkflowError, match=problem):
        context_value("q", *arguments)


@pytest.mark.parametrize(
    "test", [lambda: bool(A), lambda: A and B, lambda: A or B, lambda: not A, lambda: Q if Q else A]
)
def test_a_condition_has_no_truth_value(test: Any) -> None:
    with pytest.raises(
        WorkflowError, match=r"`a & b` for `a and b`, `a \| b` for `a or b`, `~a` for `not a`"
    ):
        test()


@pytest.mark.parametrize(
    ("test", "form"),
    [
        (lambda: A & KEY, "task_success('a') & (score > value)"),
        (lambda: A | KEY, "task_success('a') | (score > value)"),
        (lambda: KEY & A, "(score > value) & task_success('a')"),
        (lambda: KEY | A, "(score > value) | task_success('a')"),
        (lambda: 80 & A, "(KEY > value) & task_success('a')"),
        (lambda: A & "b", "task_success('a') & (KEY > value)"),
        (lambda: A | True, "task_success('a') | (KEY > value)"),
        (lambda: None | A, "(KEY > value) | task_success('a')"),
    ],
)
def test_mixing_a_condition_with_anything_else(test: Any, form: str) -> None:
    with pytest.raises(WorkflowError) as refused:
        test()
    assert form in str(refused.value)


@pytest.mark.parametrize("make", [all_of, any_of, none_of])
def test_groups_take_conditions_only(make: Any) -> None:
    for arguments in [("a",), (A, KEY), ([A, B],), (A, True)]:
        with pytest.raises(WorkflowError, match=rf"{make.__name__}\(\) takes conditions, not"):
            make(*arguments)
    with pytest.raises(WorkflowError, match=rf"{make.__name__}\(\) without a condition"):
        make()
    with pytest.raises(WorkflowError, match="~ takes conditions, not 'a'"):
        Not("a")  # type: ignore[arg-type]


def test_signs_join_flatly() -> None:
    assert A & B & Q == all_of(A, B, Q) == A & (B & Q)
    assert A | B | Q == any_of(A, B, Q) == A | (B | Q)
    mixed = A & B | Q
    assert mixed == any_of(all_of(A, B), Q)
    assert ~~A is A
    assert ~none_of(A) == Not(none_of(A))


def test_a_long_chain_of_signs_stays_flat() -> None:
    rule = A
    for i in range(500):
        rule = rule | task_failed(f"t{i}")
    assert rule.depth == 2
    assert len(rule.tasks()) == 501


def _nested(depth: int, kind: str = "Not") -> dict[str, Any]:
    written: dict[str, Any] = {"type": "Always"}
    for _ in range(depth - 1):
        written = {"type": kind, "condition": written}
    return written


def test_nesting_is_bounded() -> None:
    deepest = condition_from_json(_nested(100))
    assert deepest.depth == 100
    assert condition_from_json(deepest.to_json()) == deepest
    assert hash(deepest) == hash(copy.deepcopy(deepest))
    for make in (Not, all_of, any_of, none_of):
        with pytest.raises(WorkflowError, match="nested deeper than 100"):
            make(deepest)
    for kind, depth in (("Not", 101), ("Not", 100_000), ("Conditional", 101), ("Conditional", 100_000)):
        with pytest.raises(WorkflowError, match="nested deeper than 100"):
            condition_from_json(_nested(depth, kind))
    assert condition_from_json(_nested(100, "Conditional")) == always()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (context_value("q", "==", 1), context_value("q", "==", True)),
        (context_value("q", "==", 1), context_value("q", "==", 1.0)),
        (context_value("q", "==", [0]), context_value("q", "==", [False])),
        (context_value("q", "==", 1), context_value("q", "!=", 1)),
        (TaskSuccess("a"), TaskFailed("a")),
        (All((A, B)), Any_((A, B))),
        (All((A, B)), All((B, A))),
    ],
)
def test_different_conditions_differ(one: Condition, other: Condition) -> None:
    assert one != other
    assert len({one, other}) == 2


def test_the_order_of_members_does_not_matter() -> None:
    one, other = (context_value("q", "==", value) for value in ({"a": 1, "b": 2}, {"b": 2, "a": 1}))
    assert one == other
    assert hash(one) == hash(other)


@pytest.mark.parametrize("condition", [always(), A, Q, A & B, ~A], ids=repr)
def test_conditions_are_frozen_values(condition: Condition) -> None:
    assert not hasattr(condition, "__dict__")
    for name in ("task", "value", "key", "conditions", "condition", "new"):
        with pytest.raises((FrozenInstanceError, AttributeError, TypeError)):
            setattr(condition, name, "b")
    assert pickle.loads(pickle.dumps(condition)) == condition


def test_a_value_is_copied_in_and_out() -> None:
    given_value = [1, {"a": 2}]
    condition = ContextValue("q", "==", given_value)
    given_value.append(3)
    condition.value.append(4)  # type: ignore[union-attr]
    assert condition.value == [1, {"a": 2}]


def test_what_a_rule_names() -> None:
    rule = all_of(A, ~(B | Q), none_of(task_skipped("c"), context_value("r", "exists")))
    assert rule.tasks() == {"a", "b", "c"}
    assert rule.keys() == {"q", "r"}
    assert [negated for _, negated in rule.leaves()] == [False, True, True, True, True]


@pytest.mark.parametrize(
    ("rule", "able"),
    [
        (task_failed("a"), True),
        (task_skipped("a"), True),
        (task_success("a"), False),
        (~task_success("a"), True),
        (~~task_success("a"), False),
        (Not(Not(task_success("a"))), False),
        (Not(Not(Not(task_success("a")))), True),
        (none_of(task_success("a")), True),
        (~none_of(task_success("a")), False),
        (~task_failed("a"), False),
        (~none_of(task_failed("a")), True),
        (any_of(task_success("a"), all_of(task_success("b"), task_failed("a"))), True),
        (task_failed("z"), False),
        (always(), False),
        (Q, False),
    ],
    ids=repr,
)
def test_which_rules_can_stand_in(rule: Condition, able: bool) -> None:
    assert can_stand_in(rule, ["a", "b"]) is able


REFUSED = [
    (None, "the rule must be an object with a type, not None"),
    ("Always", "the rule must be an object"),
    ([], "the rule must be an object"),
    ({}, "the rule has no type"),
    ({"type": 3}, "the rule has the unknown type 3"),
    ({"type": ["All"]}, "the rule has the unknown type"),
    ({"type": "Alway"}, "unknown type 'Alway': .* Did you mean 'Always'"),
    ({"type": "Always", "x": 1}, "the rule has the unknown field 'x'"),
    ({"type": "Always", 3: 1}, "the rule has the unknown field 3"),
    ({"type": "All"}, "the rule has no conditions"),
    ({"type": "All", "conditions": []}, "the rule at conditions is empty"),
    ({"type": "All", "conditions": {}}, "the rule at conditions must be a list"),
    ({"type": "All", "conditions": "ab"}, "the rule at conditions must be a list"),
    (
        {"type": "Any", "conditions": [{"type": "Always"}, 3]},
        r"the rule at conditions\[1\] must be an object",
    ),
    (
        {"type": "None", "condition": {"type": "Always"}},
        "unknown field 'condition'.*Did you mean 'conditions'",
    ),
    ({"type": "Not", "condition": None}, "the rule at condition must be an object"),
    ({"type": "Not", "conditions": []}, "the rule has the unknown field 'conditions'"),
    ({"type": "Not"}, "the rule has no condition"),
    ({"type": "TaskSuccess"}, "the rule has no task_name"),
    ({"type": "TaskSuccess", "task": "a"}, "the rule has the unknown field 'task'"),
    ({"type": "TaskFailed", "task_name": 3}, "the rule at task_name must be the id"),
    ({"type": "TaskSkipped", "task_name": ""}, "the rule at task_name must be the id"),
    ({"type": "ContextValue", "operator": "Equals", "value": 1}, "the rule has no key"),
    (
        {"type": "ContextValue", "key": 3, "operator": "Equals", "value": 1},
        "the rule at key must be the name",
    ),
    ({"type": "ContextValue", "field": "", "operator": "Equals", "value": 1}, "the rule at field must be"),
    (
        {"type": "ContextValue", "key": "q", "field": "q", "operator": "Equals", "value": 1},
        "both key and field",
    ),
    ({"type": "ContextValue", "key": "q", "value": 1}, "the rule has no operator"),
    (
        {"type": "ContextValue", "key": "q", "operator": 1, "value": 1},
        "the rule at operator must be a string",
    ),
    (
        {"type": "ContextValue", "key": "q", "operator": "Is", "value": 1},
        "the operator 'Is': use one of Equals",
    ),
    ({"type": "ContextValue", "key": "q", "operator": "Equals"}, "has no value to compare with"),
    ({"type": "ContextValue", "key": "q", "operator": "Equals", "value": float("nan")}, "no JSON"),
    ({"type": "Conditional"}, "the rule has no key"),
    ({"type": "Conditional", "condition": 3}, "the rule at condition must be an object"),
    ({"type": "Conditional", "condition": {"field": "q"}}, "the rule at condition has no operator"),
    ({"type": "Conditional", "condition": {"type": "X"}}, "the rule at condition has the unknown type 'X'"),
    (
        {"type": "Conditional", "condition": {"field": "q"}, "value": 1},
        "the rule has the unknown field 'value'",
    ),
]


@pytest.mark.parametrize(("written", "problem"), REFUSED, ids=lambda value: str(value)[:60])
def test_json_that_is_no_rule(written: object, problem: str) -> None:
    with pytest.raises(WorkflowError, match=problem):
        condition_from_json(written)


@pytest.mark.parametrize(
    ("written", "problem"), [(bad, text) for bad, text in REFUSED if isinstance(bad, dict)]
)
def test_the_path_leads_to_the_mistake(written: object, problem: str) -> None:
    outer = {"type": "All", "conditions": [{"type": "Always"}, {"type": "Not", "condition": written}]}
    with pytest.raises(WorkflowError, match=r"^the rule at conditions\[1\]\.condition"):
        condition_from_json(outer)
