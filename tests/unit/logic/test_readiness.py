"""Whether a task runs once its dependencies have ended: rules 1 to 3 on single tasks, and on deep DAGs."""

from __future__ import annotations

from typing import Any

import pytest

from cloacina.errors import ContextError
from cloacina.logic.readiness import decide
from cloacina.logic.standing import Standing
from cloacina.model.rules import (
    Condition,
    always,
    any_of,
    context_value,
    none_of,
    task_failed,
    task_skipped,
    task_success,
)
from cloacina.model.status import Reason, TaskState
from unit.logic.oracle import Dag, Task, play

RUNS = None
DEPENDENCY_FAILED, RULE_NOT_MET = Reason.DEPENDENCY_FAILED, Reason.RULE_NOT_MET
DEPENDENCIES_SKIPPED = Reason.DEPENDENCIES_SKIPPED

# How a dependency ended. "e" is Failed and optional, "u" skipped because of its own rule, "d" as dependency_failed.
ENDS: dict[str, tuple[TaskState, Reason | None]] = {
    "c": (TaskState.COMPLETED, None),
    "f": (TaskState.FAILED, None),
    "e": (TaskState.FAILED, None),
    "u": (TaskState.SKIPPED, RULE_NOT_MET),
    "n": (TaskState.SKIPPED, DEPENDENCIES_SKIPPED),
    "d": (TaskState.SKIPPED, DEPENDENCY_FAILED),
}


def decided(ends: str, rule: Condition | None = None, view: Any = None) -> Reason | None:
    """What becomes of a task whose dependencies a, b, c, … ended so, one letter for each."""
    ids = "abcdefgh"[: len(ends)]
    tasks = [Task(id, optional=end == "e") for id, end in zip(ids, ends, strict=True)]
    standing = Standing(Dag([*tasks, Task("it", tuple(ids), rule)]), lambda i: view or {})  # type: ignore[arg-type]
    for i, end in enumerate(ends):
        standing.states[i], standing.reasons[i] = ENDS[end]
    return decide(standing, len(ends))


@pytest.mark.parametrize(
    ("ends", "expected"),
    [
        ("", RUNS),
        ("c", RUNS),
        ("cc", RUNS),
        ("cu", RUNS),
        ("nc", RUNS),
        ("ec", RUNS),
        ("u", DEPENDENCIES_SKIPPED),
        ("un", DEPENDENCIES_SKIPPED),
        ("f", DEPENDENCY_FAILED),
        ("d", DEPENDENCY_FAILED),
        ("e", DEPENDENCY_FAILED),
        ("eu", DEPENDENCY_FAILED),
        ("fc", DEPENDENCY_FAILED),
        ("cd", DEPENDENCY_FAILED),
        ("cef", DEPENDENCY_FAILED),
        ("fu", DEPENDENCY_FAILED),
    ],
)
def test_without_a_rule(ends: str, expected: Reason | None) -> None:
    assert decided(ends) is expected


HIGH = context_value("q", ">", 80)


@pytest.mark.parametrize(
    ("ends", "rule", "expected"),
    [
        ("f", task_failed("a"), RUNS),
        ("c", task_failed("a"), RULE_NOT_MET),
        ("d", task_failed("a"), RULE_NOT_MET),
        ("d", task_skipped("a"), RUNS),
        ("u", task_skipped("a"), RUNS),
        ("f", always(), RUNS),
        ("f", task_success("a"), DEPENDENCY_FAILED),
        ("d", task_success("a"), DEPENDENCY_FAILED),
        ("u", task_success("a"), RULE_NOT_MET),
        ("f", task_success("a") & HIGH, DEPENDENCY_FAILED),
        ("f", HIGH, DEPENDENCY_FAILED),
        ("c", HIGH, RULE_NOT_MET),
        ("u", HIGH, RULE_NOT_MET),
        ("fc", task_failed("a") & task_failed("b"), RULE_NOT_MET),
        ("ff", task_failed("a") & task_failed("b"), RUNS),
        ("fc", task_success("a") & task_failed("b"), RULE_NOT_MET),
        ("ff", task_success("a") & task_failed("b"), RULE_NOT_MET),
        ("fu", task_success("a") & task_skipped("b"), DEPENDENCY_FAILED),
        ("fu", any_of(task_success("a"), task_success("b")), DEPENDENCY_FAILED),
        ("fc", any_of(task_success("a"), task_success("b")), RUNS),
        ("c", ~task_success("a"), RULE_NOT_MET),
        ("f", none_of(task_success("a")), RUNS),
        ("f", none_of(task_failed("a"), HIGH), DEPENDENCY_FAILED),
        ("fc", none_of(task_failed("a"), task_success("b")), RULE_NOT_MET),
        ("e", task_success("a"), DEPENDENCY_FAILED),
    ],
    ids=repr,
)
def test_with_a_rule(ends: str, rule: Condition, expected: Reason | None) -> None:
    assert decided(ends, rule) is expected


