"""Whether a condition holds: with things as they are, with the context left open, with other outcomes.

Conditions nest at most 100 deep, so walking them recursively is safe.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from operator import ge, gt, le, lt
from typing import Any, TypeAlias

from cloacina.model.conditions import (
    All,
    Condition,
    ContextValue,
    Group,
    None_,
    Not,
    TaskCondition,
)
from cloacina.model.json.values import JSON
from cloacina.model.operators import ValueOperator
from cloacina.model.status import TaskState

StateOf: TypeAlias = Callable[[str], TaskState]
"""The state of a dependency, by its id."""
View: TypeAlias = Callable[[], Mapping[str, JSON]]
"""The view of the task that has the rule; called for a context value only; its errors come through."""


def evaluate(condition: Condition, state_of: StateOf, view: View) -> bool:
    """True if ``condition`` holds."""
    return _hold(condition, state_of, lambda leaf: compare(leaf, view())) is True


def could_hold(condition: Condition, state_of: StateOf) -> bool:
    """True if ``condition`` holds or its context values, counted as unknown, keep that open."""
    return _hold(condition, state_of, _unknown) is not False


def turning(condition: Condition, state_of: StateOf, view: View) -> frozenset[str]:
    """The ids of the dependencies each of which, had it alone been Completed, would turn the result over.

    Finds all of them in one walk, where evaluating once for each would be quadratic.
    """
    return frozenset(_turn(condition, state_of, view)[1])


def compare(leaf: ContextValue, view: Mapping[str, JSON]) -> bool:
    """True if the view compares as ``leaf`` says.

    With a missing key or unlike types the negative operators are true and all others false. A bool is no
    number; an integer and a float compare by their exact values, strings by code points.
    """
    if leaf.key not in view:
        return leaf.operator in _NEGATIVE
    return _TESTS[leaf.operator](view[leaf.key], leaf.value)


def same(one: JSON, other: JSON) -> bool:
    """True if two JSON values are of like type and equal, and so is all that they hold."""
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[name], other[name]) for name in one)
    return isinstance(one, bool) is isinstance(other, bool) and one == other


def contains(whole: JSON, part: JSON) -> bool:
    """True if a string has the substring, a list the element, or an object the key ``part``."""
    if isinstance(whole, list):
        return any(same(element, part) for element in whole)
    return isinstance(whole, (str, dict)) and isinstance(part, str) and part in whole


def _ordered(holds: Callable[[Any, Any], bool]) -> Callable[[JSON, JSON], bool]:
    def test(one: JSON, other: JSON) -> bool:
        alike = (_is_number(one) and _is_number(other)) or (isinstance(one, str) and isinstance(other, str))
        return alike and holds(one, other)

    return test


def _is_number(value: JSON) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


_NEGATIVE = frozenset({ValueOperator.NOT_EQUALS, ValueOperator.NOT_CONTAINS, ValueOperator.NOT_EXISTS})
_TESTS: dict[ValueOperator, Callable[[JSON, JSON], bool]] = {
    ValueOperator.EQUALS: same,
    ValueOperator.NOT_EQUALS: lambda one, other: not same(one, other),
    ValueOperator.GREATER_THAN: _ordered(gt),
    ValueOperator.GREATER_OR_EQUAL: _ordered(ge),
    ValueOperator.LESS_THAN: _ordered(lt),
    ValueOperator.LESS_OR_EQUAL: _ordered(le),
    ValueOperator.CONTAINS: contains,
    ValueOperator.NOT_CONTAINS: lambda one, other: not contains(one, other),
    ValueOperator.EXISTS: lambda one, other: True,
    ValueOperator.NOT_EXISTS: lambda one, other: False,
}


def _hold(
    condition: Condition, state_of: StateOf, value_of: Callable[[ContextValue], bool | None]
) -> bool | None:
    # Kleene's three values: None is unknown.
    if isinstance(condition, TaskCondition):
        return state_of(condition.task) is condition.state
    if isinstance(condition, ContextValue):
        return value_of(condition)
    if isinstance(condition, Group):
        every = isinstance(condition, All)
        result: bool | None = every
        for part in condition.conditions:
            found = _hold(part, state_of, value_of)
            if found is None:
                result = None
            elif found is not every:
                result = found
                break
        return _opposite(result) if isinstance(condition, None_) else result
    if isinstance(condition, Not):
        return _opposite(_hold(condition.condition, state_of, value_of))
    return True  # Always


def _unknown(leaf: ContextValue) -> None:
    return None


def _opposite(result: bool | None) -> bool | None:
    return None if result is None else not result


def _turn(condition: Condition, state_of: StateOf, view: View) -> tuple[bool, set[str]]:
    if isinstance(condition, TaskCondition):
        holds = state_of(condition.task) is condition.state
        would = condition.state is TaskState.COMPLETED
        return holds, set() if holds is would else {condition.task}
    if isinstance(condition, ContextValue):
        return compare(condition, view()), set()
    if isinstance(condition, Group):
        parts = [_turn(part, state_of, view) for part in condition.conditions]
        holds, turned = _turn_group(parts, isinstance(condition, All))
        return holds is not isinstance(condition, None_), turned
    if isinstance(condition, Not):
        holds, turned = _turn(condition.condition, state_of, view)
        return not holds, turned
    return True, set()


def _turn_group(parts: list[tuple[bool, set[str]]], every: bool) -> tuple[bool, set[str]]:
    # One part that is not `every` decides. To turn that over, all such parts must turn and no other may.
    deciding = [turned for holds, turned in parts if holds is not every]
    others = set[str]().union(*(turned for holds, turned in parts if holds is every))
    if deciding:
        return not every, deciding[0].intersection(*deciding[1:]) - others
    return every, others
