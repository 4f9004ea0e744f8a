"""The conditions that a trigger rule is made of: a tree of frozen, hashable values.

::

    Condition
    ├── Always                                  always()
    ├── TaskSuccess  TaskFailed  TaskSkipped    task_success(t)  task_failed(t)  task_skipped(t)
    ├── ContextValue                            context_value(key, operator, value), or QUALITY > 80 on a Key
    ├── All  Any_  None_                        all_of(...)  any_of(...)  none_of(...)  a & b  a | b
    └── Not                                     ~a

They say what to test; `cloacina.logic.conditions` tests it. Users make them with `cloacina.model.rules`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import ClassVar, Never, NoReturn

from cloacina.errors import WorkflowError
from cloacina.model.definition.hints import shown
from cloacina.model.json.values import JSON, decode
from cloacina.model.operators import MISSING, WITHOUT_OPERAND, ValueOperator, operand_text, read_operator
from cloacina.model.status import TaskState

MAX_DEPTH = 100
"""How deep conditions may be nested, so that walking a rule never exhausts the stack."""


class Condition:
    """One node of a rule. Join them with ``&``, ``|``, ``~``, never with ``and``, ``or``, ``not``."""

    __slots__ = ()

    @property
    def depth(self) -> int:
        """How many conditions lie on the longest way down, this one included."""
        return 1

    def to_json(self) -> dict[str, JSON]:
        """The condition in the grammar that `cloacina.model.rules.condition_from_json` reads."""
        return {"type": type(self).__name__.rstrip("_")}

    def tasks(self) -> frozenset[str]:
        """The ids of the tasks that the rule names."""
        return frozenset(leaf.task for leaf, _ in self.leaves() if isinstance(leaf, TaskCondition))

    def keys(self) -> frozenset[str]:
        """The context keys that the rule reads."""
        return frozenset(leaf.key for leaf, _ in self.leaves() if isinstance(leaf, ContextValue))

    def leaves(self) -> Iterator[tuple[Condition, bool]]:
        """The conditions that join no others, each with True if under an odd number of negations."""
        stack: list[tuple[Condition, bool]] = [(self, False)]
        while stack:
            found, negated = stack.pop()
            if isinstance(found, Group):
                negated ^= isinstance(found, None_)
                stack.extend((part, negated) for part in reversed(found.conditions))
            elif isinstance(found, Not):
                stack.append((found.condition, not negated))
            else:
                yield found, negated

    def __and__(self, other: Condition) -> Condition:
        return All(_operands(All, "&", self, other))

    def __or__(self, other: Condition) -> Condition:
        return Any_(_operands(Any_, "|", self, other))

    def __invert__(self) -> Condition:
        return Not(self)

    def __rand__(self, other: Never) -> NoReturn:
        _refuse_mix("&", other, self)

    def __ror__(self, other: Never) -> NoReturn:
        _refuse_mix("|", other, self)

    def __bool__(self) -> NoReturn:
        raise WorkflowError(
            f"a condition is neither true nor false before the workflow runs: {shown(self)}. Write `a & b` "
            "for `a and b`, `a | b` for `a or b`, `~a` for `not a`, `(k > 1) & (k < 9)` for `1 < k < 9`"
        )


@dataclass(frozen=True, slots=True, repr=False)
class Always(Condition):
    """Holds whatever happened."""

    def __repr__(self) -> str:
        return "always()"


@dataclass(frozen=True, slots=True, repr=False)
class TaskCondition(Condition):
    """Holds if a dependency ended in ``state``; the three kinds below say in which."""

    task: str
    state: ClassVar[TaskState]
    word: ClassVar[str]

    def __post_init__(self) -> None:
        _check_text(self.task, f"{self.word}() takes a task or its id")

    def to_json(self) -> dict[str, JSON]:
        return {**Condition.to_json(self), "task_name": self.task}

    def __repr__(self) -> str:
        return f"{self.word}({self.task!r})"


class TaskSuccess(TaskCondition):
    """Holds if the dependency is Completed."""

    __slots__ = ()
    state = TaskState.COMPLETED
    word = "task_success"


class TaskFailed(TaskCondition):
    """Holds if the dependency is Failed, its retries used up."""

    __slots__ = ()
    state = TaskState.FAILED
    word = "task_failed"


class TaskSkipped(TaskCondition):
    """Holds if the dependency was skipped, for whatever reason."""

    __slots__ = ()
    state = TaskState.SKIPPED
    word = "task_skipped"


@dataclass(frozen=True, slots=True, init=False, repr=False)
class ContextValue(Condition):
    """Holds if what the task's own view has under ``key`` compares so with ``value``.

    ``text`` is the value as canonical JSON, which is hashable and tells 1, 1.0 and true apart.
    """

    key: str
    operator: ValueOperator
    text: str

    def __init__(self, key: str, operator: ValueOperator | str, value: object = MISSING) -> None:
        _check_text(key, "context_value() takes a key or its name")
        operator = read_operator(operator, f"context_value({shown(key)})")
        text = operand_text(operator, value, f"context_value({shown(key)}, {operator.value!r})")
        object.__setattr__(self, "key", key)
        object.__setattr__(self, "operator", operator)
        object.__setattr__(self, "text", text)

    @property
    def value(self) -> JSON:
        """What the context's value is compared with, as plain JSON; None for Exists and NotExists."""
        return decode(self.text)

    def to_json(self) -> dict[str, JSON]:
        operator = self.operator.value
        return {**Condition.to_json(self), "key": self.key, "operator": operator, "value": self.value}

    def __repr__(self) -> str:
        value = "" if self.operator in WITHOUT_OPERAND else f", {self.value!r}"
        return f"context_value({self.key!r}, {self.operator.value!r}{value})"


