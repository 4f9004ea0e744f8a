"""Declared keys: what tasks say they read and write, and whether what is read can have been written."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, cast

from cloacina.errors import ContextError, WorkflowError
from cloacina.model.context.keys import Key
from cloacina.model.definition.hints import did_you_mean, listing, shown
from cloacina.model.definition.options import is_no_list
from cloacina.model.json.values import to_json

_KEY: Any = Key  # does not narrow an object

if TYPE_CHECKING:
    from cloacina.model.dag.dag import Dag
    from cloacina.model.json.patch import Patch
    from cloacina.model.task import Task


def read_keys(name: str, value: object) -> frozenset[str] | None:
    """The names of context keys from names and `Key` objects; None if nothing was declared."""
    if value is None:
        return None
    if is_no_list(value):
        raise WorkflowError(f"{name}={shown(value)} is no list: write names or Keys, {name}=['total', PRICE]")
    return frozenset(_key_name(name, item) for item in cast("Iterable[object]", value))


def _key_name(name: str, item: object) -> str:
    key: object = getattr(item, "name", None) if type(item) is _KEY else item
    if not isinstance(key, str) or not key:
        raise WorkflowError(f"{name} has {shown(item)}, which is no key: write its name, or a Key")
    try:
        return cast(str, to_json(key))
    except ContextError as error:
        raise WorkflowError(f"{name} has {shown(key)}, which no context can have: {error}") from error


def undeclared(writes: frozenset[str], patch: Patch) -> list[str]:
    """The keys that a patch changes and ``writes`` does not name, sorted."""
    return sorted(
        {key for members in cast("dict[str, Iterable[str]]", patch).values() for key in members} - writes
    )


def check_reads(dag: Dag, inputs: frozenset[str] | None) -> None:
    """Refuse a key that a task reads, itself or in its rule, and nothing above it can have written.

    ``inputs`` are the keys that an input can have. What is not known is not checked: any input, or a task above
    without ``writes``. Raises `WorkflowError`.
    """
    if inputs is None:
        return
    known: list[frozenset[str] | None] = []
    """For each task the keys that its view can have, or None."""
    for task, needed in zip(dag.tasks, dag.dependencies, strict=True):
        view: frozenset[str] | None = inputs
        for above in needed:
            seen, writes = known[above], dag.tasks[above].writes
            view = None if view is None or seen is None or writes is None else view | seen | writes
        known.append(view)
        if view is not None:
            _check_task(dag.name, task, view)


def _check_task(workflow: str, task: Task, view: frozenset[str]) -> None:
    tested = frozenset[str]() if task.rule is None else task.rule.keys()
    missing = sorted(((task.reads or frozenset()) | tested) - view)
    if missing:
        way = "its rule tests" if missing[0] in tested else "it reads"
        hint = did_you_mean(missing[0], view)
        raise WorkflowError(
            f"workflow {workflow!r}, task {task.id!r}: {way} {listing(missing)}, which neither the input has nor a "
            f"task above it writes.{hint} Correct the name, add it to the writes= of a task above, or to the "
            "input's model"
        )
