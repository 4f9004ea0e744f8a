"""One attempt: the running of one task's function, and how it ended."""

from __future__ import annotations

import asyncio
import inspect
import traceback
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, NamedTuple

from cloacina.errors import PermanentError
from cloacina.model.context import Context
from cloacina.model.json.patch import Patch
from cloacina.model.result import ErrorInfo
from cloacina.model.status import AttemptState
from cloacina.model.task import Task

if TYPE_CHECKING:
    from cloacina.clock import Timer

ERROR_BYTES = 8_192


class Ending(NamedTuple):
    """How a body ended: what it changed, or the error it failed with."""

    state: AttemptState
    patch: Patch | None = None
    error: BaseException | None = None


class Attempt:
    """A started attempt, from its committed start to its ending.

    ``done`` is called once, on the loop, with the ending; a body that goes on after that is refused.
    """

    __slots__ = (
        "attempt", "context", "done", "ended", "execution", "index", "launched", "left", "off", "priority", "started",
        "stopping", "suspect", "task", "task_object", "timers", "work", "workflow", "yielded",
    )  # fmt: skip

    def __init__(
        self, execution: str, workflow: str, task: Task, index: int, number: int, started: int, suspect: bool
    ) -> None:
        self.execution = execution
        self.workflow = workflow
        self.task_object = task
        self.task = task.id
        self.index = index
        self.attempt = number
        self.started = started
        self.suspect = suspect
        self.priority = 0
        self.context: Context = _NOTHING
        self.done: Callable[[Attempt, Ending], None] = _ignore
        self.launched = False
        self.ended = False
        self.left: Callable[[], None] | None = None
        """Called when a written-off body really ends."""
        self.off = False
        """True once a written-off body has really ended."""
        self.stopping: AttemptState | None = None
        """Why the body was told to stop, if it was."""
        self.work: asyncio.Task[None] | None = None
        self.timers: list[Timer] | None = None
        self.yielded = 0
        """How many waits for other executions hold back the slot."""

    def due(self, timer: Timer) -> None:
        """Call ``timer`` off when the attempt ends."""
        if self.timers is None:
            self.timers = []
        self.timers.append(timer)

    def end(self, ending: Ending) -> None:
        """Report the ending, once."""
        if self.timers is not None:
            for timer in self.timers:
                timer.cancel()
            self.timers = None
        if not self.ended:
            self.ended = True
            self.done(self, ending)

    def conclude(self, returned: object, error: BaseException | None) -> Ending:
        """The ending that follows from what the body returned or raised."""
        if self.stopping is not None:
            return Ending(self.stopping, error=self._stop_error(error))
        if error is not None:
            return Ending(AttemptState.FAILED, error=error)
        if returned is not None and returned is not self.context:
            return Ending(AttemptState.FAILED, error=PermanentError(self._returned(returned)))
        try:
            return Ending(AttemptState.COMPLETED, patch=self.context.patch())
        except BaseException as refused:  # the objects that a body left in a list have code of their own
            return Ending(AttemptState.FAILED, error=refused)

    def _stop_error(self, error: BaseException | None) -> BaseException | None:
        if self.stopping is AttemptState.TIMED_OUT:
            return TimeoutError(
                f"task {self.task!r} ran longer than its timeout of {self.task_object.timeout}s"
            )
        return error

    def _returned(self, returned: object) -> str:
        if inspect.iscoroutine(returned):
            return (
                f"task {self.task!r} of workflow {self.workflow!r} returned a coroutine that nobody awaited: "
                "make the body async def, and await what it calls"
            )
        return (
            f"task {self.task!r} of workflow {self.workflow!r} returned {type(returned).__name__}: "
            "return None, or the context it was given; put results into the context"
        )


def describe(error: BaseException) -> ErrorInfo:
    """An error as it is stored: cleaned, cut to 8 KB, and safe to make from any exception whatever."""
    kind = type(error)

    def trace() -> str:
        return "".join(traceback.format_exception(kind, error, _of_the_body(error), limit=-20))

    return ErrorInfo(
        _told("type", lambda: _qualified(kind), 200),
        _told("text", lambda: str(error), ERROR_BYTES),
        _told("traceback", trace, ERROR_BYTES),
    )


def _told(what: str, make: Callable[[], str], limit: int) -> str:
    try:
        return clean(make(), limit)
    except BaseException as broken:
        return f"<the error's {what} cannot be made: {_NAME(type(broken))}>"


def _qualified(kind: type) -> str:
    module, name = _MODULE(kind), _NAME(kind)
    return name if module == "builtins" else f"{module}.{name}"


# A class may have any metaclass, which may say anything when it is asked for a name.
_NAME: Callable[[type], str] = type.__dict__["__qualname__"].__get__
_MODULE: Callable[[type], str] = type.__dict__["__module__"].__get__


def _of_the_body(error: BaseException) -> TracebackType | None:
    """The traceback without the engine's own frames, which tell a user nothing."""
    trace = error.__traceback__
    while (
        trace is not None
        and trace.tb_next is not None
        and trace.tb_frame.f_globals.get("__name__") in _ENGINE
    ):
        trace = trace.tb_next
    return trace


_ENGINE = frozenset({"cloacina.engine.executors.local", __name__})


def clean(text: str, limit: int) -> str:
    """``text`` without NUL and lone surrogates, cut to ``limit`` bytes of UTF-8."""
    data = str(text[: limit + 1]).replace("\0", "\\0").encode("utf-8", "backslashreplace")
    if len(data) <= limit:
        return data.decode()
    return data[: limit - 3].decode("utf-8", "ignore") + "…"


def _ignore(attempt: Attempt, ending: Ending) -> None:
    return None


_NOTHING: Context = None  # type: ignore[assignment]  # set before the body starts
