"""What a body that runs can ask of its attempt: to be deferred, and to store a checkpoint."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from cloacina.model.definition.durations import Duration

if TYPE_CHECKING:
    from cloacina.model.context.context import Context
    from cloacina.model.context.keys import Key

Look: TypeAlias = "Callable[[], bool | Awaitable[bool]]"
"""A condition that `TaskHandle.defer_until` looks at."""


class TaskHandle(Protocol):
    """The attempt that a body runs in. A body gets one for a parameter of this type, or named ``handle``.

    ``execution``, ``workflow``, ``task`` and ``attempt`` say which it is; execution and task together name the
    work in every attempt, which makes them a good idempotency key for other systems.
    """

    @property
    def execution(self) -> str:
        """The id of the execution."""
        ...

    @property
    def workflow(self) -> str:
        """The name of the workflow."""
        ...

    @property
    def task(self) -> str:
        """The id of the task."""
        ...

    @property
    def attempt(self) -> int:
        """The number of the attempt, from 1."""
        ...

    def defer_until(self, condition: Look, poll_interval: Duration) -> Awaitable[None]:
        """Wait without a slot until ``condition()`` is true; await it in an ``async`` body.

        It looks at once and goes on if the condition holds. Otherwise the attempt is stored as deferred, its slot
        is free, its timeout stands still, and it looks again each ``poll_interval``, in seconds or as a
        timedelta. Before this returns or raises, the attempt has a slot again and is stored as running. After
        a crash or a shutdown the body runs again from its beginning, which counts as no crash.

        In a ``def`` body this is a plain call that returns when the wait is over; the condition is called on
        the body's thread. What the condition raises is raised here. Raises `ValidationError` for an interval
        that is no time, `PermanentError` if the attempt is deferred already or has ended. A body that is told
        to stop meanwhile gets `asyncio.CancelledError`, in a thread too.
        """
        ...


class Checkpoints(Protocol):
    """Where the checkpoints of a running attempt are stored."""

    def checkpoint(self, context: Context, name: str | Key[Any], fn: Callable[[], Any]) -> Any:
        """See `Context.checkpoint`."""
        ...
