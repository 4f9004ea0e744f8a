"""The conduct of runners: what a commit may say in view of what came before it, beyond each row by itself.

Part of the `Referee`: whether retries waited for their time, suspects were treated as such, time limits held, commands
were carried out that were removed, and bodies saw what those above them wrote.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from cloacina.logic.execution import SUSPECT_AFTER
from cloacina.model.workflow import Workflow
from simulation.bodies import written
from simulation.disk import Change
from simulation.plan import Plan
from support.rows import AttemptRow, CommandRow, ExecutionRow

if TYPE_CHECKING:
    from simulation.referee import Referee

SLACK = 10_000
"""Microseconds by which a moment may be missed."""

PATIENCE = 1.5
"""Seconds within which an owner that nothing is done to carries out a command."""

OF_ITS_RUNNER = ("crash", "lost_lease", "shutdown")
"""Why an attempt ends with its runner."""


class Conduct:
    """See the module's text. ``failed`` is told of each broken promise."""

    def __init__(
        self, referee: Referee, plan: Plan, now: Callable[[], float], failed: Callable[[str], None]
    ) -> None:
        self._now = now
        self._calm = not (plan.blows or plan.trips)
        self._left: dict[str, float] = {}
        """When each command was left for its owner, in seconds."""
        self._referee = referee
        self._failed = failed
        self._cap = plan.settings["crash_cap"]
        kinds = {blow.kind for blow in plan.blows}
        self._one_time = "jump" not in kinds
        """True if all clocks agree."""
        self._in_time = not kinds & {"jump", "freeze", "block"}
        """True if, besides, nobody stands still, so that timers are punctual."""

    # Commits.

    def commit(self, changes: list[Change], name: str) -> None:
        """One transaction was committed; the referee knows what it changed."""
        told: dict[str, set[str]] = {}
        for table, _, new in changes:
            if table == "events" and new is not None:
                told.setdefault(new[1], set()).add(new[3])
        for table, old, new in changes:
            if table == "commands" and new is not None:
                self._left[new[0]] = self._now()
            elif table == "commands" and old is not None:
                self._obeyed(CommandRow(*old), told.get(old[1], set()), name)
            elif table == "attempts" and new is not None:
                self._attempt(None if old is None else AttemptRow(*old), AttemptRow(*new), name)

    def _obeyed(self, command: CommandRow, told: set[str], name: str) -> None:
        """A command that is removed has taken effect, in the same transaction or before.

        If the execution was paused or resumed in it, then at some moment either command was obeyed.
        """
        if self._calm and self._now() - self._left[command.id] > PATIENCE:
            self._failed(f"{command} was not carried out for {self._now() - self._left[command.id]:.1f}s")
        status = self._referee.executions[command.execution].status
        if status in ("completed", "failed", "cancelled", "parked"):
            return
        done = {
            "cancel": False,
            "pause": status == "paused" or bool(told & {"paused", "resumed"}),
            "resume": status != "paused" or bool(told & {"paused", "resumed"}),
        }
        if not done[command.kind]:
            self._failed(f"{name} removed {command}, whose execution is {status}")

    def _attempt(self, before: AttemptRow | None, after: AttemptRow, name: str) -> None:
        if before is None:
            earlier = [
                r for r in self._referee.tasks[after.execution][after.task] if r.attempt < after.attempt
            ]
            if after.state == "running":
                self._start(after, earlier)
            elif after.reason == "poisoned" and name != "insert_forks" and crashes(earlier)[1] < self._cap:
                self._failed(f"{after} is poisoned after {earlier}")
        elif before.state == "deferred" and after.state == "interrupted" and after.reason in OF_ITS_RUNNER:
            self._failed(f"{after} was deferred, which is no crash")

    def _start(self, row: AttemptRow, earlier: list[AttemptRow]) -> None:
        execution = self._referee.executions[row.execution]
        workflow = self._referee.workflows.get((execution.workflow, execution.version))
        started = row.started or 0
        in_row, as_suspect = crashes(earlier)
        if bool(row.suspect) != (in_row >= SUSPECT_AFTER) or as_suspect >= self._cap:
            self._failed(
                f"{row} was started after {in_row} crashes in a row, {as_suspect} of them as a suspect"
            )
        retry_at = earlier[-1].retry_at if earlier else None
        if retry_at is not None and self._one_time and started + SLACK < retry_at:
            self._failed(f"{row} was started before its time: {earlier}")
        if workflow is None or workflow.timeout is None or execution.started is None:
            return
        if self._in_time and started > execution.started + workflow.timeout * 1e6 + SLACK:
            self._failed(f"{row} was started when the time of {execution} was up")

    # Bodies.

    def begins(self, id: str, task: str, attempt: int, workflow: Workflow, seen: Mapping[str, Any]) -> None:
        """A body of ``workflow`` starts and sees this."""
        execution, row = self._referee.executions[id], self._referee.attempt(id, task, attempt)
        if row is None or row.state != "running":
            return
        if execution.version != workflow.version:
            self._failed(f"{row} runs the body of another version: {execution}")
            return
        wanted = written(json.loads(execution.input), self._above(execution, workflow, task))
        if seen != wanted:
            self._failed(f"{row} sees {seen} and should see {wanted}")

    def _above(self, execution: ExecutionRow, workflow: Workflow, task: str) -> list[str]:
        """The Completed tasks above ``task``, in canonical order."""
        dag, tasks = workflow.dag, self._referee.tasks[execution.id]
        mask = dag.ancestor_masks[dag.index[task]]
        above = [id for index, id in enumerate(dag.ids) if mask >> index & 1]
        return [id for id in above if id in tasks and tasks[id][-1].state == "completed"]


def crashes(rows: Iterable[AttemptRow]) -> tuple[int, int]:
    """How many of the last attempts in a row crashed their runner, and how many of these ran as suspects."""
    in_row = as_suspect = 0
    for row in rows:
        if row.failure:
            in_row = as_suspect = 0
        elif row.reason == "crash":
            in_row += 1
            as_suspect += row.suspect
    return in_row, as_suspect
