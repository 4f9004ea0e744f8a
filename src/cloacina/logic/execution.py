"""The state of one execution in memory, and what follows when one of its tasks ends.

One driver owns it. It holds the states of all tasks by canonical index, what each Completed task changed in
the context, and how many dependencies of each task are still open. Ending a task decides every task whose
last open dependency it was: it becomes ready, or it is skipped, which may decide others in turn.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from cloacina.errors import ContextError, StoreRefused
from cloacina.logic.delays import Failure, delay, should_retry
from cloacina.logic.outcome import Outcome, outcome
from cloacina.logic.readiness import decide
from cloacina.logic.standing import Standing
from cloacina.logic.views import Views
from cloacina.model.dag.dag import Dag
from cloacina.model.json.patch import Patch
from cloacina.model.json.values import Limits
from cloacina.model.status import AttemptState, Reason, TaskState, check_move
from cloacina.model.workflow import Workflow

SUSPECT_AFTER = 2
"""Crashes in a row after which a task runs alone."""


@dataclass(frozen=True, slots=True)
class Ruling:
    """A task that ended without running."""

    index: int
    state: TaskState
    reason: Reason
    error: ContextError | None = None


class Past(NamedTuple):
    """One stored attempt, as far as deciding needs it."""

    task: str
    attempt: int
    state: AttemptState
    retry_at: int | None
    patch: Patch | None
    reason: Reason | None
    suspect: bool


@dataclass(slots=True)
class Consequences:
    """What followed from tasks that ended: those that can start, and those that never will."""

    ready: list[int]
    rulings: list[Ruling]


class ExecutionState:
    """All tasks of one execution: see the module's text."""

    __slots__ = (
        "_open",
        "_setbacks",
        "_workflow",
        "attempts",
        "cut_short",
        "dag",
        "live",
        "standing",
        "views",
    )

    def __init__(self, workflow: Workflow, limits: Limits) -> None:
        dag = workflow.dag
        self.dag: Dag = dag
        self.views = Views(workflow, limits)
        self.standing = Standing(dag, self.views.of)
        self.live = len(dag.tasks)
        """How many tasks have not ended."""
        self.cut_short = False
        """True if the execution was ended before its tasks were."""
        self.attempts = [0] * self.live
        """The number of each task's last attempt."""
        self._setbacks: Setbacks | None = None
        self._workflow = workflow
        self._open = [len(needed) for needed in dag.dependencies]

    def begin(self) -> Consequences:
        """Decide the tasks that depend on nothing."""
        found = Consequences([], [])
        ended: list[int] = []
        for index, needed in enumerate(self.dag.dependencies):
            if not needed:
                self._decide(index, found, ended)
        self._cascade(ended, found)
        return found

    def restore(self, past: Iterable[Past]) -> Consequences:
        """Take over what was stored, and decide what can go on from there."""
        for row in past:
            self._recall(self.dag.index[row.task], row)
        found = Consequences([], [])
        for index, state in enumerate(self.standing.states):
            if state.terminal:
                self.live -= 1
                for dependent in self.dag.dependents[index]:
                    self._open[dependent] -= 1
        ended: list[int] = []
        for index, state in enumerate(self.standing.states):
            if state is TaskState.PENDING and not self._open[index]:
                self._decide(index, found, ended)
        self._cascade(ended, found)
        return found

    def start(self, index: int) -> int:
        """Record that a task's next attempt starts; return the attempt's number."""
        states = self.standing.states
        states[index] = check_move(states[index], TaskState.RUNNING)
        if self._setbacks is not None:
            self._setbacks.due.pop(index, None)
        self.attempts[index] += 1
        return self.attempts[index]

    def fail(self, index: int, error: BaseException | Failure | None, draw: float) -> float | None:
        """Count a failed attempt; return the seconds to the next one, or None if there is none.

        ``draw`` is a random number in [0, 1) for the jitter.
        """
        failures = self.setbacks.fail(index)
        policy = self._workflow.policies[index]
        if error is None or isinstance(error, StoreRefused) or not should_retry(policy, error, failures):
            return None
        return delay(policy, failures, draw)

    def wait(self, index: int, due: int) -> None:
        """Record that a running task's attempt failed, and that it is tried again at ``due``."""
        states = self.standing.states
        states[index] = check_move(states[index], TaskState.WAITING)
        self.setbacks.due[index] = due

    def defer(self, index: int) -> None:
        """Record that a running task's attempt is deferred: it waits, but for no retry."""
        states = self.standing.states
        states[index] = check_move(states[index], TaskState.WAITING)

    def interrupt(self, index: int) -> None:
        """Record that a running task's attempt came to nothing, and that this counts against nobody."""
        states = self.standing.states
        states[index] = check_move(states[index], TaskState.PENDING)

    def go_on(self, index: int) -> None:
        """Record that a deferred attempt runs again."""
        states = self.standing.states
        states[index] = check_move(states[index], TaskState.RUNNING)

    def end(self, index: int, state: TaskState, found: Consequences, patch: Patch | None = None) -> None:
        """Record that a task ended, and add to ``found`` what follows."""
        if patch:
            self.views.patches[index] = patch
        states = self.standing.states
        states[index] = check_move(states[index], state)
        self._cascade([index], found)

    def close(self, reason: Reason) -> list[Ruling]:
        """End every task that has not ended, because the execution itself ends; running ones included."""
        rulings: list[Ruling] = []
        for index, state in enumerate(self.standing.states):
            if not state.terminal:
                touched = self.attempts[index] > 0
                after = TaskState.CANCELLED if touched else TaskState.SKIPPED
                rulings.append(Ruling(index, after, reason))
                self.standing.states[index] = after
                self.standing.reasons[index] = reason
        self.live = 0
        self.cut_short = True
        return rulings

    def outcome(self) -> Outcome:
        """How the execution ends, once every task has."""
        return outcome(self.standing)

    def suspect(self, index: int) -> bool:
        """True if the task crashed its runner so often that it must run alone."""
        return self._setbacks is not None and self._setbacks.crashes.get(index, 0) >= SUSPECT_AFTER

    def suspected(self, index: int) -> int:
        """How often in a row the task crashed its runner while it ran alone."""
        return 0 if self._setbacks is None else self._setbacks.suspected.get(index, 0)

    @property
    def due(self) -> dict[int, int]:
        """When each waiting task's retry is due, in microseconds."""
        return {} if self._setbacks is None else self._setbacks.due

    @property
    def setbacks(self) -> Setbacks:
        """What went wrong so far; made when it is first asked for."""
        if self._setbacks is None:
            self._setbacks = Setbacks()
        return self._setbacks

    def _cascade(self, ended: list[int], found: Consequences) -> None:
        dependents = self.dag.dependents
        while ended:
            index = ended.pop()
            self.live -= 1
            self.views.ended(index, last=not self.live)
            for dependent in dependents[index]:
                self._open[dependent] -= 1
                if not self._open[dependent]:
                    self._decide(dependent, found, ended)

    def _decide(self, index: int, found: Consequences, ended: list[int]) -> None:
        try:
            reason = decide(self.standing, index)
        except ContextError as error:
            ruling = Ruling(index, TaskState.FAILED, Reason.CONTEXT, error)
        else:
            if reason is None:
                found.ready.append(index)
                return
            ruling = Ruling(index, TaskState.SKIPPED, reason)
        self.standing.states[index] = ruling.state
        self.standing.reasons[index] = ruling.reason
        found.rulings.append(ruling)
        ended.append(index)

    def _recall(self, index: int, row: Past) -> None:
        self.attempts[index] = row.attempt
        self.standing.states[index] = _TASK_STATE.get(row.state, TaskState.PENDING)
        if row.state not in _ORDINARY:
            self.setbacks.recall(index, row)
        elif self._setbacks is not None:
            self._setbacks.due.pop(index, None)
        if row.retry_at is not None:
            self.standing.states[index] = TaskState.WAITING
        if row.state is AttemptState.SKIPPED:
            self.standing.reasons[index] = row.reason
        if row.patch:
            self.views.patches[index] = row.patch


