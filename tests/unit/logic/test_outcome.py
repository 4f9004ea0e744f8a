"""How executions end: the cases of the specification, the resilient pipeline, and every outcome of small DAGs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain, combinations, product
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloacina.errors import ContextError
from cloacina.logic.outcome import outcome
from cloacina.logic.standing import Standing
from cloacina.model.context.context import Context
from cloacina.model.rules import (
    All,
    Always,
    Any_,
    Condition,
    ContextValue,
    None_,
    Not,
    TaskFailed,
    TaskSkipped,
    TaskSuccess,
    all_of,
    always,
    any_of,
    context_value,
    task_failed,
    task_skipped,
    task_success,
)
from cloacina.model.status import ExecutionStatus, Reason, TaskState
from cloacina.model.task import Task as RealTask
from cloacina.model.workflow import Workflow
from unit.logic.oracle import Dag, Oracle, Task, play

COMPLETED, FAILED = ExecutionStatus.COMPLETED, ExecutionStatus.FAILED

A, B, R, Z = Task("A"), Task("B"), Task("R"), Task("Z")
B_AFTER_A = Task("B", ("A",))
F = Task("F", ("A",), task_failed("A"))
EITHER = Task("F", ("A", "B"), any_of(task_failed("A"), task_failed("B")))
J_OF_EITHER = Task("J", ("A", "B", "F"))
LOST_X = [A, B_AFTER_A, Task("X", ("B",)), Task("F", ("X",), any_of(task_failed("X"), task_skipped("X")))]

CASES: dict[str, tuple[list[Task], str, ExecutionStatus, str]] = {
    # name: tasks, ids of those that fail if they run, outcome, ids of the Completed ones
    "alert": ([A, Task("alert", ("A",), task_failed("A"))], "A", FAILED, "alert"),
    "stand-in and join": ([A, F, Task("J", ("A", "F"))], "A", COMPLETED, "F J"),
    "one stand-in for two, A fails": ([A, B, EITHER, J_OF_EITHER], "A", COMPLETED, "B F J"),
    "one stand-in for two, B fails": ([A, B, EITHER, J_OF_EITHER], "B", COMPLETED, "A F J"),
    "one stand-in for two, both fail": ([A, B, EITHER, J_OF_EITHER], "A B", COMPLETED, "F J"),
    "stand-in with work after it": (
        [A, F, Task("enrich", ("F",)), Task("J", ("A", "enrich"))], "A", COMPLETED, "F enrich J",
    ),
    "stand-in for a stand-in": (
        [A, Task("F1", ("A",), task_failed("A")), Task("F2", ("F1",), task_failed("F1")), Task("J", ("A", "F1", "F2"))],
        "A F1", COMPLETED, "F2 J",
    ),
    "any of two is enough": (
        [A, B, Task("J", ("A", "B"), any_of(task_success("A"), task_success("B")))], "A", COMPLETED, "B J",
    ),
    "any of two, none is left": (
        [A, B, Task("J", ("A", "B"), any_of(task_success("A"), task_success("B")))], "A B", FAILED, "",
    ),
    "stand-in for what was skipped": ([*LOST_X, Task("J", ("X", "F"))], "A", COMPLETED, "F J"),
    "clean-up": ([A, Task("clean_up", ("A",), always())], "A", FAILED, "clean_up"),
    "roll-back": (
        [R, Task("C", ("R",)), Task("rollback", ("R", "C"), task_success("R") & task_failed("C"))],
        "C", FAILED, "R rollback",
    ),
    "if and else with rules": (
        [A, Task("B", ("A",), task_success("A")), F, Task("J", ("B", "F"))], "A", COMPLETED, "F J",
    ),
    "if and else, nothing fails": (
        [A, Task("B", ("A",), task_success("A")), F, Task("J", ("B", "F"))], "", COMPLETED, "A B J",
    ),
    "two failures, one stand-in": ([A, Z, Task("B", ("A", "Z")), F, Task("J", ("B", "F"))], "A Z", FAILED, "F"),
    "optional in the middle": (
        [A, Task("E", ("A",), optional=True), Task("R", ("A", "E"))], "E", COMPLETED, "A R",
    ),
    "recovers": (
        [A, B_AFTER_A, Task("C", ("B",)), Task("F", ("A",), task_failed("A"), recovers=True)], "A", COMPLETED, "F",
    ),
    "the same without recovers": ([A, B_AFTER_A, Task("C", ("B",)), F], "A", FAILED, "F"),
    "recovers, but fails itself": (
        [A, B_AFTER_A, Task("F", ("A",), task_failed("A"), recovers=True)], "A F", FAILED, "",
    ),
    "two recover what both broke": (
        [A, Z, Task("B", ("A", "Z")), Task("F", ("A",), task_failed("A"), recovers=True),
         Task("G", ("Z",), task_failed("Z"), recovers=True)], "A Z", COMPLETED, "F G",
    ),
    "all roots optional": ([Task("A", optional=True), Task("B", optional=True)], "A B", COMPLETED, ""),
    "all roots optional, one is needed": (
        [Task("A", optional=True), Task("B", optional=True), Task("C", ("A", "B"))], "A B", FAILED, "",
    ),
    "alert that needs another": (
        [A, B, Task("alert", ("A", "B"), task_failed("A") & task_success("B"))], "A", FAILED, "B alert",
    ),
    "work goes on": ([A, B_AFTER_A], "B", FAILED, "A"),
    "nothing fails": ([A, B_AFTER_A], "", COMPLETED, "A B"),
}  # fmt: skip


@pytest.mark.parametrize(("tasks", "fails", "status", "completed"), CASES.values(), ids=CASES)
def test_cases(tasks: list[Task], fails: str, status: ExecutionStatus, completed: str) -> None:
    dag = Dag(tasks)
    standing, end = play(dag, frozenset(fails.split()))
    found = {id for id, state in zip(dag.ids, standing.states, strict=True) if state is TaskState.COMPLETED}
    assert found == set(completed.split())
    assert end.status is status
    assert bool(end.unpassed) is (status is FAILED)


def quality(operator: str, score: int) -> Condition:
    return task_success("process_data") & context_value("data_quality_score", operator, score)


PIPELINE = Dag(
    [
        Task("fetch_data"),
        Task("cached_data", ("fetch_data",), task_failed("fetch_data")),
        Task("process_data", ("fetch_data", "cached_data")),
        Task("high_quality_processing", ("process_data",), quality(">", 80)),
        Task("low_quality_processing", ("process_data",), quality("<", 81)),
        Task(
            "failure_notification",
            ("fetch_data", "cached_data"),
            all_of(task_failed("fetch_data"), task_failed("cached_data")),
        ),
        Task(
            "final_report",
            ("high_quality_processing", "low_quality_processing"),
            any_of(task_success("high_quality_processing"), task_success("low_quality_processing")),
        ),
    ]
)
HIGH = {"process_data", "high_quality_processing", "final_report"}
LOW = {"process_data", "low_quality_processing", "final_report"}


@pytest.mark.parametrize(
    ("fails", "score", "status", "completed"),
    [
        ("", 83, COMPLETED, HIGH | {"fetch_data"}),
        ("", 80, COMPLETED, LOW | {"fetch_data"}),
        ("fetch_data", 83, COMPLETED, HIGH | {"cached_data"}),
        ("fetch_data", 65, COMPLETED, LOW | {"cached_data"}),
        ("fetch_data cached_data", 83, FAILED, {"failure_notification"}),
        ("fetch_data cached_data", 65, FAILED, {"failure_notification"}),
        ("process_data", 83, FAILED, {"fetch_data"}),
        ("high_quality_processing", 83, FAILED, {"fetch_data", "process_data"}),
        ("fetch_data process_data", 83, FAILED, {"cached_data"}),
    ],
)
def test_every_path_of_the_resilient_pipeline(
    fails: str, score: int, status: ExecutionStatus, completed: set[str]
) -> None:
    standing, end = play(PIPELINE, frozenset(fails.split()), {"data_quality_score": score})
    found = {
        id for id, state in zip(PIPELINE.ids, standing.states, strict=True) if state is TaskState.COMPLETED
    }
    assert found == completed
    assert end.status is status


def test_a_real_workflow_gives_the_same() -> None:
    def body(ctx: Context) -> None: ...

    # Declared backwards, so that the canonical order differs from that of declaration.
    workflow = Workflow("pipeline")
    for task in reversed(PIPELINE.tasks):
        workflow.add(RealTask(body, id=task.id, dependencies=task.dependencies, trigger_rules=task.rule))  # type: ignore[typeddict-item]
    for failing in subsets(PIPELINE.ids):
        expected, end = play(PIPELINE, frozenset(failing), {"data_quality_score": 83})
        standing, real_end = play(workflow.dag, frozenset(failing), {"data_quality_score": 83})  # type: ignore[arg-type]
        assert {id: standing.states[i] for id, i in workflow.dag.index.items()} == {
            id: expected.states[i] for id, i in PIPELINE.index.items()
        }
        assert real_end.status is end.status


def test_what_a_total_failure_of_the_pipeline_leaves() -> None:
    standing, end = play(PIPELINE, frozenset({"fetch_data", "cached_data"}))
    reasons = dict(zip(PIPELINE.ids, standing.reasons, strict=True))
    assert {id for id, reason in reasons.items() if reason is Reason.DEPENDENCY_FAILED} == HIGH | LOW
    assert {PIPELINE.ids[i] for i in end.unpassed} == set(PIPELINE.ids) - {"failure_notification"}


OPTIONAL_Z, LOST_B = Task("Z", optional=True), Task("B", ("A", "Z"))


@pytest.mark.parametrize(
    ("tasks", "fails", "unpassed"),
    [
        pytest.param([A, B, R, F, Task("J", ("A", "F"))], "ABR", "BR", id="each by itself"),
        pytest.param([A, OPTIONAL_Z, LOST_B], "AZ", "AB", id="optional ones are none"),
        pytest.param(
            [*LOST_X, Task("Y", ("X",)), Task("J", ("Y", "F"))], "A", "", id="by way of three skipped ones"
        ),
        pytest.param(
            [A, F, B_AFTER_A, Task("C", ("A",)), Task("J", ("B", "F"))], "A", "AC", id="all that it broke, not some"
        ),
        pytest.param(
            [A, F, B_AFTER_A, Z, Task("N", ("A", "Z"), task_failed("A") & task_failed("Z")), Task("J", ("B", "F"))],
            "A", "", id="a branch not taken was not broken by it",
        ),
        pytest.param(
            [A, B, R, EITHER, Task("J", ("A", "R"), any_of(task_success("A"), task_success("R")))],
            "ABF", "BF", id="a stand-in that fails is not passed with one that it stood for",
        ),
        pytest.param(
            [A, B, R, EITHER, Task("J", ("A", "B", "R"), any_of(*map(task_success, "ABR")))],
            "ABF", "", id="but with all",
        ),
        pytest.param(
            [A, OPTIONAL_Z, LOST_B, Task("F", ("A",), task_failed("A"), recovers=True)],
            "AZ", "B", id="recovered only from all that broke it",
        ),
        pytest.param(
            [A, F, Task("G", ("F",), task_failed("F"), recovers=True)],
            "AF", "", id="recovered from a stand-in and what that stood for",
        ),
    ],
)  # fmt: skip
def test_what_was_not_passed(tasks: list[Task], fails: str, unpassed: str) -> None:
    dag = Dag(tasks)
    _, end = play(dag, frozenset(fails))
    assert {dag.ids[i] for i in end.unpassed} == set(unpassed)
    assert Oracle(dag, frozenset(fails)).outcome() == (end.status, set(unpassed))


def test_a_task_that_was_cancelled_is_not_broken() -> None:
    standing = Standing(Dag([A, B_AFTER_A]), lambda i: {})  # type: ignore[arg-type]
    standing.states[:] = [TaskState.CANCELLED, TaskState.SKIPPED]
    standing.reasons[:] = [Reason.CANCELLED, Reason.CANCELLED]
    assert not standing.broken(0)
    assert not standing.broken(1)
    assert outcome(standing).unpassed == ()


def test_a_view_that_can_no_longer_be_built_passes_nothing() -> None:
    def view_of(i: int) -> Any:
        raise ContextError("conflict")

    rule = task_success("A") | (task_success("B") & context_value("k", "exists"))
    standing = Standing(Dag([A, B, Task("J", ("A", "B"), rule)]), view_of)  # type: ignore[arg-type]
    standing.states[:] = [TaskState.FAILED, TaskState.COMPLETED, TaskState.COMPLETED]
    assert outcome(standing).unpassed == (0,)


# Every outcome of every small DAG, against the oracle.


def compare(tasks: list[Task], fails: frozenset[str], order: list[int] | None = None) -> None:
    dag, context = Dag(tasks), {"t": True}
    oracle = Oracle(dag, fails, context)
    standing, end = play(dag, fails, context, order=order or ())
    assert dict(zip(dag.ids, standing.states, strict=True)) == oracle.state, (dag, fails)
    reasons = {id: reason for id, reason in zip(dag.ids, standing.reasons, strict=True) if reason is not None}
    assert reasons == oracle.reason, (dag, fails)
    assert (end.status, {dag.ids[i] for i in end.unpassed}) == oracle.outcome(), (dag, fails)
    restored = Standing(dag, lambda i: context)  # type: ignore[arg-type]
    restored.states[:], restored.reasons[:] = standing.states, standing.reasons
    assert outcome(restored) == end, (dag, fails)


def subsets(ids: Sequence[str]) -> Iterator[tuple[str, ...]]:
    return chain.from_iterable(combinations(ids, size) for size in range(len(ids) + 1))


def rules(needed: tuple[str, ...], full: bool) -> list[Condition | None]:
    """No rule, and one of each kind over all dependencies."""
    failed, succeeded = tuple(map(TaskFailed, needed)), tuple(map(TaskSuccess, needed))
    found: list[Condition | None] = [None, Any_(failed), Any_(tuple(map(TaskSkipped, needed)) + failed)]
    if full:
        found += [
            always(),
            Any_(succeeded),
            None_(succeeded),
            All((*succeeded[:1], ContextValue("t", "==", True))),
        ]
        found += [All((failed[0], *succeeded[1:])), Any_((failed[0], Not(ContextValue("t", "==", True))))]
    return found


def tasks_named(id: str, before: str, full: bool) -> Iterator[Task]:
    for needed in subsets(before):
        for rule in rules(needed, full) if needed else [None]:
            for optional, recovers in product((False, True), repeat=2) if full else [(False, False)]:
                if not recovers or rule is not None:
                    yield Task(id, needed, rule, optional, recovers)


@pytest.mark.parametrize(("ids", "full"), [("abc", True), ("abcd", False)])
def test_every_outcome_of_every_small_dag(ids: str, full: bool) -> None:
    choices = [list(tasks_named(id, ids[:i], full)) for i, id in enumerate(ids)]
    fails = [frozenset(failing) for failing in subsets(ids)]
    for tasks in product(*choices):
        for failing in fails:
            compare(list(tasks), failing)


@st.composite
def cases(draw: st.DrawFn) -> tuple[list[Task], frozenset[str], list[int]]:
    ids = "abcdefg"[: draw(st.integers(2, 7))]
    tasks: list[Task] = []
    for i, id in enumerate(ids):
        needed = tuple(other for other in ids[:i] if draw(st.booleans()))
        rule = draw(st.none() | conditions(needed)) if needed else None
        optional = draw(st.integers(0, 6)) == 6
        tasks.append(Task(id, needed, rule, optional, rule is not None and draw(st.booleans())))
    dag, order = Dag(tasks), list[int]()
    while len(order) < len(ids):
        ready = [i for i in range(len(ids)) if i not in order and set(dag.dependencies[i]) <= set(order)]
        order.append(draw(st.sampled_from(ready)))
    return tasks, frozenset(id for id in ids if draw(st.booleans())), order


def conditions(needed: tuple[str, ...]) -> st.SearchStrategy[Condition]:
    leaves = [kind(id) for kind in (TaskSuccess, TaskFailed, TaskFailed, TaskSkipped) for id in needed]
    return st.recursive(
        st.sampled_from([*leaves, Always(), ContextValue("t", "==", True), ContextValue("f", "==", True)]),
        lambda inner: st.one_of(
            inner.map(Not),
            *(
                st.builds(kind, st.lists(inner, min_size=1, max_size=3).map(tuple))
                for kind in (All, Any_, None_)
            ),
        ),
        max_leaves=5,
    )


@given(cases())
@settings(max_examples=200, deadline=None)
def test_larger_dags_with_any_rules_in_any_order(case: tuple[list[Task], frozenset[str], list[int]]) -> None:
    compare(*case)
