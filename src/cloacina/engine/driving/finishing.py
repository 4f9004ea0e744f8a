"""The finish of an execution: how it ends, why, and with what result."""

from __future__ import annotations

from cloacina.engine.driving.draft import Draft
from cloacina.engine.driving.inputs import why_unfit
from cloacina.errors import ContextError
from cloacina.logic.execution import ExecutionState
from cloacina.model.json.values import encode
from cloacina.model.status import ExecutionStatus, Reason, TaskState
from cloacina.model.workflow import Workflow


def finish(draft: Draft, state: ExecutionState, workflow: Workflow, cause: Reason | None, now: int) -> None:
    """Write down the end of an execution whose tasks have all ended; ``cause`` is why it was cut short, if it was."""
    status, error = _verdict(draft, state, workflow, cause if state.cut_short else None)
    try:
        result = encode(state.views.result())
    except ContextError as refused:
        result = draft.input
        if status is ExecutionStatus.COMPLETED:
            status, error = ExecutionStatus.FAILED, f"the result's context cannot be built: {refused}"
    draft.finish(status, result, error, now)


def _verdict(
    draft: Draft, state: ExecutionState, workflow: Workflow, cause: Reason | None
) -> tuple[ExecutionStatus, str | None]:
    if cause is Reason.CANCELLED:
        return ExecutionStatus.CANCELLED, None
    if cause is Reason.INVALID_INPUT:
        return ExecutionStatus.FAILED, why_unfit(state, workflow)
    if cause is not None:
        why = f"the execution ran longer than its workflow's timeout of {workflow.timeout}s"
        return ExecutionStatus.FAILED, why
    ended, states = state.outcome(), state.standing.states
    failed = [index for index in ended.unpassed if states[index] is TaskState.FAILED]
    return ended.status, draft.why_failed(failed or ended.unpassed)
