"""The model of one execution: what sections 4.2 to 4.5 of the design say becomes of it, and nothing of how.

Two things are left to reality, which is asked afterwards whether it chose within the law: which of the tasks that may
start has a slot, and which runner drives the execution. The rules of readiness and outcome are those of the
oracle of the unit tests.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from cloacina.model.status import ExecutionStatus, Reason, TaskState
from statemachine.merging import Change, Json, merged, without
from statemachine.shapes import Shape, TaskShape
from unit.logic.oracle import Oracle, Task

CRASHES, CAP = 2, 3
"""Crashes in a row after which a task is suspect, and further ones after which it is poisoned."""


@dataclass
class Row:
    """One attempt, or the row numbered 0 of a task that never ran."""

    number: int
    state: str
    reason: str | None = None
    suspect: bool = False


@dataclass
class TaskModel:
    """Where one task stands."""

    rows: list[Row] = field(default_factory=list)
    due: float | None = None
    """When its retry is due, in ticks; None if it does not wait for one."""
    began: int = 0
    """The tick at which its last attempt started."""
    spent: int = 0
    """Ticks that its attempt had run when it was deferred: meanwhile its clock stands still."""
    allowed: bool = False
    """True if it was deferred, and its condition has been looked at since it holds."""
    made: Change = field(default_factory=list)
    notes: dict[str, int] = field(default_factory=dict)
    """Its checkpoints."""

    @property
    def state(self) -> TaskState:
        if not self.rows:
            return TaskState.PENDING
        last = self.rows[-1].state
        if self.due is not None:
            return TaskState.WAITING
        return {
            "running": TaskState.RUNNING,
            "deferred": TaskState.WAITING,
            "interrupted": TaskState.PENDING,
            "timed_out": TaskState.FAILED,
        }.get(last) or TaskState(last)

    @property
    def ended(self) -> bool:
        return self.state.terminal

    @property
    def runs(self) -> bool:
        return bool(self.rows) and self.rows[-1].state in ("running", "deferred")

    @property
    def deferred(self) -> bool:
        return bool(self.rows) and self.rows[-1].state == "deferred"

    @property
    def failures(self) -> int:
        return sum(row.state in ("failed", "timed_out") for row in self.rows)

    def crashes(self, *, suspect: bool = False) -> int:
        """How often in a row its runner died, or did while it ran as a suspect."""
        count = 0
        for row in self.rows:
            if row.state in ("failed", "timed_out"):
                count = 0
            elif (row.state, row.reason) == ("interrupted", "crash") and (row.suspect or not suspect):
                count += 1
        return count

    def end(self, state: str, reason: str | None = None) -> None:
        """Its last attempt ends; or it ends by a row of its own, if none runs."""
        if self.runs:
            self.rows[-1].state, self.rows[-1].reason = state, reason
        else:
            self.rows.append(Row(self.rows[-1].number + 1 if self.rows else 0, state, reason))
        self.due, self.allowed = None, False


@dataclass
class ExecutionModel:
    """Where one execution stands."""

    id: str
    shape: Shape
    version: str
    input: Json
    key: str | None = None
    priority: int = 0
    tags: tuple[str, ...] = ()
    forked_from: str | None = None
    status: ExecutionStatus = ExecutionStatus.PENDING
    tasks: dict[str, TaskModel] = field(default_factory=dict)
    began: int | None = None
    """The tick of its first start."""
    finished: int | None = None
    made: int = 0
    """The tick at which it was submitted."""
    paused: bool = False
    parked: bool = False
    owner: str | None = None
    """As reality says."""
    undecided: bool = True
    """True if something may follow for it that whoever drives it next will decide."""
    bare: bool = False
    """True if it was cancelled while nobody drove it: then its result was not built, and its context is the input."""
    commands: list[tuple[str, int]] = field(default_factory=list)
    """What was left for an owner who died before he obeyed, and when."""

    def __post_init__(self) -> None:
        for task in self.shape.tasks:
            self.tasks.setdefault(task.id, TaskModel())

    # Looking.

    @property
    def over(self) -> bool:
        return self.status.terminal

    @property
    def late(self) -> float | None:
        """When its time is up."""
        return None if self.shape.timeout is None or self.began is None else self.began + self.shape.timeout

    def oracle(self) -> Oracle:
        """The rules, about what is known so far."""
        oracle = Oracle.__new__(Oracle)
        oracle.tasks = {
            one.id: Task(one.id, one.dependencies, one.rule, one.optional, one.recovers)
            for one in self.shape.order
        }
        oracle.context = self.input
        oracle.state, oracle.reason = {}, {}
        for one in self.shape.order:
            task = self.tasks[one.id]
            oracle.state[one.id] = task.state
            if task.state is TaskState.SKIPPED:
                oracle.reason[one.id] = Reason(task.rows[-1].reason or "")
        return oracle

    def shown_status(self) -> ExecutionStatus:
        if self.over:
            return self.status
        if self.parked:
            return ExecutionStatus.PARKED
        if self.paused:
            return ExecutionStatus.PAUSED
        return ExecutionStatus.PENDING if self.began is None else ExecutionStatus.RUNNING

    def startable(self, now: float) -> list[str]:
        """The tasks that may start."""
        if self.over or self.paused or self.parked:
            return []
        return [one.id for one in self.shape.tasks if self.ready(one, now)]

    def ready(self, shape: TaskShape, now: float) -> bool:
        """True if nothing but a slot is missing for a task, and that its execution is not halted."""
        task = self.tasks[shape.id]
        if task.due is not None:
            return task.due <= now
        if task.state is not TaskState.PENDING or not self.all_ended(shape):
            return False
        return self.oracle().decide(_plain(shape)) is None

    def all_ended(self, shape: TaskShape) -> bool:
        return all(self.tasks[id].ended for id in shape.dependencies)

    @property
    def context(self) -> Json:
        """What the execution has come to."""
        return self.view(None) if self.over and not self.bare else self.input

    def view(self, id: str | None) -> Json:
        """What a task sees, or a task below all others."""
        above = {one.id for one in self.shape.tasks} if id is None else self._above(id)
        return merged(
            self.input,
            (
                self.tasks[one.id].made
                for one in self.shape.order
                if one.id in above and self.tasks[one.id].state is TaskState.COMPLETED
            ),
        )

    def _above(self, id: str) -> set[str]:
        shape = self.shape.task(id)
        assert shape is not None
        return set(shape.dependencies).union(*(self._above(needed) for needed in shape.dependencies))

    # What happens to it.

    def start(self, id: str, now: int, *, suspect: bool) -> None:
        """Reality started a task."""
        task = self.tasks[id]
        task.rows.append(Row(task.rows[-1].number + 1 if task.rows else 1, "running", None, suspect))
        task.due, task.began = None, now
        if self.began is None:
            self.began = now

    def complete(self, id: str, made: Change, now: float) -> None:
        self.tasks[id].made = made
        self.tasks[id].end("completed")
        self.decide(now)

    def fail(self, id: str, now: float, *, permanent: bool = False, state: str = "failed") -> None:
        """An attempt fails: the task is tried again later, or that was it."""
        shape, task = self.shape.task(id), self.tasks[id]
        assert shape is not None
        task.end(state)
        if task.failures < shape.attempts and not permanent:
            task.due = now + shape.delay
        self.decide(now)

    def defer(self, id: str, now: int) -> None:
        """An attempt gives up its slot until its condition holds."""
        task = self.tasks[id]
        task.rows[-1].state, task.allowed, task.spent = "deferred", False, now - task.began

    def go_on(self, id: str, now: int) -> None:
        """It holds."""
        task = self.tasks[id]
        task.rows[-1].state, task.allowed, task.began = "running", False, now - task.spent

    def interrupt(self, reason: str) -> None:
        """Its owner is gone."""
        for task in self.tasks.values():
            if task.runs:
                task.end("interrupted", "deferred" if task.deferred else reason)
        self.owner, self.undecided = None, True
        for kind, sent in self.commands:
            ended = self.over
            self.command(kind)
            if self.over and not ended:
                self.finished = sent
        self.commands = []

    def command(self, kind: str) -> None:
        """It is cancelled, paused or resumed."""
        if self.over:
            return
        if kind == "cancel":
            self.bare = self.owner is None
            self.close("cancelled", ExecutionStatus.CANCELLED)
        elif kind == "pause":
            self.paused = self.paused or not self.parked
        elif self.paused or self.parked:
            self.paused = self.parked = False
            self.undecided = True

    def close(self, reason: str, status: ExecutionStatus) -> None:
        """It ends before its tasks do."""
        for task in self.tasks.values():
            if not task.ended:
                touched = bool(task.rows)
                task.end("cancelled" if touched else "skipped", reason)
        self.status, self.owner = status, None

    def decide(self, now: float) -> None:
        """Whoever drives it decides what follows from where it stands."""
        if self.over or self.parked:
            return
        for shape in self.shape.order:
            task = self.tasks[shape.id]
            if task.state is not TaskState.PENDING or not self.all_ended(shape):
                continue
            reason = self.oracle().decide(_plain(shape))
            if reason is not None:
                task.end("skipped", reason)
            elif task.crashes(suspect=True) >= CAP:
                task.end("failed", "poisoned")
        late = self.late is not None and self.late <= now
        if late and not all(task.ended for task in self.tasks.values()):
            self.close("execution_timeout", ExecutionStatus.FAILED)
            return
        if (late or not self.paused) and all(task.ended for task in self.tasks.values()):
            self.status, self.owner = self.oracle().outcome()[0], None

    # Forks and other versions.

    def touched(self) -> set[str]:
        return {id for id, task in self.tasks.items() if task.rows}

    def to_retry(self) -> set[str]:
        """The tasks that a retry does again."""
        cut = {id for id, task in self.tasks.items() if _cut_short(task)}
        oracle = self.oracle()
        return self.with_descendants(
            cut | {id for id in self.tasks if oracle.broken(id) and not oracle.passed(id)}
        )

    def to_redo(self, tasks: Iterable[str]) -> set[str]:
        """The tasks that a fork from these does again."""
        cut = {id for id, task in self.tasks.items() if _cut_short(task)}
        return self.with_descendants(cut | set(tasks))

    def with_descendants(self, tasks: set[str]) -> set[str]:
        for shape in self.shape.order:
            if tasks.intersection(shape.dependencies):
                tasks = tasks | {shape.id}
        return tasks

    def fork(
        self, id: str, again: set[str], shape: Shape, version: str, replaced: Mapping[str, Any]
    ) -> ExecutionModel:
        """The new execution that does these tasks again."""
        kept = {
            task: TaskModel(
                [Row(row.number, row.state, row.reason, row.suspect) for row in old.rows],
                made=without(old.made, replaced),
            )
            for task, old in self.tasks.items()
            if task not in again and old.rows
        }
        return ExecutionModel(
            id,
            shape,
            version,
            {**self.input, **replaced},
            None,
            self.priority,
            self.tags,
            self.id,
            tasks=kept,
        )

    def objection(self, shape: Shape, kept: set[str], *, forgiving: bool) -> bool:
        """True if what these tasks did cannot be gone on from under another version."""
        if not forgiving:
            return any(_changed(self.shape.task(id), shape.task(id)) for id in kept)
        gone = any(shape.task(id) is None for id in kept)
        ended = {id for id in kept if self.tasks[id].ended}
        return gone or any(not ended.issuperset(task.dependencies) for task in shape.tasks if task.id in kept)

    def adopt(self, shape: Shape, version: str) -> None:
        """It goes on under another version."""
        if shape.edition != self.shape.edition:
            for id in self.touched():
                self.tasks[id].notes = {}
        self.tasks = {task.id: self.tasks.get(task.id, TaskModel()) for task in shape.tasks}
        self.shape, self.version = shape, version
        self.parked, self.undecided = False, True


def _plain(shape: TaskShape) -> Task:
    return Task(shape.id, shape.dependencies, shape.rule, shape.optional, shape.recovers)


def _cut_short(task: TaskModel) -> bool:
    return bool(task.rows) and (
        task.rows[-1].state == "cancelled" or task.rows[-1].reason in ("cancelled", "execution_timeout")
    )


def _changed(before: TaskShape | None, after: TaskShape | None) -> bool:
    return (
        before is None
        or after is None
        or (set(before.dependencies), before.rule) != (set(after.dependencies), after.rule)
    )
