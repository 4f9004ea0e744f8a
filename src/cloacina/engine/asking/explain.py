"""Why an execution is where it is: one current reason for it, and one per task that has not ended."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from cloacina.engine.driving.driver import Driver
from cloacina.engine.driving.records import error_of, tasks_of
from cloacina.errors import WorkflowError
from cloacina.model.dag.dag import Dag
from cloacina.model.dag.outline import Outline, short
from cloacina.model.result import Explanation, TaskResult, moment
from cloacina.model.status import AttemptState, ExecutionStatus, TaskState
from cloacina.store.rows import StoredExecution

if TYPE_CHECKING:
    from cloacina.engine.asking.access import Access
    from cloacina.engine.engine import Engine


async def explain(access: Access, stored: StoredExecution, engine: Engine | None = None) -> Explanation:
    """Explain one execution from what is stored, and from its driver if ``engine`` drives it."""
    driver = engine.life.drivers.get(stored.id) if engine is not None else None
    if stored.status.terminal:
        return Explanation(stored.id, stored.status, error_of(stored) or "it has ended", {})
    all_tasks = tasks_of(stored, await access.task_ids(stored.workflow, stored.version))
    reason = await _execution_reason(access, stored, engine)
    dag = await _dag(access, stored, engine)
    due = {row.task: row.retry_at for row in stored.attempts if row.retry_at is not None}
    aside = "its execution was set aside" if stored.status is ExecutionStatus.PARKED else None
    tasks = {
        task.id: aside or _task_reason(task, all_tasks, dag, driver, due) or _ready(stored, driver, task.id)
        for task in all_tasks.values()
        if not task.state.terminal
    }
    return Explanation(stored.id, stored.status, reason, tasks)


async def _dag(access: Access, stored: StoredExecution, engine: Engine | None) -> Dag | None:
    """The DAG that an execution follows: this process's own, else what the database knows of its version."""
    workflow = engine.registry.find(stored.workflow) if engine is not None else None
    if workflow is not None and workflow.version == stored.version:
        return workflow.dag
    found = await access.reader.run(lambda store: store.dag(stored.workflow, stored.version))
    try:
        return Outline.read(stored.version, found[1]).dag if found is not None else None
    except WorkflowError:
        return None


async def _execution_reason(access: Access, stored: StoredExecution, engine: Engine | None) -> str:
    if stored.status is ExecutionStatus.PARKED:
        return error_of(stored) or "it was set aside"
    if stored.status is ExecutionStatus.PAUSED:
        nobody = await _nobody_has_it(access, stored, engine) if stored.owner is None else None
        return "nothing starts until resume() is called for it" + (f"; {nobody}" if nobody else "")
    if engine is not None and stored.id in engine.life.drivers:
        return f"driven by this process, runner {engine.life.runner}"
    if engine is not None and stored.id in engine.life.refusals.given_up:
        return engine.life.refusals.given_up[stored.id]
    if stored.owner is not None:
        return f"driven by runner {stored.owner}"
    nobody = await _nobody_has_it(access, stored, engine)
    if nobody is not None:
        return nobody
    if stored.wake_at is not None:
        return f"stored away until something is due, at {moment(stored.wake_at)}"
    return "stored, and waiting for a runner with room to claim it"


async def _nobody_has_it(access: Access, stored: StoredExecution, engine: Engine | None) -> str | None:
    """Why no runner can claim an execution, and what to do; None if one can."""
    if await access.reader.run(lambda store: store.offered(stored.workflow, stored.version)):
        return None
    versions = await access.reader.run(lambda store: store.versions(stored.workflow))
    if versions == [stored.version]:
        return f"no live runner has workflow {stored.workflow!r}: start one that does"
    wanted = f"no live runner has version {short(stored.version)} of workflow {stored.workflow!r}"
    own = engine.registry.find(stored.workflow) if engine is not None else None
    if own is not None and own.on_version == "pin":
        return (
            f'{wanted}, and version {short(own.version)} of this runner leaves it alone (on_version="pin"): '
            "start a runner that has the old version, or cancel it and do it again with fork()"
        )
    known = ", ".join(map(short, versions)) or "none"
    return f"{wanted} (known versions: {known}): start one that does, or one with a version that can take it over"


def _task_reason(
    task: TaskResult,
    tasks: Mapping[str, TaskResult],
    dag: Dag | None,
    driver: Driver | None,
    due: Mapping[str, int],
) -> str | None:
    """Why a task has not ended; None if it is ready."""
    if task.state is TaskState.RUNNING:
        last = task.history[-1]
        mine = [] if driver is None else [a for a in driver.running.values() if a.task == task.id]
        more = ", and waits for another execution" if any(attempt.yielded for attempt in mine) else ""
        if any(attempt.transaction is not None and attempt.transaction.waits for attempt in mine):
            more = ", and waits until one of the connections for transactions is free"
        return f"attempt {last.number} has run since {last.started}{more}"
    if task.state is TaskState.WAITING and task.history[-1].state is AttemptState.DEFERRED:
        return _deferral(task, driver)
    if task.state is TaskState.WAITING:
        return f"attempt {task.history[-1].number} failed ({task.error}); its retry is due at {moment(due[task.id])}"
    if dag is None or task.id not in dag:
        return "what it depends on cannot be told: the database does not know this version of its workflow"
    open_ones = [
        dag.ids[needed]
        for needed in dag.dependencies[dag.index[task.id]]
        if not tasks[dag.ids[needed]].state.terminal
    ]
    if open_ones:
        return f"waits for {', '.join(open_ones)}"
    return None


def _ready(stored: StoredExecution, driver: Driver | None, task: str) -> str:
    if stored.status is ExecutionStatus.PAUSED:
        return "ready; its execution is paused"
    if driver is None:
        drives = "nobody" if stored.owner is None else "another runner"
        return f"ready; {drives} drives the execution"
    if driver.state.suspect(driver.workflow.dag.index[task]):
        return "ready; it crashed its process before, and waits until no other such task runs"
    return "ready; waits for a free slot"


def _deferral(task: TaskResult, driver: Driver | None) -> str:
    number = task.history[-1].number
    for attempt in driver.running.values() if driver is not None else ():
        errands = attempt.errands if attempt.task == task.id else None
        if errands is not None and errands.deferred is not None:
            return f"attempt {number} is deferred: its condition is looked at every {errands.deferred:g}s"
    return f"attempt {number} is deferred: the runner that has it looks at its condition"
