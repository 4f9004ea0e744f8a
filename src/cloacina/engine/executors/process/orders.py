"""Orders: what a child is told about an attempt, and which tasks can be told to one at all."""

from __future__ import annotations

from typing import cast

import msgspec

from cloacina.engine.executors.attempt import Attempt
from cloacina.engine.executors.process.place import Place, place_of
from cloacina.engine.executors.process.wire import NULL, Judge, Order
from cloacina.engine.executors.protocol import ExecutorHost
from cloacina.errors import ValidationError
from cloacina.model.context.context import Context
from cloacina.model.json.values import encode
from cloacina.model.retry import RetryPolicy
from cloacina.model.task import Task


def checked(task: Task, policy: RetryPolicy) -> None:
    """Raise `ValidationError` if no other process can run ``task``."""
    if task.handle_parameter is not None:
        raise ValidationError(
            f"its parameter {task.handle_parameter!r} asks for a TaskHandle, which exists in the runner's process "
            "only: wait in a task of its own that runs there, and let this one depend on it"
        )
    if task.transaction_parameter is not None:
        raise ValidationError(
            f"its parameter {task.transaction_parameter!r} asks for a transaction, which exists in the runner's "
            "process only: let the body run there"
        )
    place_of(task.fn)
    try:
        judge_of(policy)
    except ValidationError as refused:
        raise ValidationError(f"its retry_on is asked where the body runs, and {refused}") from refused


def judge_of(policy: RetryPolicy) -> Judge:
    """What a child needs in order to ask ``retry_on``. Raises `ValidationError` if it would not find that."""
    wanted = policy.retry_on
    if isinstance(wanted, str):
        return Judge(wanted)
    if isinstance(wanted, tuple):
        return Judge(types=tuple(map(place_of, cast("tuple[object, ...]", wanted))))
    return Judge(predicate=place_of(wanted))


class Orders:
    """Makes orders; what is the same for every attempt of a task is worked out once."""

    def __init__(self, host: ExecutorHost) -> None:
        self._host = host
        self._known: dict[tuple[str, str], tuple[Place, Judge]] = {}

    def order(self, attempt: Attempt) -> Order:
        """The order for an attempt."""
        key = (attempt.workflow, attempt.task)
        known = self._known.get(key)
        if known is None:
            policy = self._host.policy(attempt)
            known = self._known[key] = place_of(attempt.task_object.fn), judge_of(policy)
        view, source = _texts(attempt.context)
        return Order(attempt.execution, attempt.workflow, attempt.task, attempt.attempt, *known, view, source)


def _texts(context: Context) -> tuple[msgspec.Raw, msgspec.Raw]:
    """The view and, if it is another document, the input of the execution, else null."""
    # A fresh context is nothing but these two; a body has other ways to look at them.
    base, source = context._base, context._input  # pyright: ignore[reportPrivateUsage]
    view = msgspec.Raw(encode(base).encode())
    if source is None or source is base:
        return view, msgspec.Raw(NULL)
    return view, msgspec.Raw((source if isinstance(source, str) else encode(source)).encode())
