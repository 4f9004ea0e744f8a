"""Views that are made from the last one are the views that would be made from the input."""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from cloacina.logic.execution import ExecutionState
from cloacina.logic.merge import view as merge
from cloacina.model.context.context import Context
from cloacina.model.json.patch import Patch
from cloacina.model.json.values import DEFAULT_LIMITS
from cloacina.model.status import TaskState
from cloacina.model.task import Task, task
from cloacina.model.workflow import Workflow

NAMES = st.sampled_from("abc")
PATCHES = st.fixed_dictionaries(
    {},
    optional={
        "set": st.dictionaries(
            NAMES, st.one_of(st.integers(0, 9), st.just([1]), st.just({"x": 1})), max_size=2
        ),
        "remove": st.lists(NAMES, max_size=1),
        "append": st.dictionaries(NAMES, st.lists(st.integers(0, 9), min_size=1, max_size=2), max_size=2),
        "patch": st.dictionaries(NAMES, st.just({"set": {"y": 2}}), max_size=2),
    },
)


def body(ctx: Context) -> None: ...


def chosen(dependencies: list[list[bool]]) -> list[Task]:
    """Task n depends on those tasks before it whose flag is set."""
    return [
        task(body, id=f"t{n}", dependencies=[f"t{m}" for m, flag in enumerate(flags[:n]) if flag])
        for n, flags in enumerate(dependencies)
    ]


NO, YES = False, True


@example(
    [[NO] * 7, [NO] * 7, [NO] * 7, [NO, YES, YES, *[NO] * 4], [YES, YES, YES, *[NO] * 4]],
    [{"set": {"a": n}} for n in range(7)],
    [3, 4],
)
@given(
    dependencies=st.lists(st.lists(st.booleans(), min_size=7, max_size=7), min_size=1, max_size=7),
    patches=st.lists(PATCHES, min_size=7, max_size=7),
    asked=st.lists(st.integers(0, 6), max_size=20),
)
def test_views_do_not_depend_on_which_was_made_before(
    dependencies: list[list[bool]], patches: list[Patch], asked: list[int]
) -> None:
    state = ExecutionState(Workflow("any", chosen(dependencies)), DEFAULT_LIMITS)
    state.views.input = before = {"a": [0], "b": {"x": 0}}
    original = copy.deepcopy(before)
    found = state.begin()
    while found.ready:
        index = found.ready.pop(0)
        state.start(index)
        assert state.views.of(index) == expected(state, index)
        state.end(index, TaskState.COMPLETED, found, patches[index])
    for index in asked:
        if index < len(dependencies):
            assert state.views.of(index) == expected(state, index)
    assert before == original


def expected(state: ExecutionState, index: int) -> dict[str, Any]:
    dag = state.dag
    above = [
        (n, state.views.patches[n]) for n in sorted(state.views.patches) if dag.ancestor_masks[index] >> n & 1
    ]
    return merge(
        state.views.input,
        above,
        masks=dag.ancestor_masks,
        keys={},
        forbid_conflicts=False,
        limits=DEFAULT_LIMITS,
    )


def test_tasks_with_the_same_ancestors_share_one_view() -> None:
    def write(ctx: Context) -> None: ...

    first = [task(write, id=f"a{n}") for n in range(3)]
    second = [task(write, id=f"b{n}", dependencies=first) for n in range(3)]
    state = ExecutionState(Workflow("layers", [*first, *second]), DEFAULT_LIMITS)
    found = state.begin()
    for index in found.ready[:]:
        state.start(index)
        state.end(index, TaskState.COMPLETED, found, {"set": {f"k{index}": index}})
    views = [state.views.of(index) for index in range(3, 6)]
    assert views[0] == {"k0": 0, "k1": 1, "k2": 2}
    assert views[1] is views[0] and views[2] is views[0]
