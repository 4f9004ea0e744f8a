"""The state of one execution in memory: what follows when tasks end, and what is taken over from the store."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from cloacina.errors import ContextError, ExecutionError, PermanentError, StoreRefused
from cloacina.logic.execution import Consequences, ExecutionState, Past
from cloacina.logic.views import Views
from cloacina.model.context.context import Context
from cloacina.model.context.keys import Key
from cloacina.model.json.patch import Patch
from cloacina.model.json.values import Limits
from cloacina.model.retry import RetryPolicy
from cloacina.model.rules import context_value, task_failed
from cloacina.model.status import AttemptState, ExecutionStatus, Reason, TaskState
from cloacina.model.task import Task, task
from cloacina.model.workflow import Workflow

COMPLETED, FAILED, SKIPPED = TaskState.COMPLETED, TaskState.FAILED, TaskState.SKIPPED


async def body(ctx: Context) -> None: ...


def step(id: str, *after: str, **options: Any) -> Task:
    return task(body, id=id, dependencies=after, **options)


def state(
    *tasks: Task, input: dict[str, Any] | None = None, limits: Limits | None = None, **options: Any
) -> ExecutionState:
    made = ExecutionState(Workflow("w", tasks, **options), limits or Limits())
    made.views.input = input or {}
    return made


DIAMOND = (step("a"), step("b", "a"), step("c", "a"), step("d", "b", "c"))


class Play:
    """An execution whose tasks a test ends by their ids."""

    def __init__(self, of: ExecutionState) -> None:
        self.of = of
        self.ids = of.dag.ids

    def begin(self) -> list[str]:
        return self._told(self.of.begin())

    def end(self, id: str, state: TaskState = COMPLETED, patch: Patch | None = None) -> list[str]:
        index = self.of.dag.index[id]
        self.of.start(index)
        found = Consequences([], [])
        self.of.end(index, state, found, patch)
        return self._told(found)

    def view(self, id: str) -> dict[str, Any]:
        return self.of.views.of(self.of.dag.index[id])

    def _told(self, found: Consequences) -> list[str]:
        """What is ready, and what was skipped or failed, with its reason."""
        ruled = [f"{self.ids[ruling.index]}: {ruling.reason}" for ruling in found.rulings]
        return sorted([*(self.ids[index] for index in found.ready), *ruled])


def test_tasks_become_ready_as_their_dependencies_end() -> None:
    play = Play(state(*DIAMOND))
    assert play.begin() == ["a"]
    assert play.end("a") == ["b", "c"]
    assert play.end("b") == []
    assert play.end("c") == ["d"]
    assert play.end("d") == []
    assert (play.of.live, play.of.outcome().status) == (0, ExecutionStatus.COMPLETED)


def test_a_failure_cascades_at_once() -> None:
    play = Play(state(step("a"), *(step(f"t{n}", f"t{n - 1}" if n else "a") for n in range(2000))))
    play.begin()
    assert len(play.end("a", FAILED)) == 2000
    assert (play.of.live, play.of.outcome().status) == (0, ExecutionStatus.FAILED)


def test_a_rule_that_needs_a_view_that_cannot_be_built_fails_its_task() -> None:
    def refuse(current: int, new: int) -> int:
        raise ArithmeticError

    rule = task_failed("a") | context_value("n", ">", 0)
    play = Play(
        state(
            step("a"), step("b"), step("c", "a", "b", trigger_rules=rule), keys=[Key("n", int, merge=refuse)]
        )
    )
    play.begin()
    play.end("a", patch={"set": {"n": 1}})
    assert play.end("b", patch={"set": {"n": 2}}) == ["c: context"]
    assert play.of.standing.states[2] is FAILED


@pytest.mark.parametrize("after", [TaskState.RUNNING, TaskState.SKIPPED])
def test_an_illegal_move_raises(after: TaskState) -> None:
    play = Play(state(*DIAMOND))
    play.begin()
    play.of.start(0)
    with pytest.raises(ExecutionError, match="illegal move"):
        play.of.end(0, after, Consequences([], []))
    with pytest.raises(ExecutionError):
        play.of.start(0)


# Views.


def test_views_follow_the_branches() -> None:
    play = Play(state(*DIAMOND, input={"i": 0}))
    play.begin()
    assert play.view("a") == {"i": 0}
    play.end("a", patch={"set": {"a": 1}})
    assert play.view("b") == play.view("c") == {"i": 0, "a": 1}
    play.end("c", patch={"set": {"c": 3, "who": "c"}})
    play.end("b", patch={"set": {"b": 2, "who": "b"}})
    assert play.view("d") == {"i": 0, "a": 1, "b": 2, "c": 3, "who": "c"}
    play.end("d", patch={"remove": ["i"]})
    assert play.of.views.result() == {"a": 1, "b": 2, "c": 3, "who": "c"}


def test_the_result_unites_branches_that_never_meet() -> None:
    play = Play(state(step("a"), step("b"), input={"list": []}))
    play.begin()
    play.end("b", patch={"append": {"list": ["b"]}})
    play.end("a", patch={"append": {"list": ["a"]}})
    assert play.of.views.result() == {"list": ["a", "b"]}


def test_a_failed_task_changes_nothing() -> None:
    play = Play(state(step("a"), step("b", "a", trigger_rules=task_failed("a")), input={"i": 0}))
    play.begin()
    assert play.end("a", FAILED) == ["b"]
    assert play.view("b") == {"i": 0}


def count_folds(of: ExecutionState, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of patches in each call that applies some."""
    folds: list[int] = []
    real = Views._fold

    def counted(self: Views, base: dict[str, Any], patches: list[Any]) -> dict[str, Any]:
        folds.append(len(patches))
        return real(self, base, patches)

    monkeypatch.setattr(Views, "_fold", counted)
    return folds


