"""Trigger rules as users write them: functions that make conditions, and the JSON grammar.

::

    rule      = {"type": "Always"}
              | {"type": "All" | "Any" | "None", "conditions": [rule, ...]}
              | {"type": "Not", "condition": rule}
              | {"type": "TaskSuccess" | "TaskFailed" | "TaskSkipped", "task_name": id}
              | {"type": "ContextValue", "key": key, "operator": operator, "value": JSON}

Read as well: ``field`` for ``key``; an operator as a symbol or in small letters; no ``value`` for Exists and
NotExists; ``{"type": "Conditional", ...}`` for ContextValue, its fields there or under ``condition``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Protocol, TypeAlias, cast

from cloacina.errors import WorkflowError
from cloacina.model.conditions import (
    MAX_DEPTH,
    All,
    Always,
    Any_,
    Condition,
    ContextValue,
    Group,
    None_,
    Not,
    TaskCondition,
    TaskFailed,
    TaskSkipped,
    TaskSuccess,
)
from cloacina.model.definition.hints import did_you_mean, shown
from cloacina.model.operators import MISSING, ValueOperator

__all__ = [
    "All",
    "Always",
    "Any_",
    "Condition",
    "ContextValue",
    "None_",
    "Not",
    "TaskFailed",
    "TaskSkipped",
    "TaskSuccess",
    "ValueOperator",
    "all_of",
    "always",
    "any_of",
    "can_stand_in",
    "condition_from_json",
    "context_value",
    "none_of",
    "task_failed",
    "task_skipped",
    "task_success",
]


_Reader: TypeAlias = Callable[[Mapping[str, object], str, int], Condition]
"""Reads an object of one type: its fields, the path to it, how deep it stands."""


class HasId(Protocol):
    """A task, or anything that names one."""

    @property
    def id(self) -> str: ...


class HasName(Protocol):
    """A `Key`, or anything that names one."""

    @property
    def name(self) -> str: ...


def task_success(task: str | HasId) -> Condition:
    """Holds if the dependency ``task`` (a task or its id) is Completed."""
    return TaskSuccess(_id(task))


def task_failed(task: str | HasId) -> Condition:
    """Holds if the dependency ``task`` (a task or its id) is Failed, its retries used up."""
    return TaskFailed(_id(task))


def task_skipped(task: str | HasId) -> Condition:
    """Holds if the dependency ``task`` (a task or its id) was skipped, for whatever reason."""
    return TaskSkipped(_id(task))


def context_value(key: str | HasName, operator: ValueOperator | str, value: object = MISSING) -> Condition:
    """Holds if what the task's own view has under ``key`` compares so with ``value``.

    ``key`` is a name or a `Key`; ``operator`` a `ValueOperator`, its word (``"GreaterThan"``,
    ``"greater_than"``) or its symbol (``">"``); ``value`` JSON, left out for Exists and NotExists.
    Raises `WorkflowError` for any other.
    """
    name = key if isinstance(key, str) else getattr(key, "name", cast("str", key))
    return ContextValue(name, operator, value)


def always() -> Condition:
    """Holds whatever became of the dependencies: for clean-up."""
    return Always()


def all_of(*conditions: Condition) -> Condition:
    """Holds if every one of the conditions does; the same as ``a & b``."""
    return All(conditions)


def any_of(*conditions: Condition) -> Condition:
    """Holds if at least one of the conditions does; the same as ``a | b``."""
    return Any_(conditions)


def none_of(*conditions: Condition) -> Condition:
    """Holds if none of the conditions does; the same as ``~(a | b)``."""
    return None_(conditions)


def replaceable(condition: Condition) -> frozenset[str]:
    """The ids of the tasks that a rule names as failed, as skipped, or as not successful.

    Only for these can the task with this rule be a stand-in. An odd number of negations turns "successful"
    into "not successful", and the other two into their opposites.
    """
    return frozenset(
        leaf.task
        for leaf, negated in condition.leaves()
        if isinstance(leaf, TaskCondition) and isinstance(leaf, TaskSuccess) is negated
    )


def can_stand_in(condition: Condition, task_ids: Iterable[str]) -> bool:
    """True if a task with this rule can be a stand-in for one of ``task_ids``, its dependencies."""
    return not replaceable(condition).isdisjoint(task_ids)


def condition_from_json(obj: object) -> Condition:
    """The condition that ``obj``, parsed JSON in the grammar above, describes.

    Raises `WorkflowError`, with the path of the mistake, for an unknown type or field, a missing or wrong
    one, and for a rule nested deeper than 100.
    """
    return _read(obj, "", 1)


def _id(task: object) -> str:
    # The condition itself refuses what is neither an id nor a task.
    return cast("str", task if isinstance(task, str) else getattr(task, "id", task))


def _read(obj: object, path: str, depth: int) -> Condition:
    if depth > MAX_DEPTH:
        raise _mistake(path, f"is nested deeper than {MAX_DEPTH} conditions")
    fields = _object(obj, path)
    kind = fields.get("type")
    read = _READERS.get(kind) if isinstance(kind, str) else None
    if read is None:
        found = "has no type" if kind is None else f"has the unknown type {shown(kind)}"
        hint = "" if kind is None else did_you_mean(kind, _READERS)
        raise _mistake(path, f"{found}: use one of {', '.join(_READERS)}.{hint}")
    return read(fields, path, depth)


def _read_always(fields: Mapping[str, object], path: str, depth: int) -> Condition:
    _only(fields, path, "type")
    return Always()


def _group_reader(kind: type[Group]) -> _Reader:
    def read(fields: Mapping[str, object], path: str, depth: int) -> Condition:
        _only(fields, path, "type", "conditions")
        parts, path = _needed(fields, path, "conditions")
        if not isinstance(parts, (list, tuple)):
            raise _mistake(path, f"must be a list of conditions, not {shown(parts)}")
        if not parts:
            raise _mistake(path, "is empty: for a task that always runs use the type Always")
        listed = cast("list[object]", parts)
        return kind(tuple(_read(part, f"{path}[{at}]", depth + 1) for at, part in enumerate(listed)))

    return read


def _task_reader(kind: type[TaskCondition]) -> _Reader:
    def read(fields: Mapping[str, object], path: str, depth: int) -> Condition:
        _only(fields, path, "type", "task_name")
        task, path = _needed(fields, path, "task_name")
        if not isinstance(task, str) or not task:
            raise _mistake(path, f"must be the id of a dependency, not {shown(task)}")
        return kind(task)

    return read


def _read_not(fields: Mapping[str, object], path: str, depth: int) -> Condition:
    _only(fields, path, "type", "condition")
    part, path = _needed(fields, path, "condition")
    return Not(_read(part, path, depth + 1))


def _read_context_value(fields: Mapping[str, object], path: str, depth: int) -> Condition:
    _only(fields, path, "type", "key", "field", "operator", "value")
    if "key" in fields and "field" in fields:
        raise _mistake(path, "has both key and field, which mean the same: keep one")
    key, at = _needed(fields, path, "field" if "field" in fields else "key")
    if not isinstance(key, str) or not key:
        raise _mistake(at, f"must be the name of a context key, not {shown(key)}")
    operator, at = _needed(fields, path, "operator")
    if not isinstance(operator, str):
        raise _mistake(at, f"must be a string, not {shown(operator)}")
    try:
        return ContextValue(key, operator, fields.get("value", MISSING))
    except WorkflowError as error:
        raise _mistake(path, f"is refused: {error}") from error


def _read_conditional(fields: Mapping[str, object], path: str, depth: int) -> Condition:
    if "condition" not in fields:
        return _read_context_value(fields, path, depth)
    _only(fields, path, "type", "condition")
    part, path = _needed(fields, path, "condition")
    inner = _object(part, path)
    if "type" in inner:
        return _read(inner, path, depth + 1)
    return _read_context_value(inner, path, depth)


def _object(obj: object, path: str) -> Mapping[str, object]:
    if not isinstance(obj, Mapping):
        raise _mistake(path, f"must be an object with a type, not {shown(obj)}")
    return cast("Mapping[str, object]", obj)


def _only(fields: Mapping[str, object], path: str, *known: str) -> None:
    for name in fields:
        if name not in known:
            known_ = f"it may have {', '.join(known)}.{did_you_mean(name, known)}"
            raise _mistake(path, f"has the unknown field {shown(name)}: {known_}")


def _needed(fields: Mapping[str, object], path: str, name: str) -> tuple[object, str]:
    if name not in fields:
        raise _mistake(path, f"has no {name}: add it")
    return fields[name], f"{path}.{name}" if path else name


def _mistake(path: str, what: str) -> WorkflowError:
    return WorkflowError(f"the rule{f' at {path}' if path else ''} {what}")


_READERS: dict[str, _Reader] = {
    "Always": _read_always,
    "All": _group_reader(All),
    "Any": _group_reader(Any_),
    "None": _group_reader(None_),
    "Not": _read_not,
    "TaskSuccess": _task_reader(TaskSuccess),
    "TaskFailed": _task_reader(TaskFailed),
    "TaskSkipped": _task_reader(TaskSkipped),
    "ContextValue": _read_context_value,
    "Conditional": _read_conditional,
}
