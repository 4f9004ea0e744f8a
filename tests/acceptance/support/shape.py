"""A shape: a workflow that the acceptance tests run, and what an execution of it must come to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from acceptance.support.ledger import ledger, say
from cloacina.engine.executors.callbacks import CallbackInfo
from cloacina.model.context.context import Context
from cloacina.model.retry import RetryPolicy
from cloacina.model.workflow import Workflow

SOON = RetryPolicy(max_attempts=3, initial_delay=0.01, backoff="fixed", jitter=0)


class Shape(NamedTuple):
    """A workflow, the context that an execution of input ``{"n": n}`` ends with, and its tasks' states."""

    workflow: Workflow
    context: Callable[[int], dict[str, Any]]
    """A value ``...`` stands for any."""
    status: str = "completed"
    states: Mapping[str, str] = {}
    """Only tasks that do not complete; two words if either may be."""
    deed: str = ""
    """What whoever submits it does to it: ``cancel``, ``pause``, ``retry``, ``fork``."""
    forked: Callable[[int], dict[str, Any]] | None = None
    """The context of its forks, which complete."""
    newer: Workflow | None = None
    """Its next version."""


def over(context: Context, info: CallbackInfo) -> None:
    ledger().write("over", info.execution, info.status)
    say("over", info.workflow, info.execution)


def workflow(name: str, **options: Any) -> Workflow:
    return Workflow(name, on_success=over, on_failure=over, **options)
