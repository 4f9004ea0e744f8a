"""The views of one execution: whatever ends when, a task sees what those above it did, in canonical order."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloacina.errors import ContextConflict
from cloacina.logic.views import Views
from cloacina.model.context.context import Context
from cloacina.model.context.keys import Key
from cloacina.model.json.patch import Patch
from cloacina.model.json.values import Limits
from cloacina.model.task import task
from cloacina.model.workflow import Workflow


async def body(ctx: Context) -> None: ...


def workflow(above: list[list[int]], **options: Any) -> Workflow:
    """Tasks t0, t1, …; ``above`` gives the numbers of those that each depends on."""
    tasks = [
        task(body, id=f"t{n}", dependencies=[f"t{one}" for one in needed]) for n, needed in enumerate(above)
    ]
    return Workflow("w", tasks, **options)


@st.composite
def plays(draw: st.DrawFn) -> tuple[list[list[int]], list[int], list[int]]:
    """A random DAG, an order in which its tasks end, and those of them that change nothing."""
    size = draw(st.integers(1, 9))
    above = [sorted(draw(st.sets(st.integers(0, n - 1), max_size=3))) if n else [] for n in range(size)]
    left, order = list(range(size)), []
    while left:
        free = [n for n in left if all(one in order for one in above[n])]
        order.append(draw(st.sampled_from(free)))
        left.remove(order[-1])
    return above, order, sorted(draw(st.sets(st.integers(0, size - 1), max_size=3)))


def model(views: Views, dag: Any, completed: list[int], mask: int) -> dict[str, Any]:
    """What is seen below the tasks in ``mask``: one patch after the other."""
    seen: dict[str, Any] = {"input": 0}
    for index in sorted(completed):
        if mask >> index & 1 and index in views.patches:
            seen |= {"last": index, f"did {index}": True}
    return seen


@pytest.mark.parametrize("merging", [False, True])
@given(play=plays())
def test_what_each_task_and_the_result_see(merging: bool, play: Any) -> None:
    """A key with a merge function, which nobody writes, turns off the quick way to join."""
    above, order, idle = play
    made = workflow(above, keys=[Key("unused", int, merge=max)] if merging else [])
    dag, views = made.dag, Views(made, Limits())
    views.input = {"input": 0}
    completed: list[int] = []
    for number, name in enumerate(f"t{n}" for n in order):
        index = dag.index[name]
        wanted = model(views, dag, completed, dag.ancestor_masks[index])
        assert views.of(index) == wanted == views.of(index)
        if order[number] not in idle:
            views.patches[index] = {"set": {"last": index, f"did {index}": True}}
        completed.append(index)
        views.ended(index, last=number == len(order) - 1)
    assert views.result() == model(views, dag, completed, -1)
    ends = {index for index in range(len(order)) if not dag.dependents[index]}
    assert set(views._after) <= ends, "what nobody reads any more is forgotten"


def test_a_join_that_has_later_tasks_is_no_beginning_for_one_that_has_earlier_ones() -> None:
    """e joins b and d, f joins a and b: the view of e has d, which is later than a."""
    made = workflow([[], [], [], [1, 2], [0, 1, 2]])
    views = Views(made, Limits())
    for index in range(3):
        views.patches[index] = {"set": {"last": index}}
        views.ended(index, last=False)
    dag = made.dag
    assert [views.of(dag.index[name]) for name in ("t3", "t4", "t3")] == [{"last": 2}] * 3


def test_a_join_of_earlier_and_later_tasks_is_made_of_all() -> None:
    """t4 joins t1 and t2; t5 joins these, t0 before them and t3 behind them."""
    made = workflow([[], [], [], [], [1, 2], [0, 1, 2, 3]])
    views = Views(made, Limits())
    for index, name in enumerate(("n", "n", "n", "m")):
        views.patches[index] = {"set": {name: index}}
        views.ended(index, last=False)
    seen = [views.of(made.dag.index[name]) for name in ("t4", "t5")]
    assert seen == [{"n": 2}, {"n": 2, "m": 3}]


def test_branches_that_join_step_by_step_are_not_merged_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of a row of joins adds to the one before."""
    count = 30
    above = [[] if not n else [0] for n in range(count)] + [list(range(1, n)) for n in range(3, count)]
    made = workflow(above)
    views, merged = Views(made, Limits()), list[int]()
    for index in range(count):
        views.patches[index] = {"set": {f"did {index}": True}}
        views.ended(index, last=False)
    fold = views._fold

    def counted(base: dict[str, Any], patches: list[tuple[int, Patch]]) -> dict[str, Any]:
        merged.append(len(patches))
        return fold(base, patches)

    monkeypatch.setattr(Views, "_fold", lambda _, base, patches: counted(base, patches))
    for n in range(count, len(above)):
        seen = views.of(made.dag.index[f"t{n}"])
        assert set(seen) == {f"did {i}" for i in range(len(above[n]) + 1)}
    assert merged == [3] + [1] * (count - 4)


def test_where_conflicts_are_errors_each_join_is_made_of_all() -> None:
    made = workflow([[], [], [], [0, 1], [0, 1, 2]], on_conflict="error")
    views = Views(made, Limits())
    for index, name in enumerate(("x", "y", "x")):
        views.patches[index] = {"set": {name: index}}
        views.ended(index, last=False)
    dag = made.dag
    assert views.of(dag.index["t3"]) == {"x": 0, "y": 1}
    with pytest.raises(ContextConflict):
        views.of(dag.index["t4"])