def test_a_rule_sees_the_view_of_its_own_task() -> None:
    dag = Dag([Task("a"), Task("b", ("a",), HIGH), Task("c", ("a",), HIGH)])
    standing = Standing(dag, lambda i: {"q": 83 if i == 1 else 80})  # type: ignore[arg-type]
    standing.states[0] = TaskState.COMPLETED
    assert decide(standing, 1) is RUNS
    assert decide(standing, 2) is RULE_NOT_MET


def no_view(i: int) -> Any:
    raise ContextError("conflict", path="q")


def test_a_rule_raises_if_it_needs_a_view_that_cannot_be_built() -> None:
    dag = Dag([Task("a"), Task("b", ("a",), task_success("a") & HIGH)])
    standing = Standing(dag, no_view)  # type: ignore[arg-type]
    standing.states[0] = TaskState.COMPLETED
    with pytest.raises(ContextError, match="conflict"):
        decide(standing, 1)
    standing.states[0] = TaskState.FAILED
    assert decide(standing, 1) is DEPENDENCY_FAILED


def test_a_task_whose_view_cannot_be_built_stands_for_nothing() -> None:
    cases = {
        task_failed("a"): {"a"},
        task_failed("a") & HIGH: set[str](),
        HIGH & task_failed("a"): set[str](),
    }
    for rule, expected in cases.items():
        standing = Standing(Dag([Task("a"), Task("b", ("a",), rule)]), no_view)  # type: ignore[arg-type]
        standing.states[:] = [TaskState.FAILED, TaskState.FAILED]
        assert {standing.dag.ids[i] for i in standing.targets(1)} == expected


FAILED_A = Task("f", ("a",), task_failed("a"))


@pytest.mark.parametrize(
    ("tasks", "fails", "expected"),
    [
        pytest.param([FAILED_A, Task("j", ("a", "f"))], "a", RUNS, id="stood in for"),
        pytest.param([FAILED_A, Task("j", ("a", "f"))], "af", DEPENDENCY_FAILED, id="the stand-in fails"),
        pytest.param(
            [Task("f", ("a",), always()), Task("j", ("a", "f"))], "a", DEPENDENCY_FAILED, id="clean-up is none"
        ),
        pytest.param(
            [Task("f", ("a",), any_of(task_failed("a"), task_success("a"))), Task("j", ("a", "f"))],
            "a", DEPENDENCY_FAILED, id="it would have run anyway",
        ),
        pytest.param(
            [Task("f", ("a",), any_of(task_failed("a"), context_value("no", "not_exists"))), Task("j", ("a", "f"))],
            "a", DEPENDENCY_FAILED, id="with the context as it is, it would have run anyway",
        ),
        pytest.param(
            [Task("f", ("a",), task_failed("a") & context_value("no", "not_exists")), Task("j", ("a", "f"))],
            "a", RUNS, id="a context value besides",
        ),
        pytest.param([Task("f", ("a",), ~task_success("a")), Task("j", ("a", "f"))], "a", RUNS, id="negated success"),
        pytest.param(
            [FAILED_A, Task("e", ("f",)), Task("g", ("e",)), Task("j", ("a", "g"))], "a", RUNS, id="carried on"
        ),
        pytest.param(
            [FAILED_A, Task("e", ("f",)), Task("j", ("a", "e"))], "ae", DEPENDENCY_FAILED, id="carried no further"
        ),
        pytest.param(
            [Task("b", ("a",)), FAILED_A, Task("j", ("b", "f"))], "a", RUNS, id="what the failure broke is added"
        ),
        pytest.param(
            [Task("z"), Task("b", ("a", "z")), FAILED_A, Task("j", ("b", "f"))],
            "az", DEPENDENCY_FAILED, id="not if something else broke it too",
        ),
        pytest.param(
            [Task("z"), Task("b", ("a", "z")), FAILED_A, Task("y", ("z",), task_failed("z")),
             Task("j", ("b", "f", "y"))],
            "az", RUNS, id="a join unites",
        ),
        pytest.param(
            [FAILED_A, Task("g", ("f",), task_failed("f")), Task("j", ("a", "g"))], "af", RUNS,
            id="what a stand-in stood for",
        ),
        pytest.param(
            [Task("b", ("a",)), Task("f", ("b",), task_skipped("b")), Task("j", ("a", "f"))],
            "a", DEPENDENCY_FAILED, id="standing for a skipped task says nothing of what broke it",
        ),
        pytest.param(
            [Task("b", ("a",)), Task("f", ("b",), task_skipped("b")), Task("c", ("b",)), Task("j", ("c", "f"))],
            "a", RUNS, id="but of what that broke in turn",
        ),
        pytest.param(
            [Task("z"), Task("b", ("a",)), Task("f", ("b",), task_skipped("b")), Task("c", ("b", "z")),
             Task("d", ("c",)), Task("j", ("d", "f"))],
            "az", DEPENDENCY_FAILED, id="unless it was broken in another way",
        ),
        pytest.param(
            [Task("z"), Task("b", ("a",)), Task("f", ("b",), task_skipped("b")), Task("c", ("b", "z")),
             Task("k", ("c", "f")), Task("g", ("z",), task_failed("z")), Task("j", ("c", "f", "g"))],
            "az", RUNS, id="and until that has a stand-in, too",
        ),
    ],
)  # fmt: skip
def test_stand_ins(tasks: list[Task], fails: str, expected: Reason | None) -> None:
    standing, _ = play(Dag([Task("a"), *tasks]), frozenset(fails))
    assert standing.reasons[-1] is expected
    assert (standing.states[-1] is TaskState.COMPLETED) is (expected is None)


