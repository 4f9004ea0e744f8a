"""What tasks write, what of it others see: the merge of contexts once more, as naively as its text allows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, MutableMapping
from copy import deepcopy
from typing import Any

Json = dict[str, Any]
Change = list[tuple[str, tuple[str, ...], Any]]
"""What to do, the path to where, and what with: set, remove, append."""

WRITES: list[Callable[[MutableMapping[str, Any], str, int], None]] = []
"""What a body may do to its context: with the context, the id of its task, and a number of its own."""


def write(function: Callable[[MutableMapping[str, Any], str, int], None]) -> Callable[..., None]:
    WRITES.append(function)
    return function


@write
def own_key(ctx: MutableMapping[str, Any], task: str, number: int) -> None:
    ctx[task] = number


@write
def extend(ctx: MutableMapping[str, Any], task: str, number: int) -> None:
    log = ctx.get("log")
    ctx["log"] = [*(log if isinstance(log, list) else []), task, number]


@write
def grow(ctx: MutableMapping[str, Any], task: str, number: int) -> None:
    tree = ctx.get("tree")
    ctx["tree"] = {**(tree if isinstance(tree, dict) else {}), task: {"n": number}}


@write
def last(ctx: MutableMapping[str, Any], task: str, number: int) -> None:
    ctx["last"] = task


@write
def forget(ctx: MutableMapping[str, Any], task: str, number: int) -> None:
    for key in ("log", "last"):
        ctx.pop(key, None)


@write
def begin_again(ctx: MutableMapping[str, Any], task: str, number: int) -> None:
    ctx["log"] = [number]


@write
def another_type(ctx: MutableMapping[str, Any], task: str, number: int) -> None:
    ctx["tree"] = [task] if number % 2 else number


@write
def inside(ctx: MutableMapping[str, Any], task: str, number: int) -> None:
    tree = ctx.get("tree")
    if isinstance(tree, dict):
        tree.setdefault("shared", []).append(number)
        tree.pop("t0", None)
    ctx[task] = number


@write
def nothing(ctx: MutableMapping[str, Any], task: str, number: int) -> None:
    pass


def change(before: Json, after: Json, path: tuple[str, ...] = ()) -> Change:
    """What a task did that saw ``before`` and left ``after``."""
    made: Change = [("remove", (*path, key), None) for key in before if key not in after]
    for key, new in after.items():
        here, old = (*path, key), before.get(key)
        if key not in before:
            made.append(("set", here, new))
        elif isinstance(old, dict) and isinstance(new, dict):
            made += change(old, new, here)
        elif isinstance(old, list) and isinstance(new, list) and new[: len(old)] == old:
            if len(new) > len(old):
                made.append(("append", here, new[len(old) :]))
        elif new != old or type(new) is not type(old):
            made.append(("set", here, new))
    return made


def merged(input: Json, changes: Iterable[Change]) -> Json:
    """The context after one task's changes and the next one's."""
    context = deepcopy(input)
    for made in changes:
        for what, (*way, key), value in deepcopy(made):
            at = context
            for step in way:
                if not isinstance(at.get(step), dict):
                    at[step] = {}
                at = at[step]
            if what == "set":
                at[key] = value
            elif what == "remove":
                at.pop(key, None)
            else:
                found = at.get(key)
                at[key] = [*(found if isinstance(found, list) else []), *value]
    return context


def without(made: Change, keys: Iterable[str]) -> Change:
    """The change but for what it does to some keys."""
    return [one for one in made if one[1][0] not in keys]
