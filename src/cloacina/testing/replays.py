"""The replay of a recorded execution against other code: is it decided alike, do its bodies do the same.

Every decision of the engine follows from a workflow and from what its tasks came to. So the new code's DAG and rules
are asked again, with the outcomes of the tasks as they were recorded: which task runs, which is skipped, how it ends.
No body is called for that. What a task that never ran would have done nobody can tell, so nothing is said of what
depends on it. `rerun` calls bodies: those that it is told to, on the context that they saw.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

from cloacina.engine.driving.inputs import take_input
from cloacina.engine.driving.records import past_of
from cloacina.engine.upkeep.adoption import read_outline, touched
from cloacina.errors import ContextError, PermanentError, ValidationError
from cloacina.logic.adoption import Succession
from cloacina.logic.execution import Consequences, ExecutionState, Past, Ruling
from cloacina.model.context.context import Context
from cloacina.model.dag.outline import Outline, short
from cloacina.model.definition.hints import shown
from cloacina.model.json.patch import Patch, same
from cloacina.model.json.values import JSON, Limits, decode
from cloacina.model.result import ExecutionResult
from cloacina.model.status import AttemptState, ExecutionStatus, Reason, TaskState
from cloacina.model.task import Task
from cloacina.model.workflow import Workflow
from cloacina.store.rows import LastAttempt
from cloacina.testing.bodies import task_named
from cloacina.testing.recording import Recording
from cloacina.testing.runner import TestRunner

CUT_SHORT = (Reason.CANCELLED, Reason.EXECUTION_TIMEOUT, Reason.INVALID_INPUT)
"""Why tasks ended that nothing in the DAG decided."""


@dataclass(frozen=True, slots=True)
class Difference:
    """What the recording says of a task, or of the whole execution if ``task`` is None, and what the new code says."""

    task: str | None
    recorded: str
    now: str

    def __str__(self) -> str:
        what = "the execution" if self.task is None else f"task {self.task!r}"
        return f"{what} {self.recorded}; with the new code it {self.now}"


@dataclass(frozen=True, slots=True)
class Replay:
    """What new code would make of a recorded execution.

    ``differences`` come in the order of the new DAG, so that the first is where the two part. ``undecided`` are the
    tasks of which nothing can be said. ``objection`` is why a runner with the new code would not take the execution
    over, had it died where the recording ends; None if it would.
    """

    execution: str
    old_version: str
    new_version: str
    objection: str | None
    differences: tuple[Difference, ...]
    undecided: tuple[str, ...]

    @property
    def same(self) -> bool:
        """True if everything was decided alike."""
        return not self.differences

    def __str__(self) -> str:
        versions = f"version {short(self.old_version)}"
        if self.old_version != self.new_version:
            versions += f" against version {short(self.new_version)}"
        lines = [f"replay of {self.execution}, {versions}: {'the same' if self.same else 'not the same'}"]
        lines += [f"  {difference}" for difference in self.differences]
        if self.undecided:
            lines.append(f"  nothing can be said of {', '.join(self.undecided)}")
        if self.objection is not None:
            lines.append(f"  it would not be taken over: {self.objection}")
        return "\n".join(lines)


def replay(recording: Recording, workflow: Workflow) -> Replay:
    """Decide a recorded execution again, as the code of ``workflow`` does, and tell what it decides otherwise.

    See the module's text for what that means. Raises `ValidationError` for other things than a recording and a
    workflow of its name, and `StoreError` if what was recorded cannot be read.
    """
    _check(recording, workflow)
    stored = recording.stored
    again = _Again(recording, workflow)
    again.decide()
    before = read_outline(stored.version, recording.dag)
    succession = Succession(before, Outline.of(workflow), workflow.on_version)
    last = {row.task: LastAttempt(row.task, row.state, row.retry_at) for row in stored.attempts}
    return Replay(
        stored.id,
        stored.version,
        workflow.version,
        succession.objection(touched(last.values())),
        tuple(again.differences()),
        tuple(again.undecided()),
    )


class _Again:
    """One recorded execution, decided again."""

    def __init__(self, recording: Recording, workflow: Workflow) -> None:
        self._stored = recording.stored
        self._workflow = workflow
        self._state = ExecutionState(workflow, Limits())
        self._takes_input = take_input(self._state, workflow, self._stored)
        self._past: dict[str, list[Past]] = {}
        for row in past_of(self._stored):
            self._past.setdefault(row.task, []).append(row)
        self._found: dict[int, Difference] = {}
        self._gone = [task for task in self._past if task not in workflow.dag]

    def decide(self) -> None:
        """Go through the DAG for as far as the recording tells what its tasks came to."""
        if not self._takes_input:
            return
        found = self._state.begin()
        while found.ready or found.rulings:
            next_found = Consequences([], [])
            for ruling in found.rulings:
                self._compare(ruling)
            for index in sorted(found.ready):
                self._run(index, next_found)
            found = next_found

    def differences(self) -> Iterator[Difference]:
        """What is decided otherwise: task by task, then the whole."""
        for task in self._gone:
            yield Difference(task, _was(self._past[task]), "is gone")
        for index in sorted(self._found):
            yield self._found[index]
        stored = self._stored
        if not self._takes_input:
            yield Difference(None, f"was {stored.status}", "is refused: its input does not fit the model")
        elif not self._state.live and stored.status.terminal and not self._cut_short():
            yield from self._ends()

    def undecided(self) -> list[str]:
        """The tasks that have not ended."""
        dag = self._state.dag
        return [dag.ids[i] for i, state in enumerate(self._state.standing.states) if not state.terminal]

    def _cut_short(self) -> bool:
        return any(rows[-1].reason in CUT_SHORT for rows in self._past.values())

    def _ends(self) -> Iterator[Difference]:
        stored, status = self._stored, self._state.outcome().status
        recorded = cast("dict[str, JSON]", decode(stored.result or "{}"))
        try:
            result = self._state.views.result()
        except ContextError as error:
            yield Difference(None, f"was {stored.status}", f"has no result, since {error}")
            return
        if status is not stored.status:
            yield Difference(None, f"was {stored.status}", f"is {status}")
        for key in sorted(result.keys() | recorded.keys()):
            if not (key in result and key in recorded and same(result[key], recorded[key])):
                mine, theirs = (
                    f"has {shown(one[key])}" if key in one else "has nothing" for one in (result, recorded)
                )
                yield Difference(None, f"{theirs} under {key!r} in the end", mine)
                if status is ExecutionStatus.FAILED:
                    return

    def _run(self, index: int, found: Consequences) -> None:
        """The new code would run a task: let it end as it did."""
        task, state = self._state.dag.ids[index], self._state
        rows = self._past.get(task)
        try:
            state.views.of(index)
        except ContextError as error:
            ruling = Ruling(index, TaskState.FAILED, Reason.CONTEXT, error)
            self._compare(ruling)
            state.end(index, TaskState.FAILED, found)
            return
        if rows is None:
            if self._stored.status.terminal:
                self._found[index] = Difference(task, "was not there", "runs")
            return
        last = rows[-1]
        if last.state is AttemptState.SKIPPED or (last.reason is Reason.CONTEXT and not last.attempt):
            if last.reason not in CUT_SHORT:
                self._found[index] = Difference(task, _was(rows), "runs")
            return
        ended = _ENDED.get(last.state)
        if ended is None or last.retry_at is not None:
            return
        failures = sum(row.state in (AttemptState.FAILED, AttemptState.TIMED_OUT) for row in rows)
        most = self._workflow.policies[index].max_attempts
        if ended is TaskState.COMPLETED and failures >= most:
            self._found[index] = Difference(
                task, f"completed after {failures} failures", f"has {most} attempts"
            )
            return
        state.start(index)
        state.end(index, ended, found, last.patch)

    def _compare(self, ruling: Ruling) -> None:
        task = self._state.dag.ids[ruling.index]
        rows = self._past.get(task)
        if rows is None:
            if self._stored.status.terminal:
                self._found[ruling.index] = Difference(task, "was not there", _ruled(ruling))
            return
        last = rows[-1]
        if last.reason in CUT_SHORT:
            return
        recorded = TaskState.SKIPPED if last.state is AttemptState.SKIPPED else TaskState.FAILED
        if last.attempt or last.reason is not ruling.reason or recorded is not ruling.state:
            self._found[ruling.index] = Difference(task, _was(rows), _ruled(ruling))


async def rerun(
    recording: Recording,
    workflow: Workflow,
    tasks: Iterable[Task | str],
    *,
    runner: Callable[[TestRunner], object] | None = None,
) -> tuple[Difference, ...]:
    """Call the bodies of ``tasks`` on the context that they saw, and tell which change something else than recorded.

    Only tasks that completed can be compared. The others of the execution are not called: what they changed, or that
    they failed, is taken from the recording. Checkpoints are made again. ``runner`` is called with the `TestRunner` on
    which they run, to `replace` or `fail` more. Raises as `replay` and `TestRunner.result` do.
    """
    _check(recording, workflow)
    chosen = [task_named(task, [workflow], "rerun") for task in tasks]
    past = {row.task: row for row in past_of(recording.stored)}
    for task in chosen:
        if task not in past or past[task].state is not AttemptState.COMPLETED:
            raise ValidationError(
                f"rerun: task {task!r} did not complete in the recording: there is nothing to compare"
            )
    async with TestRunner(workflow) as own:
        for one in workflow.tasks:
            row = past.get(one.id)
            if row is None or one.id in chosen:
                continue
            if row.state is AttemptState.COMPLETED:
                own.replace(one, partial(_apply, row.patch or {}))
            else:
                own.fail(one, times=math.inf, error=PermanentError("as it was recorded"))
        if runner is not None:
            runner(own)
        result = await own.execute(workflow, decode(recording.stored.input))
        again = {row.task: row for row in past_of((await own.record(result.id)).stored)}
    return tuple(_bodies_differ(chosen, past, again, result))


def _bodies_differ(
    chosen: Iterable[str], past: Mapping[str, Past], again: Mapping[str, Past], result: ExecutionResult
) -> Iterator[Difference]:
    for task in chosen:
        then, now = past[task].patch or {}, again.get(task)
        if now is None or now.state is not AttemptState.COMPLETED:
            error = result.tasks[task].error
            told = f"is {result.tasks[task].state}" if error is None else f"fails: {error}"
            yield Difference(task, "completed", told)
        elif not same(cast(JSON, now.patch or {}), cast(JSON, then)):
            yield Difference(task, f"changed {shown(then, 300)}", f"changes {shown(now.patch or {}, 300)}")


def _apply(patch: Patch, ctx: Context) -> None:
    """Change a context as a recorded task did."""
    _change(cast("dict[str, Any]", ctx), patch)


def _change(target: dict[str, Any], patch: Patch) -> None:
    for key in patch.get("remove", ()):
        target.pop(key, None)
    for key, value in patch.get("set", {}).items():
        target[key] = value
    for key, more in patch.get("append", {}).items():
        target.setdefault(key, []).extend(more)
    for key, inner in patch.get("patch", {}).items():
        _change(target.setdefault(key, {}), inner)


def _check(recording: object, workflow: object) -> None:
    if not isinstance(recording, Recording):
        raise ValidationError(
            f"{shown(recording)} is no recording: make one with record(url, id), with runner.record(id), or read one "
            "with Recording.load(path)"
        )
    if not isinstance(workflow, Workflow) or workflow.name != recording.stored.workflow:
        raise ValidationError(
            f"{shown(workflow)} is not workflow {recording.stored.workflow!r}, which was recorded"
        )


def _was(rows: list[Past]) -> str:
    last = rows[-1]
    if last.state is AttemptState.SKIPPED:
        return f"was skipped ({last.reason})"
    return f"{last.state}" if last.reason is None else f"{last.state} ({last.reason})"


def _ruled(ruling: Ruling) -> str:
    return f"is {ruling.state} ({ruling.reason})"


_ENDED = {
    AttemptState.COMPLETED: TaskState.COMPLETED,
    AttemptState.FAILED: TaskState.FAILED,
    AttemptState.TIMED_OUT: TaskState.FAILED,
}
