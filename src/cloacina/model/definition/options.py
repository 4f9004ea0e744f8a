"""The options of tasks and workflows as users write them: each is checked and brought into one form."""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias, cast

from cloacina.errors import ValidationError, WorkflowError
from cloacina.model.context.context import Context
from cloacina.model.definition.durations import seconds
from cloacina.model.definition.hints import did_you_mean, listing, shown
from cloacina.model.names import check_name
from cloacina.model.retry import RetryOptions, RetryPolicy
from cloacina.model.rules import Condition, condition_from_json

Callback: TypeAlias = Callable[[Context, Any], object]
"""Told after the end of a task or an execution: the context, read-only, and what happened."""


def check_known(options: Mapping[str, object], known: frozenset[str]) -> None:
    """Raise `WorkflowError` if ``options`` has one that is not in ``known``."""
    for name in options:
        if name not in known:
            hint = did_you_mean(name, known)
            raise WorkflowError(f"unknown option {name!r}.{hint} The options are {', '.join(sorted(known))}")


def is_no_list(value: object) -> bool:
    """True for a text, a mapping, and what cannot be iterated: none of them lists things."""
    return isinstance(value, (str, bytes, Mapping)) or not isinstance(value, Iterable)


def read_dependencies(value: object) -> tuple[str, ...]:
    """Ids from ids and `Task` objects, each once; those of a set are sorted."""
    example = "dependencies=['extract', clean]"
    if isinstance(value, (str, bytes)):
        raise WorkflowError(
            f"dependencies={shown(value)} is one text: write a list, dependencies=[{shown(value)}]"
        )
    if is_no_list(value):
        raise WorkflowError(f"dependencies={shown(value)} is no list: write ids or tasks, {example}")
    found = [_dependency(item, example) for item in cast("Iterable[object]", value)]
    twice = [name for name, times in Counter(found).items() if times > 1]
    if twice:
        raise WorkflowError(f"dependencies name {listing(twice)} twice: name each task once")
    return tuple(sorted(found) if isinstance(value, (set, frozenset)) else found)


def _dependency(item: object, example: str) -> str:
    if isinstance(item, str):
        return str.__str__(item)
    name = getattr(item, "id", None)
    if isinstance(name, str):
        return name
    problem = (
        "is a plain function: decorate it with @task, or write its id"
        if callable(item)
        else "is neither an id nor a task: write one of them"
    )
    raise WorkflowError(f"dependency {shown(item)} {problem}, {example}")


def read_retry(options: Mapping[str, object]) -> RetryPolicy | None:
    """The policy, from either spelling; None if the options have neither."""
    flat = {name: value for name, value in options.items() if name in RetryOptions.__annotations__}
    whole = options.get("retry")
    if whole is not None and flat:
        raise WorkflowError(
            f"retry= and {listing(list(flat))} say it twice: keep retry=RetryPolicy(...) only"
        )
    if flat:
        return RetryPolicy.from_flat(**cast(RetryOptions, flat))
    return None if whole is None else RetryPolicy.of(whole)


def read_rule(value: object) -> Condition | None:
    """A condition, or the JSON that describes one."""
    if value is None or isinstance(value, Condition):
        return value
    if not isinstance(value, Mapping):
        raise WorkflowError(
            f"trigger_rules={shown(value)} is no condition: write one, such as task_failed('fetch'), or its "
            f"JSON as a mapping{_rule_hint(value)}"
        )
    try:
        return condition_from_json(cast("Mapping[str, object]", value))
    except ValidationError as refused:
        raise WorkflowError(f"trigger_rules: {refused}") from refused


def _rule_hint(value: object) -> str:
    if isinstance(value, bool):
        return ". With a Key, write key.equals(value) for ==, key.not_equals(value) for !=; and ~a for not a"
    if isinstance(value, (list, tuple)):
        return ". Join several with &, |, all_of(...) or any_of(...)"
    return ""


def read_timeout(value: object) -> float | None:
    """Seconds, more than 0; None for no timeout."""
    return None if value is None else seconds("timeout", value)


def read_flag(name: str, value: object) -> bool:
    """True or False and nothing else."""
    if not isinstance(value, bool):
        raise WorkflowError(f"{name}={shown(value)} is neither True nor False: write one of them")
    return value


def read_executor(value: object) -> str | None:
    """The name of an executor; None for none."""
    return None if value is None else check_name("executor", value, WorkflowError)


def read_text(name: str, value: object) -> str:
    """A text that both databases can store."""
    if not isinstance(value, str):
        raise WorkflowError(f"{name}={shown(value)} is no text: write a string")
    if "\0" in value or any("\ud800" <= char <= "\udfff" for char in value):
        raise WorkflowError(f"{name}={shown(value)} holds NUL or half a surrogate pair: take it out")
    return value


def read_tags(value: object) -> tuple[str, ...]:
    """Short printable texts, each kept once."""
    if is_no_list(value):
        raise WorkflowError(f"tags={shown(value)} is no list: write tags=['nightly', 'team:data']")
    given = list(cast("Iterable[object]", value))
    for tag in given:
        if not isinstance(tag, str) or not 1 <= len(tag.strip()) <= 100 or not tag.isprintable():
            raise WorkflowError(f"tag {shown(tag)} is refused: write 1 to 100 printable characters")
    found = cast("list[str]", given)
    return tuple(dict.fromkeys(sorted(found) if isinstance(value, (set, frozenset)) else found))


def read_callback(name: str, value: object) -> Callback | None:
    """A function that can be called with a context and what happened."""
    if value is None:
        return None
    if not callable(value) or isinstance(value, type):
        raise WorkflowError(f"{name}={shown(value)} is no function: write def {name}(ctx, info): ...")
    try:
        inspect.signature(value).bind(None, None)
    except TypeError as unfit:
        raise WorkflowError(f"{name}={shown(value)} cannot take (ctx, info): {unfit}") from unfit
    except ValueError:
        pass  # its parameters cannot be seen; the call will tell
    return cast(Callback, value)
