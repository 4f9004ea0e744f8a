"""A fork: which tasks of an execution that has ended are done again, and what is kept of the others.

What is done again is closed downwards: with a task come all that depend on it. So each task that is kept has
all its ancestors kept too, and what became of it is what an undisturbed run would have made of it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, cast

from cloacina.logic.execution import Past
from cloacina.logic.merge import view as merge
from cloacina.logic.outcome import broken_for_good
from cloacina.logic.standing import Standing
from cloacina.model.context.keys import Key
from cloacina.model.dag.dag import Dag
from cloacina.model.json.patch import Patch
from cloacina.model.json.values import JSON, Limits
from cloacina.model.status import AttemptState, Reason, TaskState


def standing_of(dag: Dag, past: Iterable[Past], view_of: Callable[[int], Mapping[str, JSON]]) -> Standing:
    """What became of each task of an execution that has ended, from its stored attempts in their order."""
    standing = Standing(dag, view_of)
    for row in past:
        index = dag.index[row.task]
        waits = row.retry_at is not None
        standing.states[index] = TaskState.WAITING if waits else _STATE.get(row.state, TaskState.PENDING)
        standing.reasons[index] = row.reason
    return standing


def views(
    dag: Dag, input: dict[str, JSON], past: Iterable[Past], keys: Mapping[str, Key[Any]], limits: Limits
) -> Callable[[int], Mapping[str, JSON]]:
    """What each task saw, by its canonical index: the input, and what those above it changed."""
    patches = {dag.index[row.task]: row.patch for row in past if row.patch}

    def view_of(index: int) -> Mapping[str, JSON]:
        mask = dag.ancestor_masks[index]
        above = [(i, patch) for i, patch in patches.items() if mask >> i & 1]
        return merge(
            input,
            above,
            masks=dag.ancestor_masks,
            keys=keys,
            forbid_conflicts=False,
            limits=limits,
            ids=dag.ids,
        )

    return view_of


def to_retry(standing: Standing) -> frozenset[str]:
    """The tasks that a retry does again: the broken ones that were not passed, those cut short, all after them."""
    return _with_descendants(standing.dag, {*_cut_short(standing), *broken_for_good(standing)})


def to_redo(standing: Standing, tasks: Iterable[str]) -> frozenset[str]:
    """The tasks that are done again if ``tasks`` are: those, the ones cut short, and all after them."""
    return _with_descendants(
        standing.dag, {*_cut_short(standing), *map(standing.dag.index.__getitem__, tasks)}
    )


def without(patch: Patch, keys: Collection[str]) -> Patch:
    """``patch``, but for what it does to the top-level ``keys``."""
    kept: dict[str, Any] = {}
    for part, members in cast("dict[str, Any]", patch).items():
        if part == "remove":
            left: Any = [key for key in members if key not in keys]
        else:
            left = {key: value for key, value in members.items() if key not in keys}
        if left:
            kept[part] = left
    return cast("Patch", kept)


def _cut_short(standing: Standing) -> set[int]:
    """The tasks that did not end by themselves."""
    return {
        index
        for index, (state, reason) in enumerate(zip(standing.states, standing.reasons, strict=True))
        if state is TaskState.CANCELLED
        or not state.terminal
        or (state is TaskState.SKIPPED and reason in _CUT_SHORT)
    }


_CUT_SHORT = (Reason.CANCELLED, Reason.EXECUTION_TIMEOUT, Reason.INVALID_INPUT)


def _with_descendants(dag: Dag, tasks: set[int]) -> frozenset[str]:
    chosen = set(tasks)
    unread = list(tasks)
    while unread:
        fresh = [after for after in dag.dependents[unread.pop()] if after not in chosen]
        chosen.update(fresh)
        unread += fresh
    return frozenset(dag.ids[index] for index in chosen)


_STATE = {
    AttemptState.COMPLETED: TaskState.COMPLETED,
    AttemptState.FAILED: TaskState.FAILED,
    AttemptState.TIMED_OUT: TaskState.FAILED,
    AttemptState.CANCELLED: TaskState.CANCELLED,
    AttemptState.SKIPPED: TaskState.SKIPPED,
}
