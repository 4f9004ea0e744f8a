"""What is wrapped around bodies: a context manager of the application, such as one that tidies up connections."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AbstractContextManager, AsyncExitStack
from dataclasses import dataclass
from typing import Any, TypeAlias, cast

from cloacina.engine.executors.attempt import Attempt
from cloacina.errors import PermanentError


@dataclass(frozen=True, slots=True)
class BodyInfo:
    """Which body is about to run: the ids of execution and task, the workflow's name, the attempt's number."""

    execution: str
    workflow: str
    task: str
    attempt: int


AroundBody: TypeAlias = Callable[
    [BodyInfo], AbstractContextManager[Any, Any] | AbstractAsyncContextManager[Any, Any]
]
"""Makes what is wrapped around one body: entered before it and left after it, on the thread where it runs.

A ``def`` body takes a plain context manager, an ``async def`` body either kind. What it raises fails the attempt
as if the body had raised it. It cannot hide that a body failed.
"""


def call_inside(around: AroundBody, attempt: Attempt) -> object:
    """Call a ``def`` body inside its context manager."""
    manager = around(_info(attempt))
    if not isinstance(manager, AbstractContextManager):
        raise _unfit(manager, attempt, "a context manager, since the body is `def`")
    failure: BaseException | None = None
    returned: object = None
    with manager:
        try:
            returned = attempt.call()
        except BaseException as error:
            failure = error
            raise
    if failure is not None:
        raise failure
    return returned


async def await_inside(around: AroundBody, attempt: Attempt) -> object:
    """Call and await an ``async def`` body inside its context manager."""
    manager = around(_info(attempt))
    failure: BaseException | None = None
    returned: object = None
    async with AsyncExitStack() as stack:
        if isinstance(manager, AbstractAsyncContextManager):
            await stack.enter_async_context(manager)
        elif isinstance(manager, AbstractContextManager):  # pyright: ignore[reportUnnecessaryIsInstance]
            stack.enter_context(manager)
        else:
            raise _unfit(manager, attempt, "a context manager, plain or asynchronous")
        try:
            returned = await cast("Awaitable[object]", attempt.call())
        except BaseException as error:
            failure = error
            raise
    if failure is not None:
        raise failure
    return returned


def _info(attempt: Attempt) -> BodyInfo:
    return BodyInfo(attempt.execution, attempt.workflow, attempt.task, attempt.attempt)


def _unfit(manager: object, attempt: Attempt, needed: str) -> PermanentError:
    return PermanentError(
        f"around_body gave {type(manager).__name__} for task {attempt.task!r} of workflow {attempt.workflow!r}: return "
        f"{needed}"
    )
