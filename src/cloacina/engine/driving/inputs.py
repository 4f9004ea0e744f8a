"""The input of a stored execution, as its workflow's model reads it.

A runner stores no input that does not fit, but who submits without the code of the workflow cannot tell, and a
model may have changed since. So what was stored is fitted again, each time that a driver takes it over.
"""

from __future__ import annotations

from typing import cast

from cloacina.engine.driving.records import input_of
from cloacina.errors import ContextError, InputError
from cloacina.logic.execution import ExecutionState
from cloacina.model.context.inputs import InputModel
from cloacina.model.json.patch import as_view
from cloacina.model.json.values import JSON, MAX_DEPTH, Limits, encode, to_json
from cloacina.model.workflow import Workflow
from cloacina.store.rows import StoredExecution

_ANY_SIZE = Limits(2**31, 2**31, MAX_DEPTH)


def take_input(state: ExecutionState, workflow: Workflow, stored: StoredExecution) -> bool:
    """Let the tasks see the stored input, with the model's conversions and defaults; False if they must not start.

    An execution that has begun goes on with the input that it has, though that fits no longer: its bodies may know it.
    """
    state.views.input = as_view(input_of(stored), stored.input)
    if workflow.inputs is not None:
        try:
            fitted = _fitted(state, workflow, workflow.inputs)
        except (ContextError, InputError):
            return bool(stored.attempts)
        state.views.input = as_view(fitted, encode(fitted))
    return True


def why_unfit(state: ExecutionState, workflow: Workflow) -> str:
    """Why `take_input` said that the tasks must not start."""
    try:
        if workflow.inputs is not None:
            _fitted(state, workflow, workflow.inputs)
    except (ContextError, InputError) as error:
        return str(error)
    return "its input did not fit the workflow's model when it was claimed"


def _fitted(state: ExecutionState, workflow: Workflow, model: InputModel) -> dict[str, JSON]:
    found = model.fit(state.views.input, f"the input of workflow {workflow.name!r}")
    return cast("dict[str, JSON]", to_json(found, limits=_ANY_SIZE))
