"""Forks: which tasks are done again, and that those which are kept are what an undisturbed run would have made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings

from cloacina.logic.execution import Past
from cloacina.logic.fork import standing_of, to_redo, to_retry, views, without
from cloacina.logic.readiness import decide
from cloacina.logic.standing import Standing
from cloacina.model.context.context import Context
from cloacina.model.context.keys import Key
from cloacina.model.json.patch import Patch
from cloacina.model.json.values import DEFAULT_LIMITS
from cloacina.model.rules import always, any_of, context_value, task_failed, task_skipped, task_success
from cloacina.model.status import AttemptState, Reason, TaskState
from cloacina.model.task import Task as RealTask
from cloacina.model.workflow import Workflow
from unit.logic.oracle import Dag, Task, play
from unit.logic.test_outcome import PIPELINE, cases

A, B = Task("A"), Task("B", ("A",))
F = Task("F", ("A",), task_failed("A"))

# Tasks, those that fail if they run, and those that a retry does again.
RETRIES: dict[str, tuple[list[Task], str, str]] = {
    "nothing failed": ([A, B], "", ""),
    "the last one": ([A, B], "B", "B"),
    "the first one, with all after it": ([A, B, Task("C", ("B",))], "A", "A B C"),
    "a neighbour is kept": ([A, Task("X"), Task("J", ("A", "X"))], "A", "A J"),
    "an alert": ([A, Task("alert", ("A",), task_failed("A"))], "A", "A alert"),
    "clean-up": ([A, Task("clean_up", ("A",), always())], "A", "A clean_up"),
    "a stand-in took its place": ([A, F, Task("J", ("A", "F"))], "A", ""),
    "what came after a stand-in failed": ([A, F, Task("J", ("A", "F")), Task("X", ("J",))], "A X", "X"),
    "both failed": ([A, F, Task("J", ("A", "F"))], "A F", "A F J"),
    "skipped for a rule": ([A, Task("E", ("A",), task_failed("A")), B], "B", "B"),
    "optional, and work went on": ([A, Task("E", ("A",), optional=True), Task("R", ("A", "E"))], "E", ""),
    "optional, and nothing after it": ([A, Task("E", ("A",), optional=True)], "E", "E"),
    "if and else": (
        [A, Task("B", ("A",), task_success("A")), F, Task("J", ("B", "F")), Task("X", ("J",))], "A X", "X",
    ),
    "the join of a stand-in failed itself": ([A, F, Task("J", ("A", "F"))], "A J", "A F J"),
    "a stand-in for one that was skipped": (
        [A, B, Task("S", ("B",), any_of(task_failed("B"), task_skipped("B"))), Task("J", ("B", "S")),
         Task("X", ("J",))], "A X", "X",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("tasks", "fails", "again"), RETRIES.values(), ids=RETRIES)
def test_what_a_retry_does_again(tasks: list[Task], fails: str, again: str) -> None:
    standing, _ = play(Dag(tasks), frozenset(fails.split()))
    assert to_retry(standing) == set(again.split())


@pytest.mark.parametrize(
    ("fails", "again"),
    [
        ("fetch_data", ""),
        ("fetch_data cached_data", PIPELINE.ids),
        (
            "process_data",
            ("process_data", "high_quality_processing", "low_quality_processing", "final_report"),
        ),
    ],
)
def test_the_tutorial(fails: str, again: tuple[str, ...]) -> None:
    standing, _ = play(PIPELINE, frozenset(fails.split()), {"data_quality_score": 83})
    assert to_retry(standing) == set(again)


def past(
    task: str, state: str, reason: Reason | None = None, *, number: int = 1, due: int | None = None
) -> Past:
    return Past(task, number, AttemptState(state), due, None, reason, False)


CUT_SHORT: dict[str, tuple[Past, ...]] = {
    "cancelled": (past("B", "cancelled", Reason.CANCELLED),),
    "cancelled while it waited": (
        past("B", "failed", due=9),
        past("B", "cancelled", Reason.CANCELLED, number=2),
    ),
    "skipped by the cancel": (past("B", "skipped", Reason.CANCELLED, number=0),),
    "skipped by the timeout": (past("B", "skipped", Reason.EXECUTION_TIMEOUT, number=0),),
    "no row at all": (),
    "interrupted": (past("B", "interrupted", Reason.CRASH),),
    "waiting for a retry": (past("B", "timed_out", due=9),),
}


@pytest.mark.parametrize("rows", CUT_SHORT.values(), ids=CUT_SHORT)
def test_what_was_cut_short_is_done_again(rows: tuple[Past, ...]) -> None:
    standing = known(
        [A, B, Task("C", ("B",)), Task("X")], past("A", "completed"), *rows, past("X", "completed")
    )
    assert to_retry(standing) == to_redo(standing, []) == {"B", "C"}
    assert to_redo(standing, ["X"]) == {"B", "C", "X"}


@pytest.mark.parametrize("reason", [Reason.RULE_NOT_MET, Reason.DEPENDENCIES_SKIPPED])
def test_what_was_skipped_for_good_reason_is_kept(reason: Reason) -> None:
    standing = known([A, B], past("A", "completed"), past("B", "skipped", reason, number=0))
    assert to_retry(standing) == to_redo(standing, []) == set()


def test_a_failure_before_the_cancel_is_done_again_too() -> None:
    standing = known(
        [A, F, Task("X")],
        past("A", "failed"),
        past("F", "skipped", Reason.CANCELLED, number=0),
        past("X", "completed"),
    )
    assert to_retry(standing) == {"A", "F"}


def test_only_the_last_attempt_counts() -> None:
    standing = known(
        [A], past("A", "failed", due=5), past("A", "interrupted"), past("A", "completed", number=3)
    )
    assert standing.states == [TaskState.COMPLETED]


def test_a_poisoned_task_is_done_again() -> None:
    standing = known([A, B], past("A", "completed"), past("B", "failed", Reason.POISONED, number=4))
    assert to_retry(standing) == {"B"}


def test_redo_takes_all_that_depend_on_the_tasks() -> None:
    tasks = [A, B, Task("C", ("B",)), Task("X", ("A",)), Task("J", ("C", "X"))]
    standing, _ = play(Dag(tasks), frozenset())
    assert to_redo(standing, ["C", "X"]) == {"C", "X", "J"}
    assert to_redo(standing, ["A"]) == {task.id for task in tasks}


def known(tasks: list[Task], *rows: Past) -> Standing:
    return standing_of(Dag(tasks), rows, lambda index: {})  # type: ignore[arg-type]


@settings(max_examples=300)
@given(cases())
def test_what_is_kept_is_what_an_undisturbed_run_would_have_made(
    case: tuple[list[Task], frozenset[str], list[int]],
) -> None:
    """The model: the whole DAG run once more, in which only those tasks fail that failed and are kept."""
    tasks, fails, order = case
    dag = Dag(tasks)
    standing, _ = play(dag, fails, order=order)
    again = to_retry(standing)
    model, _ = play(dag, fails - again)
    forked = play_on(dag, standing, again)
    assert forked.states == model.states and forked.reasons == model.reasons
    # What is done again went well, so that a second retry finds nothing that failed in there.
    failed = {id for id, state in zip(dag.ids, model.states, strict=True) if state is TaskState.FAILED}
    assert failed <= set(dag.ids) - again


def play_on(dag: Dag, old: Standing, again: frozenset[str]) -> Standing:
    """Go on from what is kept; everything that runs now completes."""
    standing = Standing(dag, lambda index: {})  # type: ignore[arg-type]
    for index, id in enumerate(dag.ids):
        if id not in again:
            standing.states[index], standing.reasons[index] = old.states[index], old.reasons[index]
            continue
        reason = decide(standing, index)
        standing.states[index] = TaskState.COMPLETED if reason is None else TaskState.SKIPPED
        standing.reasons[index] = reason
    return standing


# Views, and patches.


def test_views_are_what_the_tasks_saw() -> None:
    def body(ctx: Context) -> None: ...

    total = Key("total", int, merge=lambda one, other: one + other)
    workflow = Workflow(
        "w",
        [
            RealTask(body, id="a"),
            RealTask(body, id="b"),
            RealTask(body, id="j", dependencies=["a", "b"], trigger_rules=context_value("total", "==", 7)),
        ],
        keys=[total],
    )
    rows = [
        Past(id, 1, AttemptState.COMPLETED, None, patch, None, False)
        for id, patch in (("a", sets(total=3)), ("b", sets(total=4, b=1)))
    ]
    view_of = views(workflow.dag, {"n": 1}, rows, workflow.keys, DEFAULT_LIMITS)
    assert [dict(view_of(index)) for index in range(3)] == [{"n": 1}, {"n": 1}, {"n": 1, "total": 7, "b": 1}]


def sets(**members: Any) -> Patch:
    return {"set": members}


PATCHES: dict[str, tuple[Mapping[str, Any], Mapping[str, Any]]] = {
    "nothing": ({}, {}),
    "others": ({"set": {"x": 1}, "remove": ["y"]}, {"set": {"x": 1}, "remove": ["y"]}),
    "set": ({"set": {"a": 1, "x": 2}}, {"set": {"x": 2}}),
    "all that there is": ({"set": {"a": 1}, "remove": ["b"]}, {}),
    "removed": ({"remove": ["x", "a"]}, {"remove": ["x"]}),
    "appended": ({"append": {"a": [1], "x": [2]}}, {"append": {"x": [2]}}),
    "inside": ({"patch": {"b": {"set": {"c": 1}}}}, {}),
    "the name inside another": ({"patch": {"x": {"set": {"a": 1}}}}, {"patch": {"x": {"set": {"a": 1}}}}),
}


@pytest.mark.parametrize(("patch", "left"), PATCHES.values(), ids=PATCHES)
def test_a_patch_without_some_keys(patch: Patch, left: Patch) -> None:
    before = str(patch)
    assert without(patch, {"a": 0, "b": 0}) == left
    assert str(patch) == before


def test_views_of_a_fork_join_what_conflicts() -> None:
    """The execution has run: whatever its workflow says of conflicts, this is not the time to refuse them."""
    dag = Workflow("w", [RealTask(_nothing, id="a"), RealTask(_nothing, id="b"),
                         RealTask(_nothing, id="j", dependencies=["a", "b"])]).dag  # fmt: skip
    rows = [Past(id, 1, AttemptState.COMPLETED, None, sets(n=id), None, False) for id in "ab"]
    assert views(dag, {}, rows, {}, DEFAULT_LIMITS)(2) == {"n": "b"}


def test_a_rule_of_an_execution_that_has_ended_is_asked_with_its_view() -> None:
    """Whether a failure was passed can hang on what the task that came after it saw."""
    rule = (context_value("n", "==", 1) | task_failed("a")) & task_success("c")
    tasks = [RealTask(_nothing, id="a"), RealTask(_nothing, id="c")]
    tasks.append(RealTask(_nothing, id="b", dependencies=["a", "c"], trigger_rules=rule))
    workflow = Workflow("w", tasks)
    states = {"a": AttemptState.FAILED, "b": AttemptState.COMPLETED, "c": AttemptState.COMPLETED}
    rows = [Past(id, 1, state, None, None, None, False) for id, state in states.items()]
    for n, again in ((1, set()), (2, {"a", "b"})):
        seen = views(workflow.dag, {"n": n}, rows, {}, DEFAULT_LIMITS)
        assert to_retry(standing_of(workflow.dag, rows, seen)) == again


def _nothing(ctx: Context) -> None: ...