class Setbacks:
    """What went wrong in an execution so far, by task. Most executions have none."""

    __slots__ = ("crashes", "due", "failures", "suspected")

    def __init__(self) -> None:
        self.failures: dict[int, int] = {}
        """Failed and timed-out attempts: only these count against a retry policy."""
        self.crashes: dict[int, int] = {}
        """Crashes in a row."""
        self.suspected: dict[int, int] = {}
        """Crashes in a row while the task ran as a suspect."""
        self.due: dict[int, int] = {}
        """When the retry of a waiting task is due, in microseconds."""

    def recall(self, index: int, row: Past) -> None:
        """Count a stored attempt. Interruptions that were no crash neither count nor end a row of crashes."""
        self.due.pop(index, None)
        if row.state is AttemptState.INTERRUPTED:
            if row.reason is Reason.CRASH:
                self.crashes[index] = self.crashes.get(index, 0) + 1
                self.suspected[index] = self.suspected.get(index, 0) + int(row.suspect)
            return
        if row.state in (AttemptState.FAILED, AttemptState.TIMED_OUT):
            self.fail(index)
        if row.retry_at is not None:
            self.due[index] = row.retry_at

    def fail(self, index: int) -> int:
        """Count a failed attempt, which ends a row of crashes; return how many there were."""
        self.crashes.pop(index, None)
        self.suspected.pop(index, None)
        self.failures[index] = failures = self.failures.get(index, 0) + 1
        return failures


_ORDINARY = frozenset(
    {
        AttemptState.COMPLETED,
        AttemptState.SKIPPED,
        AttemptState.RUNNING,
        AttemptState.DEFERRED,
        AttemptState.CANCELLED,
    }
)
_TASK_STATE = {
    AttemptState.RUNNING: TaskState.RUNNING,
    AttemptState.DEFERRED: TaskState.WAITING,
    AttemptState.COMPLETED: TaskState.COMPLETED,
    AttemptState.FAILED: TaskState.FAILED,
    AttemptState.TIMED_OUT: TaskState.FAILED,
    AttemptState.SKIPPED: TaskState.SKIPPED,
    AttemptState.CANCELLED: TaskState.CANCELLED,
}
