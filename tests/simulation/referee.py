"""The referee: sees every commit and every body, and says which of the engine's promises was broken.

It keeps a mirror of the database from the changes that each commit tells, and never asks the engine anything.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from cloacina.errors import ExecutionError
from cloacina.model.status import AttemptState, ExecutionStatus, check_move
from cloacina.model.workflow import Workflow
from simulation.disk import Change
from simulation.loop import Process
from support.rows import AttemptRow, CommandRow, ExecutionRow, RunnerRow

if TYPE_CHECKING:
    from simulation.conduct import Conduct

FOLLOWS_A_CRASH = {"crash", "lost_lease"}


class Referee:
    """See the module's text. ``failed`` is told of each broken promise, ``happened`` of each rare situation."""

    conduct: Conduct
    """What it also looks at."""

    def __init__(self, failed: Callable[[str], None], happened: Callable[[str], None], slots: int) -> None:
        self._failed = failed
        self._happened = happened
        self._slots = slots
        self.workflows: dict[tuple[str, str], Workflow] = {}
        """Every workflow that any process has, by name and version."""
        self.executions: dict[str, ExecutionRow] = {}
        self.tasks: dict[str, dict[str, list[AttemptRow]]] = defaultdict(dict)
        """The attempts of each task of each execution."""
        self.runners: dict[str, RunnerRow] = {}
        self.commands: dict[str, CommandRow] = {}
        self.bodies: dict[Process, Counter[tuple[str, str, int]]] = defaultdict(Counter)
        """The bodies that run in each process."""
        self.begun: set[tuple[str, str, int]] = set()
        self.ended: set[tuple[str, str, int]] = set()
        """The attempts whose bodies returned."""
        self.adopted: set[str] = set()
        """Executions whose version changed: what they went through was decided by the rules of more than one."""
        self._by_key: dict[str, str] = {}
        self._owned_by: dict[str, set[str]] = {}
        self._set_aside: set[str] = set()
        """Executions that were paused or parked once: one that has nothing left to do ends when it is claimed."""

    # Commits.

    def commit(self, process: Process | None, name: str, changes: list[Change]) -> None:
        """One transaction was committed."""
        touched: set[str] = set()
        attempts: list[tuple[AttemptRow | None, AttemptRow]] = []
        for table, old, new in changes:
            if table == "executions":
                touched.add(self._execution(old, new, name))
            elif table == "attempts":
                before, after = _row(AttemptRow, old), _row(AttemptRow, new)
                if after is None:
                    self._failed(f"{before} was deleted by {name}")
                    continue
                touched.add(after.execution)
                self._keep(after)
                attempts.append((before, after))
            elif table == "runners":
                self._runner(_row(RunnerRow, old), _row(RunnerRow, new), name)
            elif table == "commands":
                self._command(_row(CommandRow, old), _row(CommandRow, new))
        for before, after in attempts:
            self._attempt(before, after, name)
        for id in touched:
            self._whole(id, name)
        self.conduct.commit(changes, name)

    def _execution(self, old: tuple[Any, ...] | None, new: tuple[Any, ...] | None, name: str) -> str:
        before, after = _row(ExecutionRow, old), _row(ExecutionRow, new)
        if after is None:
            assert before is not None
            self._failed(f"{before} was deleted by {name}")
            return before.id
        self.executions[after.id] = after
        if before is None:
            if after.key is not None and self._by_key.setdefault(after.key, after.id) != after.id:
                self._failed(f"two executions have the key {after.key}")
            return after.id
        if before.over and before != after:
            self._failed(f"{name} changed an execution that had ended: {before} to {after}")
        if after.status in ("paused", "parked"):
            self._set_aside.add(after.id)  # perhaps for a moment within this transaction only
        if before.status != after.status:
            self._moved(ExecutionStatus(before.status), ExecutionStatus(after.status), after)
            if after.status == "parked":
                self._happened(f"an execution was parked: {after.parked_for}")
        if before.version != after.version:
            self.adopted.add(after.id)
            self._happened("an execution was adopted by another version")
        if before.status == "parked" and not after.over:
            self._happened("a parked execution was freed")
        if before.status == "paused" and after.over:
            self._happened(f"a paused execution ended as {after.status}")
        if before.owner is not None and after.owner is None and not after.over:
            what = "was stored away" if after.wake_at is not None else f"was given up by {name}"
            self._happened(f"an execution {what}")
        if before.wake_at is not None and after.wake_at is None and after.owner is not None:
            self._happened("an execution that had been stored away was claimed")
        if None not in (before.owner, after.owner) and before.owner != after.owner:
            self._failed(f"{name} gave {after} from one owner to another")
        if before.owner is None and after.owner is not None:
            owners = self._owned_by.setdefault(after.id, set())
            owners.add(after.owner)
            if len(owners) == 3:
                self._happened("an execution had three owners")
        return after.id

    def _runner(self, before: RunnerRow | None, after: RunnerRow | None, name: str) -> None:
        if after is None:
            return
        self.runners[after.id] = after
        if before is None:
            return
        if before.state != "alive" and before != after:
            self._failed(f"a runner that was {before.state} changed: {after}")
        if name == "void":
            self._happened("a group in doubt was made void")
        if after.group_no - before.group_no not in (0, 2 if name == "void" else 1):
            self._failed(f"the groups of a runner jumped: {before} to {after}")

    def _command(self, before: CommandRow | None, after: CommandRow | None) -> None:
        if after is not None:
            self.commands[after.id] = after
            self._happened(f"a command was left for the owner: {after.kind}")
        elif before is not None:
            del self.commands[before.id]
            owner = self.executions[before.execution].owner
            self._happened(
                "a command was obeyed" if owner is not None else "a command ended with its execution"
            )

    def _keep(self, row: AttemptRow) -> None:
        rows = self.tasks[row.execution].setdefault(row.task, [])
        if rows and rows[-1].attempt == row.attempt:
            rows[-1] = row
        else:
            if (
                rows
                and row.attempt <= rows[-1].attempt
                and self.executions[row.execution].forked_from is None
            ):
                self._failed(f"the numbers of attempts went back: {rows[-1]} to {row}")
            rows.append(row)

    def _attempt(self, before: AttemptRow | None, after: AttemptRow, name: str) -> None:
        execution = self.executions[after.execution]
        if before is None:
            if name == "insert_forks":
                self._happened("an attempt was copied by a fork")
            elif after.state == "running":
                self._start(execution, after)
            elif after.reason is not None:
                self._happened(f"a task ended without running: {after.reason}")
            return
        if before.state != after.state:
            self._moved(AttemptState(before.state), AttemptState(after.state), after)
        elif before != after:
            self._failed(f"{name} changed an attempt without moving it: {before} to {after}")
        if after.state == "interrupted":
            times = sum(row.state == "interrupted" for row in self.tasks[after.execution][after.task])
            self._happened(f"an attempt was interrupted: {after.reason}")
            if times == 2:
                self._happened("a task was interrupted twice")
        elif after.state in ("deferred", "cancelled", "timed_out") or before.state == "deferred":
            self._happened(f"an attempt went from {before.state} to {after.state}")
        elif after.state in ("completed", "failed", "timed_out") and after.runner not in self._owners(after):
            self._failed(f"the result of an attempt was taken from a runner that does not own it: {after}")
        if after.state == "completed":
            if (after.execution, after.task, after.attempt) not in self.ended:
                self._failed(f"an attempt completed whose body did not: {after}")
            if after.delta is None:
                self._failed(f"an attempt completed without its delta: {after}")

    def _owners(self, row: AttemptRow) -> tuple[str | None, ...]:
        """Who may have owned the execution in the transaction that this was changed in."""
        execution = self.executions[row.execution]
        runner = self.runners.get(row.runner or "")
        if execution.owner is not None:
            return (execution.owner,)
        return (row.runner,) if runner is not None and runner.state == "alive" else ()

    def _start(self, execution: ExecutionRow, row: AttemptRow) -> None:
        runner = self.runners.get(row.runner or "")
        if runner is None or runner.state != "alive" or execution.owner != row.runner:
            self._failed(f"{row} was started by a runner that does not own {execution}")
        if execution.status != "running":
            self._failed(f"{row} was started in {execution}")
        earlier = self.tasks[row.execution][row.task][:-1]
        if earlier and (earlier[-1].task_over or earlier[-1].state in ("running", "deferred")):
            self._failed(f"{row} was started after {earlier[-1]}")
        if row.attempt != len(earlier) + 1:
            self._failed(f"{row} has the wrong number: there were {len(earlier)} before")
        workflow = self.workflows.get((execution.workflow, execution.version))
        if workflow is None:
            return
        dag = workflow.dag
        index = dag.index[row.task]
        for needed in dag.dependencies[index]:
            rows = self.tasks[row.execution].get(dag.ids[needed])
            if not rows or not rows[-1].task_over:
                self._failed(f"{row} was started before {dag.ids[needed]} had ended: {rows}")
        failures = sum(one.failure for one in earlier)
        if failures >= workflow.policies[index].max_attempts:
            self._failed(f"{row} was started after {failures} failures")
        if row.suspect:
            self._happened("a suspect was started")
        if earlier and earlier[-1].state == "interrupted":
            self._happened("a task was started again after an interruption")
        if len(earlier) > 1 and {one.reason for one in earlier[-2:]} <= FOLLOWS_A_CRASH:
            self._happened("a task was started again after two crashes")

    def _whole(self, id: str, name: str) -> None:
        """What must hold of an execution after each commit."""
        execution = self.executions[id]
        if execution.owner is not None:
            runner = self.runners.get(execution.owner)
            if runner is None or runner.state != "alive":
                self._failed(f"after {name} {execution} is owned by {runner}")
        workflow = self.workflows.get((execution.workflow, execution.version))
        if workflow is None:
            return
        tasks = self.tasks[id]
        over = sum(task in tasks and tasks[task][-1].task_over for task in workflow.dag.ids)
        if execution.over and over < len(workflow.dag.ids):
            self._failed(f"after {name} {execution} has ended, and only {over} of its tasks have: {tasks}")
        if execution.over and execution.owner is not None:
            self._failed(f"after {name} {execution} has ended and has an owner")
        if not execution.over and over == len(workflow.dag.ids) and id not in self._set_aside:
            self._failed(f"after {name} {execution} has not ended, and all its tasks have")

    def _moved(
        self, before: ExecutionStatus | AttemptState, after: ExecutionStatus | AttemptState, row: object
    ) -> None:
        try:
            check_move(before, after)  # type: ignore[type-var]
        except ExecutionError as error:
            self._failed(f"{error}: {row}")

    # Bodies.

    def begins(self, process: Process, execution: str, task: str, attempt: int) -> None:
        """A body starts."""
        what = (execution, task, attempt)
        row = self.attempt(*what)
        runner = self.runners.get("" if row is None else row.runner or "")
        if runner is not None and runner.state == "dead":
            # It was frozen between the commit of the start and its first step: no look can come later than that.
            self._happened("a body of a dead runner began")
        elif row is None or row.state != "running":
            self._failed(f"the body of {what} started in {process}, and what is committed is {row}")
        elif self.executions[execution].owner != row.runner:
            self._failed(f"the body of {what} started in {process}: {self.executions[execution]}")
        if what in self.begun:
            self._failed(f"the body of {what} started twice")
        self.begun.add(what)
        self.enters(process, *what)

    def enters(self, process: Process, execution: str, task: str, attempt: int) -> None:
        """A body takes a slot: at its start, and when it is deferred no longer."""
        what = (execution, task, attempt)
        running = self.bodies[process]
        running[what] += 1
        with_slots = [one for one, times in running.items() if times and self._runs(*one)]
        if len(with_slots) > self._slots:
            self._failed(f"{process} has {self._slots} slots and runs {with_slots}")

    def _runs(self, execution: str, task: str, attempt: int) -> bool:
        """False for a body that was written off, or whose runner is dead: it has no slot any more."""
        row = self.attempt(execution, task, attempt)
        return row is not None and row.state == "running"

    def returns(self, execution: str, task: str, attempt: int) -> None:
        """A body did all that it had to do."""
        self.ended.add((execution, task, attempt))

    def leaves(self, process: Process, execution: str, task: str, attempt: int) -> None:
        """A body is over, or is deferred."""
        self.bodies[process].subtract([(execution, task, attempt)])

    def attempt(self, execution: str, task: str, attempt: int) -> AttemptRow | None:
        """An attempt as it is committed."""
        for row in self.tasks[execution].get(task, ()):
            if row.attempt == attempt:
                return row
        return None

    def failures(self, execution: str, task: str) -> int:
        """How many attempts of a task have failed, as committed."""
        return sum(row.failure for row in self.tasks[execution].get(task, ()))


def _row(kind: Any, values: tuple[Any, ...] | None) -> Any:
    return None if values is None else kind(*values)


def last_states(tasks: dict[str, list[AttemptRow]], ids: Iterable[str]) -> dict[str, AttemptRow]:
    """The last attempt of each task that has one."""
    return {id: tasks[id][-1] for id in ids if tasks.get(id)}
