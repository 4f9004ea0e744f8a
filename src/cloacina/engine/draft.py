"""The draft of an execution: its next item, and the same facts as the history that its result tells.

The driver decides; the draft writes down. One draft lives as long as its driver, and hands out one item
after the other.
"""

from __future__ import annotations

from collections.abc import Iterable

from cloacina.engine.executors.attempt import Attempt, describe
from cloacina.engine.records import History, error_text
from cloacina.logic.execution import ExecutionState, Ruling
from cloacina.model.dag import Dag
from cloacina.model.result import ErrorInfo
from cloacina.model.status import AttemptState, ExecutionStatus, Reason, TaskState
from cloacina.store.rows import (
    AttemptEnd,
    AttemptStart,
    Event,
    Item,
    NewExecution,
    Progress,
    StoredExecution,
    Verdict,
)

Told = tuple[int, TaskState, ErrorInfo | None]


class Draft:
    """See the module's text. ``row`` is the execution as the store has it once the item is committed."""

    __slots__ = ("_dag", "_runner", "history", "item", "row", "told")

    def __init__(self, row: StoredExecution, runner: str, dag: Dag) -> None:
        self.row = row
        self.history = History()
        self.item = Item(row.id)
        self.told: list[Told] = []
        """Tasks that end for good with this item."""
        self._runner = runner
        self._dag = dag

    def hand_out(self) -> Item | None:
        """The item, if there is anything in it."""
        return self.item if self.item.rows else None

    def clear(self) -> list[Told]:
        """Begin the next item; return the tasks that the last one ended."""
        told, self.told = self.told, []
        self.item = Item(self.row.id)
        return told

    def load(self, stored: StoredExecution, dag: Dag) -> None:
        """Begin again from what is stored."""
        self.row = stored
        self.history = History()
        self.history.load(stored.attempts, dag.index)
        self.clear()

    def create(self, new: NewExecution) -> None:
        """The execution is new."""
        self.item.new = new

    def start(self, attempt: Attempt) -> None:
        """An attempt starts; with the first one, so does the execution."""
        row = AttemptStart(
            attempt.execution,
            attempt.task,
            attempt.attempt,
            self._runner,
            attempt.started,
            int(attempt.suspect),
        )
        self.item.starts.append(row)
        if self.row.started is None:
            self._begin(attempt.started)

    def end(
        self,
        attempt: Attempt,
        state: AttemptState,
        now: int,
        *,
        retry_at: int | None = None,
        delta: str | None = None,
        error: ErrorInfo | None = None,
        reason: Reason | None = None,
    ) -> None:
        """A running attempt ends."""
        row = AttemptEnd(
            attempt.execution,
            attempt.task,
            attempt.attempt,
            state,
            now,
            retry_at,
            delta,
            error_text(error),
            reason,
        )
        self.item.ends.append(row)
        self.history.end(attempt.index, row, attempt)
        if retry_at is None and state is not AttemptState.CANCELLED:
            self.told.append((attempt.index, _TASK_STATE[state], error))

    def rule(self, ruling: Ruling, last: int, now: int, error: ErrorInfo | None = None) -> None:
        """A task ends without running; ``last`` is the number of its last attempt, 0 if there was none."""
        info = error or (describe(ruling.error) if ruling.error is not None else None)
        verdict = Verdict(
            self.row.id,
            self._dag.ids[ruling.index],
            last + 1 if last else 0,
            _ATTEMPT_STATE[ruling.state],
            now,
            ruling.reason,
            error_text(info),
        )
        self.item.verdicts.append(verdict)
        self.history.rule(ruling.index, verdict)
        self.told.append((ruling.index, ruling.state, info))

    def finish(self, status: ExecutionStatus, result: str, error: str | None, now: int) -> None:
        """The execution ends."""
        cut = error_text(error)
        self.row = self.row._replace(
            status=status, owner=None, result=result, error=cut, finished=now, wake_at=None
        )
        self.item.progress = Progress(
            self.row.id, self._runner, status, None, self.row.started, now, None, result, cut
        )

    def park(self, error: str, now: int) -> None:
        """The execution is set aside, with a reason that its reader can see."""
        self.clear()
        cut = error_text(error)
        status = ExecutionStatus.PARKED
        self.row = self.row._replace(status=status, owner=None, error=cut)
        self.item.progress = Progress(self.row.id, self._runner, status, None, error=cut)
        self.item.events.append(Event(self.row.id, now, "parked", cut or ""))

    def give_up(self, wake_at: int) -> None:
        """The execution is stored away, without owner, until ``wake_at``."""
        self.row = self.row._replace(owner=None, wake_at=wake_at)
        self.item.progress = Progress(self.row.id, self._runner, self.row.status, None, wake_at=wake_at)

    @property
    def gives_up(self) -> bool:
        """True if the item ends the runner's ownership: the execution ended, was parked or stored away."""
        return self.item.progress is not None and self.item.progress.next_owner is None

    def why_failed(self, tasks: Iterable[int]) -> str | None:
        """Why an execution failed, in one line, from the tasks that broke it."""
        told = [self.history.why(index, self._dag.ids[index]) for index in tasks]
        more = f"; and {len(told) - 3} more" if len(told) > 3 else ""
        return "; ".join(told[:3]) + more if told else None

    def _begin(self, now: int) -> None:
        status = ExecutionStatus.RUNNING
        self.row = self.row._replace(status=status, started=now)
        if self.item.new is not None:
            self.item.new = self.item.new._replace(status=status, started=now)
        else:
            self.item.progress = Progress(self.row.id, self._runner, status, self._runner, now)


def poisoned(state: ExecutionState, index: int) -> ErrorInfo:
    """The error of a task that crashed its process too often."""
    return ErrorInfo(
        "cloacina.poisoned",
        f"task {state.dag.ids[index]!r} crashed its process {state.suspected[index]} times while no other "
        "suspect ran; it is not tried again",
    )


_TASK_STATE = {
    AttemptState.COMPLETED: TaskState.COMPLETED,
    AttemptState.FAILED: TaskState.FAILED,
    AttemptState.TIMED_OUT: TaskState.FAILED,
}
_ATTEMPT_STATE = {
    TaskState.SKIPPED: AttemptState.SKIPPED,
    TaskState.FAILED: AttemptState.FAILED,
    TaskState.CANCELLED: AttemptState.CANCELLED,
}