def test_what_was_answered_stays_true_while_more_tasks_end() -> None:
    # d was broken by a as well, but ends only after j asked what f carries.
    tasks = [
        Task("a"),
        Task("s"),
        FAILED_A,
        Task("d", ("a", "s")),
        Task("j", ("a", "f")),
        Task("k", ("d", "j")),
    ]
    for order in ([0, 1, 2, 3, 4, 5], [0, 2, 4, 1, 3, 5]):
        standing, _ = play(Dag(tasks), frozenset("a"), order=order)
        assert standing.reasons == [None, None, None, DEPENDENCY_FAILED, None, None]


N = 5_000


class Counting(Standing):
    """Counts how often it looks through the dependencies of a task."""

    __slots__ = ("looks",)

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.looks = 0

    def broken_dependencies(self, i: int) -> list[int]:
        self.looks += 1
        return super().broken_dependencies(i)


def chain(first: Task, *more: str, rule: Any = None) -> list[Task]:
    """``first``, and N tasks that each follow the one before, and the tasks ``more`` as well."""
    tasks = [first]
    for i in range(N):
        last = tasks[-1].id
        tasks.append(Task(f"{first.id}{i}", (last, *more), rule and rule(last)))
    return tasks


A, Z = Task("a"), Task("z")
WIDE = [Task(f"w{i}") for i in range(N)]
IDS = tuple(task.id for task in WIDE)
SPARES = [Task(f"s{id}", (id,), task_failed(id)) for id in IDS]
SPARE_CHAIN = chain(A, rule=task_failed)
SKIPPED_B = [A, Task("b", ("a",)), Task("f", ("b",), task_skipped("b"))]