@pytest.mark.parametrize("fan", [1, 3])
def test_a_long_chain_applies_each_patch_once(fan: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cost of a step does not grow with the steps before it."""
    tasks = [step("a")]
    for branch in range(fan):
        tasks += [step(f"{branch}.{n}", f"{branch}.{n - 1}" if n else "a") for n in range(100)]
    play = Play(state(*tasks, input={"n": 0}))
    folds = count_folds(play.of, monkeypatch)
    play.begin()
    play.end("a", patch={"set": {"a": True}})
    for n in range(100):
        for branch in range(fan):
            assert play.view(f"{branch}.{n}")["n"] == n
            play.end(f"{branch}.{n}", patch={"set": {"n": n + 1}})
    assert len(folds) <= fan * 101
    assert play.of.views.result()["n"] == 100


def test_views_are_not_kept_longer_than_somebody_needs_them() -> None:
    play = Play(state(*(step(f"t{n}", *([f"t{n - 1}"] if n else [])) for n in range(50))))
    play.begin()
    for n in range(50):
        play.view(f"t{n}")
        play.end(f"t{n}", patch={"set": {"n": n}})
        assert len(play.of.views._after) + len(play.of.views._before) <= 3


def test_a_view_that_is_too_large_is_refused_each_time() -> None:
    play = Play(state(step("a"), step("b", "a"), limits=Limits(context_bytes=100)))
    play.begin()
    play.end("a", patch={"set": {"a": "x" * 200}})
    for _ in range(2):
        with pytest.raises(ContextError, match="over the limit of 100"):
            play.view("b")
    with pytest.raises(ContextError):
        play.of.views.result()


def test_a_conflict_names_the_tasks() -> None:
    play = Play(state(step("a"), step("b"), step("c", "a", "b"), on_conflict="error"))
    play.begin()
    play.end("a", patch={"set": {"n": 1}})
    play.end("b", patch={"set": {"n": 2}})
    with pytest.raises(ContextError, match="the tasks 'a' and 'b' both wrote n"):
        play.view("c")


# Retries.


@pytest.mark.parametrize(
    ("error", "waits"),
    [
        (ValueError(), [2.0, 4.0, None]),
        (PermanentError(), [None]),
        (StoreRefused("no"), [None]),
        (SystemExit(), [None]),
        (None, [None]),
    ],
)
def test_failures_count_up_to_the_policy(error: BaseException | None, waits: list[float | None]) -> None:
    of = state(step("a", retry=RetryPolicy(max_attempts=3, initial_delay=2, jitter=0)))
    of.begin()
    found = []
    for _ in waits:
        of.start(0)
        wait = of.fail(0, error, 0.5)
        found.append(wait)
        if wait is not None:
            of.wait(0, 7)
            assert (of.due, of.standing.states[0]) == ({0: 7}, TaskState.WAITING)
    assert found == waits
    assert of.attempts[0] == len(waits)


def test_a_start_ends_the_wait() -> None:
    of = state(step("a"))
    of.begin()
    of.start(0)
    of.fail(0, ValueError(), 0.5)
    of.wait(0, 7)
    of.start(0)
    assert (of.due, of.attempts[0]) == ({}, 2)


# The end from above.


def test_a_deferred_task_waits_for_no_retry() -> None:
    of = state(step("a"))
    of.begin()
    assert of.start(0) == 1
    of.defer(0)
    assert (of.standing.states[0], of.due) == (TaskState.WAITING, {})
    of.go_on(0)
    assert (of.standing.states[0], of.attempts[0]) == (TaskState.RUNNING, 1)
    with pytest.raises(ExecutionError, match="illegal move"):
        of.go_on(0)


def test_closing_ends_everything_that_has_not_ended() -> None:
    play = Play(state(*DIAMOND, step("w")))
    play.begin()
    play.end("a")
    play.of.start(play.of.dag.index["b"])
    waiting = play.of.dag.index["w"]
    play.of.start(waiting)
    play.of.fail(waiting, ValueError(), 0.5)
    play.of.wait(waiting, 7)
    rulings = {play.ids[ruling.index]: ruling for ruling in play.of.close(Reason.CANCELLED)}
    assert {id: ruling.state for id, ruling in rulings.items()} == {
        "b": TaskState.CANCELLED, "w": TaskState.CANCELLED, "c": SKIPPED, "d": SKIPPED,
    }  # fmt: skip
    assert {ruling.reason for ruling in rulings.values()} == {Reason.CANCELLED}
    assert (play.of.live, play.of.cut_short, play.of.close(Reason.CANCELLED)) == (0, True, [])


# What is taken over from the store.


def past(id: str, attempt: int, state: str, **changes: Any) -> Past:
    row = Past(id, attempt, AttemptState(state), None, None, None, False)
    return row._replace(**changes)


CRASH = {"reason": Reason.CRASH}
RESTORED: dict[str, tuple[list[Past], list[str]]] = {
    "nothing": ([], ["a"]),
    "a first step": ([past("a", 1, "completed")], ["b", "c"]),
    "interrupted": ([past("a", 1, "interrupted", **CRASH)], ["a"]),
    "interrupted after a wait": (
        [past("a", 1, "failed", retry_at=5), past("a", 2, "interrupted", **CRASH)],
        ["a"],
    ),
    "waiting": ([past("a", 1, "failed", retry_at=5)], []),
    "running": ([past("a", 1, "running")], []),
    "deferred": ([past("a", 1, "deferred")], []),
    "completed after a wait": (
        [past("a", 1, "failed", retry_at=5), past("a", 2, "completed")],
        ["b", "c"],
    ),
    "half of a diamond": ([past("a", 1, "completed"), past("b", 1, "completed")], ["c"]),
    "failed": ([past("a", 1, "failed")], ["b: dependency_failed", "c: dependency_failed", "d: dependency_failed"]),
    "timed out": (
        [past("a", 1, "timed_out"), *(past(id, 0, "skipped", reason=Reason.DEPENDENCY_FAILED) for id in "bcd")],
        [],
    ),
    "skipped by its rule": (
        [past("a", 1, "completed"), *(past(id, 0, "skipped", reason=Reason.RULE_NOT_MET) for id in "bc")],
        ["d: dependencies_skipped"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", RESTORED)
def test_a_stored_execution_goes_on_where_it_was(what: str) -> None:
    rows, expected = RESTORED[what]
    play = Play(state(*DIAMOND))
    assert play._told(play.of.restore(rows)) == expected
    ended = sum(state.terminal for state in play.of.standing.states)
    assert play.of.live == 4 - ended


@pytest.mark.parametrize(
    ("rows", "due"),
    [
        ([past("a", 1, "failed", retry_at=5)], {0: 5}),
        ([past("a", 1, "timed_out", retry_at=5)], {0: 5}),
        ([past("a", 1, "failed", retry_at=5), past("a", 2, "failed", retry_at=9)], {0: 9}),
        ([past("a", 1, "failed", retry_at=5), past("a", 2, "running")], {}),
        ([past("a", 1, "failed", retry_at=5), past("a", 2, "deferred")], {}),
        ([past("a", 1, "failed", retry_at=5), past("a", 2, "completed")], {}),
        ([past("a", 1, "failed", retry_at=5), past("a", 2, "interrupted", **CRASH)], {}),
        ([past("a", 1, "failed", retry_at=5), past("a", 2, "cancelled")], {}),
        ([past("a", 1, "completed"), past("b", 1, "failed", retry_at=5)], {1: 5}),
    ],
)
def test_only_what_waits_now_is_due(rows: list[Past], due: dict[int, int]) -> None:
    of = state(*DIAMOND)
    of.restore(rows)
    assert of.due == due


def test_failures_of_the_past_count() -> None:
    of = state(step("a", retry=RetryPolicy(max_attempts=4, initial_delay=1, jitter=0)))
    of.restore(
        [
            past("a", 1, "failed", retry_at=1),
            past("a", 2, "interrupted", **CRASH),
            past("a", 3, "timed_out", retry_at=2),
            past("a", 4, "interrupted", reason=Reason.SHUTDOWN),
        ]
    )
    assert of.start(0) == 5
    assert of.fail(0, ValueError(), 0.5) == 4.0
    of.wait(0, 9)
    assert of.start(0) == 6
    assert of.fail(0, ValueError(), 0.5) is None


def test_changes_of_the_past_are_seen() -> None:
    play = Play(state(*DIAMOND, input={"i": 0}))
    play.of.restore(
        [
            past("a", 1, "completed", patch={"set": {"a": 1}}),
            past("b", 2, "completed", patch={"remove": ["i"]}),
        ]
    )
    assert play.view("c") == {"i": 0, "a": 1}
    play.end("c", patch={"set": {"c": 3}})
    assert play.view("d") == {"a": 1, "c": 3}


def crashes(*suspect: bool, between: Sequence[Past] = ()) -> list[Past]:
    rows = [past("a", n, "interrupted", suspect=was, **CRASH) for n, was in enumerate(suspect, 1)]
    return [*rows, *between]


@pytest.mark.parametrize(
    ("rows", "suspect", "counted"),
    [
        ([], False, 0),
        (crashes(False), False, 0),
        (crashes(False, False), True, 0),
        (crashes(False, False, True, True), True, 2),
        (crashes(False, between=[past("a", 2, "interrupted", reason=Reason.SHUTDOWN)]), False, 0),
        (crashes(False, False, between=[past("a", 3, "interrupted", reason=Reason.LOST_LEASE, suspect=True)]), True, 0),
        (crashes(False, between=[past("a", 2, "interrupted", reason=Reason.DEFERRED)]), False, 0),
        (crashes(False, False, between=[past("a", 3, "interrupted", reason=Reason.DEFERRED, suspect=True)]), True, 0),
        (crashes(False, False, True, between=[past("a", 4, "failed", retry_at=5)]), False, 0),
        (crashes(False, False, True, between=[past("a", 4, "timed_out", retry_at=5)]), False, 0),
    ],
)  # fmt: skip
def test_who_is_a_suspect(rows: list[Past], suspect: bool, counted: int) -> None:
    of = state(step("a"))
    of.restore(rows)
    assert (of.suspect(0), of.suspected(0)) == (suspect, counted)


def test_a_failure_ends_a_row_of_crashes() -> None:
    of = state(step("a"))
    of.restore(crashes(False, False, True))
    assert of.suspect(0)
    of.start(0)
    of.fail(0, ValueError(), 0.5)
    of.wait(0, 7)
    assert (of.suspect(0), of.suspected(0)) == (False, 0)


def test_an_unknown_task_is_refused() -> None:
    with pytest.raises(KeyError):
        state(*DIAMOND).restore([past("nobody", 1, "completed")])


def test_an_interrupted_attempt_counts_against_nobody() -> None:
    of = state(step("a", retry=RetryPolicy(max_attempts=1)))
    of.begin()
    of.start(0)
    of.interrupt(0)
    assert of.standing.states[0] is TaskState.PENDING
    assert (of.start(0), of.suspect(0), of.suspected(0)) == (2, False, 0)
    with pytest.raises(ExecutionError, match="illegal move"):
        of.end(0, TaskState.RUNNING, Consequences([], []))


def test_why_a_task_was_skipped_is_taken_over_too() -> None:
    """A task that was skipped because of a failure breaks those after it; one whose rule did not hold does not."""
    for reason, ruling in (
        (Reason.DEPENDENCY_FAILED, "c: dependency_failed"),
        (Reason.RULE_NOT_MET, "c: dependencies_skipped"),
    ):
        play = Play(state(step("a"), step("b", "a"), step("c", "b")))
        past_rows = [past("a", 1, "completed"), past("b", 0, "skipped", reason=reason)]
        assert play._told(play.of.restore(past_rows)) == [ruling]
        assert (play.of.standing.reasons[0], play.of.standing.reasons[1]) == (None, reason)


def test_an_execution_is_cut_short_only_by_closing() -> None:
    of = state(*DIAMOND)
    of.begin()
    assert of.cut_short is False
    of.close(Reason.CANCELLED)
    assert of.cut_short
    assert of.standing.reasons == [Reason.CANCELLED] * 4


def test_a_ruling_tells_the_error_of_the_rule() -> None:
    def refuse(current: int, new: int) -> int:
        raise ArithmeticError

    play = Play(
        state(
            step("a"),
            step("b"),
            step("c", "a", "b", trigger_rules=context_value("n", ">", 0)),
            keys=[Key("n", int, merge=refuse)],
        )
    )
    play.begin()
    play.end("a", patch={"set": {"n": 1}})
    index, found = play.of.dag.index["b"], Consequences([], [])
    play.of.start(index)
    play.of.end(index, COMPLETED, found, {"set": {"n": 2}})
    assert [str(ruling.error) for ruling in found.rulings] == [
        "n cannot be merged: the merge function of Key('n', int) raised ArithmeticError: "
    ]


def test_a_root_whose_rule_does_not_hold_is_decided_at_the_begin() -> None:
    play = Play(state(step("a", trigger_rules=context_value("n", "exists")), step("b", "a")))
    assert play.begin() == ["a: rule_not_met", "b: dependencies_skipped"]
    assert play.of.live == 0
