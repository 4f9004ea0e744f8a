"""The draft of an execution: its next item, and the same facts as the history that its result tells.

The driver decides; the draft writes down. One draft lives as long as its driver, and hands out one item
after the other.
"""

from __future__ import annotations

from collections.abc import Sequence

from cloacina.engine.driving.records import History, error_text
from cloacina.engine.executors.attempt import Attempt, describe
from cloacina.logic.execution import ExecutionState, Ruling
from cloacina.model.dag.dag import Dag
from cloacina.model.result import ErrorInfo
from cloacina.model.status import AttemptState, ExecutionStatus, Reason, TaskState
from cloacina.store.rows import (
    AttemptEnd,
    AttemptStart,
    Checkpoint,
    Event,
    Item,
    NewExecution,
    Progress,
    Shift,
    StoredExecution,
    Verdict,
)

Told = tuple[int, TaskState, ErrorInfo | None]


class Draft:
    """See the module's text."""

    __slots__ = (
        "_dag",
        "_ends",
        "_events",
        "_history",
        "_moved",
        "_new",
        "_obeyed",
        "_origin",
        "_runner",
        "_starts",
        "_told",
        "_verdicts",
        "_wished",
        "progress",
        "rows",
        "started",
        "status",
    )

    def __init__(self, origin: StoredExecution, runner: str, dag: Dag) -> None:
        self.status = origin.status
        """Where the execution stands, or will once the item is committed."""
        self.started = origin.started
        """When its first attempt started, in microseconds."""
        self.progress: Progress | None = None
        """How the runner's ownership ends with this item, if it does."""
        self.rows = 0
        """How many rows the item has so far."""
        self._origin = origin
        self._runner = runner
        self._dag = dag
        self._history = History()
        self._forget()

    def _forget(self) -> None:
        # Lists are made when something is written into them: most drafts need few of them, and the collector
        # walks over every one that is alive.
        self.rows = 0
        self._new = False
        self._starts: list[AttemptStart] | None = None
        self._ends: list[AttemptEnd] | None = None
        self._verdicts: list[Verdict] | None = None
        self._events: list[Event] | None = None
        self._obeyed: list[str] | None = None
        self._wished: tuple[list[Shift], list[Checkpoint]] | None = None
        self._moved: Progress | None = None
        self._told: list[Told] | None = None

    @property
    def input(self) -> str:
        """The execution's input, as it is stored."""
        return self._origin.input

    def hand_out(self) -> Item | None:
        """The item, if there is anything in it."""
        if not self.rows:
            return None
        shifts, checkpoints = self._wished or _NO_WISHES
        return Item(
            self._origin.id,
            self._new_row() if self._new else None,
            self._starts or (),
            self._ends or (),
            self._verdicts or (),
            self._moved,
            self._events or (),
            shifts,
            checkpoints,
            self._obeyed or (),
        )

    def clear(self) -> Sequence[Told]:
        """The item is committed or dropped: begin the next one; return the tasks that it ended for good.

        Only those are returned that have a callback.
        """
        told = self._told or ()
        self._forget()
        return told

    def load(self, stored: StoredExecution, dag: Dag) -> None:
        """Begin again from what is stored."""
        self._origin, self.status, self.started = stored, stored.status, stored.started
        self.progress = None
        self._history = History()
        self._history.load(stored.attempts, dag.index)
        self._forget()

    def create(self) -> None:
        """The execution is new: insert it."""
        self._new = True
        self.rows += 1

    def stored(self) -> StoredExecution:
        """The execution with its attempts, as the store has it once the item is committed."""
        end = self.progress
        origin = self._origin
        return StoredExecution(
            origin.id,
            origin.workflow,
            origin.version,
            self.status,
            origin.input,
            end and end.result,
            origin.key,
            origin.priority,
            origin.tags,
            self._runner if end is None else end.next_owner,
            origin.forked_from,
            origin.created,
            self.started,
            end and end.finished,
            end and end.wake_at,
            end and end.error,
            self._history.rows(),
        )

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
        if self._starts is None:
            self._starts = []
        self._starts.append(row)
        self.rows += 1
        if self.started is None:
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
        attempt.closed = True
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
        if self._ends is None:
            self._ends = []
        self._ends.append(row)
        self.rows += 1
        self._history.end(attempt.index, row, attempt)
        ended = _TASK_STATE.get(state)
        if retry_at is None and ended is not None:
            self._tell(attempt.index, ended, error)

    def shift(self, attempt: Attempt, before: AttemptState, after: AttemptState) -> None:
        """An attempt is deferred, or runs again."""
        self._wishes()[0].append(Shift(attempt.execution, attempt.task, attempt.attempt, before, after))

    def checkpoint(self, row: Checkpoint) -> None:
        """A body stores a checkpoint."""
        self._wishes()[1].append(row)

    def rule(self, ruling: Ruling, last: int, now: int, error: ErrorInfo | None = None) -> None:
        """A task ends without running; ``last`` is the number of its last attempt, 0 if there was none."""
        info = error or (describe(ruling.error) if ruling.error is not None else None)
        verdict = Verdict(
            self._origin.id,
            self._dag.ids[ruling.index],
            last + 1 if last else 0,
            _ATTEMPT_STATE[ruling.state],
            now,
            ruling.reason,
            error_text(info),
        )
        if self._verdicts is None:
            self._verdicts = []
        self._verdicts.append(verdict)
        self.rows += 1
        self._history.rule(ruling.index, verdict)
        self._tell(ruling.index, ruling.state, info)

    def finish(self, status: ExecutionStatus, result: str, error: str | None, now: int) -> None:
        """The execution ends."""
        self._give_up(status, finished=now, result=result, error=error)

    def park(self, why: str, now: int) -> None:
        """The execution is set aside, with a reason that its reader can see."""
        self.clear()
        self._give_up(ExecutionStatus.PARKED, error=why)
        self._report("parked", now, error_text(why) or "")

    def pause(self, now: int) -> None:
        """No task starts until the execution is resumed."""
        self._stay(ExecutionStatus.PAUSED)
        self._report("paused", now)

    def resume(self, now: int) -> None:
        """Tasks may start again."""
        self._stay(ExecutionStatus.PENDING if self.started is None else ExecutionStatus.RUNNING)
        self._report("resumed", now)

    def obey(self, command: str) -> None:
        """The item carries out the command with this id."""
        if self._obeyed is None:
            self._obeyed = []
        self._obeyed.append(command)
        self.rows += 1

    def store_away(self, wake_at: int | None) -> None:
        """The execution only waits: it is without owner, and claimed again at ``wake_at`` if that is given."""
        self._give_up(self.status, wake_at=wake_at)

    @property
    def gives_up(self) -> bool:
        """True if the item ends the runner's ownership: the execution ended, was parked or stored away."""
        return self.progress is not None

    def why_failed(self, tasks: Sequence[int]) -> str | None:
        """Why an execution failed, in one line, from the tasks that broke it."""
        told = [self._history.why(index, self._dag.ids[index]) for index in tasks[:3]]
        more = f"; and {len(tasks) - 3} more" if len(tasks) > 3 else ""
        return "; ".join(told) + more if told else None

    def _wishes(self) -> tuple[list[Shift], list[Checkpoint]]:
        if self._wished is None:
            self._wished = [], []
        self.rows += 1
        return self._wished

    def _stay(self, status: ExecutionStatus) -> None:
        self.status = status
        self._move(Progress(self._origin.id, self._runner, status, self._runner, self.started))

    def _report(self, kind: str, now: int, detail: str = "") -> None:
        if self._events is None:
            self._events = []
        self._events.append(Event(self._origin.id, now, kind, detail))
        self.rows += 1

    def _begin(self, now: int) -> None:
        self.status, self.started = ExecutionStatus.RUNNING, now
        if not self._new:
            self._move(Progress(self._origin.id, self._runner, self.status, self._runner, now))

    def _give_up(
        self,
        status: ExecutionStatus,
        *,
        finished: int | None = None,
        wake_at: int | None = None,
        result: str | None = None,
        error: str | None = None,
    ) -> None:
        self.status = status
        cut = error_text(error)
        self.progress = Progress(
            self._origin.id, self._runner, status, None, self.started, finished, wake_at, result, cut
        )
        self._move(self.progress)

    def _move(self, progress: Progress) -> None:
        if self._moved is None:
            self.rows += 1
        self._moved = progress

    def _tell(self, index: int, state: TaskState, error: ErrorInfo | None) -> None:
        task = self._dag.tasks[index]
        if task.on_success is not None or task.on_failure is not None:
            if self._told is None:
                self._told = []
            self._told.append((index, state, error))

    def _new_row(self) -> NewExecution:
        origin = self._origin
        return NewExecution(
            origin.id,
            origin.workflow,
            origin.version,
            ExecutionStatus.PENDING if self.started is None else ExecutionStatus.RUNNING,
            origin.input,
            origin.key,
            origin.priority,
            origin.tags,
            self._runner,
            origin.created,
            self.started,
        )


def poisoned(state: ExecutionState, index: int) -> ErrorInfo:
    """The error of a task that crashed its process too often."""
    return ErrorInfo(
        "cloacina.poisoned",
        f"task {state.dag.ids[index]!r} crashed its process {state.suspected(index)} times while no other "
        "suspect ran; it is not tried again",
    )


_NO_WISHES: tuple[tuple[()], tuple[()]] = (), ()
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