@pytest.mark.parametrize(
    ("tasks", "fails", "expected"),
    [
        pytest.param(chain(A), "a", DEPENDENCY_FAILED, id="chain after a failure"),
        pytest.param([A, FAILED_A, *chain(Task("b", ("a", "f")), "a")], "a", RUNS, id="chain after a stand-in"),
        pytest.param(
            [Z, A, FAILED_A, *chain(Task("b", ("a", "z", "f")), "f")], "az", DEPENDENCY_FAILED, id="half stood in for"
        ),
        pytest.param(
            [A, FAILED_A, *chain(Task("b", ("a",))), Task("j", (f"b{N - 1}", "f"))], "a", RUNS, id="broken chain"
        ),
        pytest.param(
            [Z, *SKIPPED_B, *chain(Task("c", ("z", "b", "f")), "f")], "az", DEPENDENCY_FAILED, id="skipped task carried"
        ),
        pytest.param([*WIDE, Task("j", IDS)], IDS, DEPENDENCY_FAILED, id="fan-in"),
        pytest.param(
            [*WIDE, *SPARES, Task("j", (*IDS, *(task.id for task in SPARES)))], IDS, RUNS, id="fan-in of stand-ins"
        ),
        pytest.param([*WIDE, Task("j", IDS, any_of(*map(task_success, IDS)))], IDS[1:], RUNS, id="fan-in with a rule"),
        pytest.param(
            [*SPARE_CHAIN, Task("j", ("a", SPARE_CHAIN[-1].id))], [task.id for task in SPARE_CHAIN[:-1]], RUNS,
            id="stand-ins for stand-ins",
        ),
    ],
)  # fmt: skip
def test_deep_and_wide_dags_take_few_steps(tasks: list[Task], fails: Any, expected: Reason | None) -> None:
    standing, _ = play(Dag(tasks), frozenset(fails), make=Counting)
    assert standing.reasons[-1] is expected
    assert standing.looks <= 8 * len(tasks)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("fail", "stood_for", "expected"),
    [
        (["f"], ["f"], RUNS),
        (["e", "f"], ["e", "f"], RUNS),
        (["e", "f"], ["f"], DEPENDENCY_FAILED),
        (["e", "f"], ["e"], DEPENDENCY_FAILED),
    ],
)
def test_a_skipped_task_is_covered_if_all_that_broke_it_are(
    fail: list[str], stood_for: list[str], expected: Reason | None
) -> None:
    """s is skipped because of those that failed; those that stand in for some of them, and s, come before it."""
    ids = ["x", "e", "f"]
    tasks = [*(Task(id) for id in ids), Task("s", ("e", "f"))]
    tasks += [Task(f"r{id}", (id,), task_failed(id)) for id in stood_for]
    standing = Standing(Dag([*tasks, Task("it", ("s", *(f"r{id}" for id in stood_for)))]), lambda i: {})  # type: ignore[arg-type]
    for i in range(len(tasks)):
        failed, skipped = tasks[i].id in fail, tasks[i].id == "s"
        standing.states[i], standing.reasons[i] = ENDS["f" if failed else "d" if skipped else "c"]
    assert decide(standing, len(tasks)) is expected


@pytest.mark.parametrize(("fails", "expected"), [("f", RUNS), ("ef", DEPENDENCY_FAILED)])
def test_every_way_up_from_a_skipped_task_must_be_covered(fails: str, expected: Reason | None) -> None:
    """r stands in for s, which f broke; t was skipped because of s, and of e if that failed too."""
    tasks = [
        Task("e"),
        Task("f"),
        Task("s", ("f",)),
        Task("t", ("e", "s")),
        Task("r", ("s",), task_skipped("s")),
    ]
    standing = Standing(Dag([*tasks, Task("it", ("r", "t"))]), lambda i: {})  # type: ignore[arg-type]
    for i, task in enumerate(tasks):
        standing.states[i], standing.reasons[i] = ENDS[
            "f" if task.id in fails else "d" if task.id in "st" else "c"
        ]
    assert decide(standing, len(tasks)) is expected


def test_whether_a_task_stands_in_is_asked_with_its_own_view() -> None:
    rule = task_failed("f") & context_value("n", "==", 1)
    dag = Dag([Task("f"), Task("r", ("f",), rule), Task("it", ("f", "r"))])
    standing = Standing(dag, {1: {"n": 1}}.__getitem__)  # type: ignore[arg-type]
    for i, end in enumerate("fc"):
        standing.states[i], standing.reasons[i] = ENDS[end]
    assert decide(standing, 2) is RUNS


def test_a_way_up_that_is_covered_says_nothing_of_the_others() -> None:
    """t was skipped because of e, s and u. For f, which broke s and u, there is a stand-in, and for s; none for e."""
    tasks = [Task("e"), Task("f"), Task("s", ("f",)), Task("u", ("f",)), Task("t", ("e", "s", "u"))]
    tasks += [Task("rf", ("f",), task_failed("f")), Task("rs", ("s",), task_skipped("s"))]
    standing = Standing(Dag([*tasks, Task("it", ("rf", "rs", "t"))]), lambda i: {})  # type: ignore[arg-type]
    for i, task in enumerate(tasks):
        standing.states[i], standing.reasons[i] = ENDS[
            "f" if task.id in "ef" else "d" if task.id in "stu" else "c"
        ]
    assert decide(standing, len(tasks)) is DEPENDENCY_FAILED