@dataclass(frozen=True, slots=True, repr=False)
class Group(Condition):
    """Joins conditions; the three kinds below say how."""

    conditions: tuple[Condition, ...]
    _depth: int = field(init=False, compare=False)
    word: ClassVar[str]

    def __post_init__(self) -> None:
        if not self.conditions:
            raise WorkflowError(f"{self.word}() without a condition: for a task that always runs, always()")
        object.__setattr__(self, "_depth", _depth_above(f"{self.word}()", self.conditions))

    @property
    def depth(self) -> int:
        return self._depth

    def to_json(self) -> dict[str, JSON]:
        return {**Condition.to_json(self), "conditions": [part.to_json() for part in self.conditions]}

    def __repr__(self) -> str:
        return f"{self.word}({', '.join(map(repr, self.conditions))})"


class All(Group):
    """Holds if every one of its conditions does."""

    __slots__ = ()
    word = "all_of"


class Any_(Group):
    """Holds if at least one of its conditions does."""

    __slots__ = ()
    word = "any_of"


class None_(Group):
    """Holds if none of its conditions does."""

    __slots__ = ()
    word = "none_of"


@dataclass(frozen=True, slots=True, repr=False)
class Not(Condition):
    """Holds if its condition does not."""

    condition: Condition
    _depth: int = field(init=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_depth", _depth_above("~", (self.condition,)))

    @property
    def depth(self) -> int:
        return self._depth

    def to_json(self) -> dict[str, JSON]:
        return {**Condition.to_json(self), "condition": self.condition.to_json()}

    def __invert__(self) -> Condition:
        return self.condition

    def __repr__(self) -> str:
        return f"~{self.condition!r}"


def _operands(kind: type[Group], symbol: str, left: Condition, right: object) -> tuple[Condition, ...]:
    # `a & b & c` is one flat All, so that a long chain stays within the depth.
    if not isinstance(right, Condition):
        _refuse_mix(symbol, left, right)
    flat: list[Condition] = []
    for side in (left, right):
        flat.extend(side.conditions if isinstance(side, kind) else (side,))
    return tuple(flat)


def _refuse_mix(symbol: str, left: object, right: object) -> NoReturn:
    forms: list[str] = []
    bare: object = None
    for side in (left, right):
        if isinstance(side, Condition):
            forms.append(shown(side))
        else:
            bare = side
            forms.append(f"({getattr(side, 'name', 'KEY')} > value)")
    raise WorkflowError(
        f"{symbol} joins two conditions, and {shown(bare)} is none. It binds tighter than a comparison, "
        f"so put that in parentheses: {f' {symbol} '.join(forms)}"
    )


def _depth_above(word: str, parts: tuple[Condition, ...]) -> int:
    for part in parts:
        if not isinstance(part, Condition):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise WorkflowError(
                f"{word} takes conditions, not {shown(part)}: for example task_success(t), "
                "context_value(key, '>', 80), or (KEY > 80) on a Key"
            )
    depth = 1 + max(part.depth for part in parts)
    if depth > MAX_DEPTH:
        raise WorkflowError(f"a rule is nested deeper than {MAX_DEPTH} conditions: {word} is one too many")
    return depth


def _check_text(text: object, what: str) -> None:
    if not isinstance(text, str) or not text:
        raise WorkflowError(f"{what}, not {shown(text)}")
