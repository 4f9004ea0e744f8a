"""Why an execution is where it is: one current reason for it, and one per task that has not ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from cloacina.engine.driving.driver import Driver
from cloacina.engine.driving.records import result_of
from cloacina.engine.engine import Engine
from cloacina.model.dag import Dag
from cloacina.model.result import ExecutionResult, TaskResult, moment
from cloacina.model.status import ExecutionStatus, TaskState
from cloacina.store.rows import StoredExecution


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why an execution is where it is. ``tasks`` has the tasks that have not ended, with a reason each."""

    execution: str
    status: ExecutionStatus
    reason: str
    tasks: Mapping[str, str]

    def __str__(self) -> str:
        lines = [f"{self.execution} is {self.status}: {self.reason}"]
        return "\n".join([*lines, *(f"  {task}: {why}" for task, why in self.tasks.items())])


async def explain(engine: Engine, stored: StoredExecution) -> Explanation:
    """Explain one execution from what is stored, and from its driver if it is driven in this process."""
    driver = engine.life.drivers.get(stored.id)
    ids = engine.task_ids(stored.workflow, stored.version)
    result = result_of(stored, ids)
    if stored.status.terminal:
        return Explanation(stored.id, stored.status, stored.error or "it has ended", {})
    reason = await _execution_reason(engine, stored, driver)
    workflow = engine.registry.find(stored.workflow) if ids else None
    dag = workflow.dag if workflow is not None else None
    due = {row.task: row.retry_at for row in stored.attempts if row.retry_at is not None}
    aside = "its execution was set aside" if stored.status is ExecutionStatus.PARKED else None
    tasks = {
        task.id: aside or _task_reason(task, result, dag, driver, due)
        for task in result.tasks.values()
        if not task.state.terminal
    }
    return Explanation(stored.id, stored.status, reason, tasks)


async def _execution_reason(engine: Engine, stored: StoredExecution, driver: Driver | None) -> str:
    if stored.status is ExecutionStatus.PARKED:
        return stored.error or "it was set aside"
    if driver is not None:
        return f"driven by this process, runner {engine.life.runner}"
    if stored.id in engine.life.refusals.given_up:
        return engine.life.refusals.given_up[stored.id]
    if stored.owner is not None:
        return f"driven by runner {stored.owner}"
    if stored.wake_at is not None:
        return f"stored away until something is due, at {moment(stored.wake_at)}"
    offered = await engine.means.reader.run(lambda store: store.offered(stored.workflow, stored.version))
    if offered:
        return "stored, and waiting for a runner with room to claim it"
    versions = await engine.means.reader.run(lambda store: store.versions(stored.workflow))
    if versions == [stored.version]:
        return f"no live runner has workflow {stored.workflow!r}: start one that does"
    return (
        f"no live runner has version {stored.version[:12]} of workflow {stored.workflow!r} "
        f"(known versions: {', '.join(version[:12] for version in versions) or 'none'}): start one that does"
    )


def _task_reason(
    task: TaskResult, result: ExecutionResult, dag: Dag | None, driver: Driver | None, due: Mapping[str, int]
) -> str:
    if task.state is TaskState.RUNNING:
        last = task.history[-1]
        waits = driver is not None and any(
            attempt.task == task.id and attempt.yielded for attempt in driver.running.values()
        )
        more = ", and waits for another execution" if waits else ""
        return f"attempt {last.number} has run since {last.started}{more}"
    if task.state is TaskState.WAITING:
        return f"attempt {task.history[-1].number} failed ({task.error}); its retry is due at {moment(due[task.id])}"
    if dag is None:
        return "this process does not have its workflow"
    open_ones = [
        dag.ids[needed]
        for needed in dag.dependencies[dag.index[task.id]]
        if not result.tasks[dag.ids[needed]].state.terminal
    ]
    if open_ones:
        return f"waits for {', '.join(open_ones)}"
    if driver is None:
        return "ready; nobody drives the execution"
    index = dag.index[task.id]
    if driver.state.suspect(index):
        return "ready; it crashed its process before, and waits until no other such task runs"
    return "ready; waits for a free slot"
