"""The calling of users' functions after an end was stored: which one it is, and what it is told."""

from __future__ import annotations

from typing import cast

from cloacina.engine.driving.driver import Driver
from cloacina.engine.executors.callbacks import CallbackInfo, Callbacks
from cloacina.errors import ContextError
from cloacina.model.context.context import Context
from cloacina.model.json.values import JSON, Limits, decode
from cloacina.model.result import ErrorInfo
from cloacina.model.status import ExecutionStatus, TaskState


def call_for_task(
    callbacks: Callbacks,
    driver: Driver,
    limits: Limits,
    index: int,
    state: TaskState,
    error: ErrorInfo | None,
) -> None:
    """A task has ended for good: call its ``on_success`` or ``on_failure``, if it has one for that."""
    task, views = driver.state.dag.tasks[index], driver.state.views
    callback = {TaskState.COMPLETED: task.on_success, TaskState.FAILED: task.on_failure}.get(state)
    if callback is None:
        return
    try:
        view = views.after(index)
    except ContextError:
        view = views.input
    attempts = driver.state.attempts[index]
    info = CallbackInfo(driver.id, driver.workflow.name, state, task.id, attempts, error)
    callbacks.call(callback, Context.over(view, limits, read_only=True, input=views.input), info)


def call_for_execution(callbacks: Callbacks, driver: Driver, limits: Limits) -> None:
    """An execution has ended: call its workflow's ``on_success`` or ``on_failure``, if it has one for that."""
    workflow, ended, status = driver.workflow, driver.draft.progress, driver.status
    by_status = {
        ExecutionStatus.COMPLETED: workflow.on_success,
        ExecutionStatus.FAILED: workflow.on_failure,
    }
    callback = by_status.get(status)
    if callback is None or ended is None:
        return
    view = cast("dict[str, JSON]", decode(ended.result or "{}"))
    info = CallbackInfo(driver.id, workflow.name, status, error=ended.error)
    context = Context.over(view, limits, read_only=True, input=driver.state.views.input)
    callbacks.call(callback, context, info)
