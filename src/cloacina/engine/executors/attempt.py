"""One attempt: the running of one task's function, and how it ended."""

from __future__ import annotations

import asyncio
import inspect
import traceback
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, NamedTuple

from cloacina.errors import PermanentError
from cloacina.logic.delays import Failure
from cloacina.model.context.context import Context
from cloacina.model.definition.declared import undeclared
from cloacina.model.definition.hints import listing
from cloacina.model.json.patch import Patch
from cloacina.model.result import ErrorInfo
from cloacina.model.status import AttemptState
from cloacina.model.task import Task
from cloacina.observe.logs import running

if TYPE_CHECKING:
    from cloacina.clock import Timer
    from cloacina.engine.bodies.courier import Courier
    from cloacina.engine.bodies.errands import Errands
    from cloacina.engine.executors.timelimit import TimeLimit
    from cloacina.store.transactions import OpenTransaction

ERROR_BYTES = 8_192


class Ending(NamedTuple):
    """How a body ended: what it changed, or the error it failed with, or what another process told of that."""

    state: AttemptState
    patch: Patch | None = None
    error: BaseException | Failure | None = None


CANCELLED = Ending(AttemptState.CANCELLED)


class Attempt:
    """A started attempt, from its committed start to its ending.

    ``done`` is called once, on the loop, with the ending; a body that goes on after that is refused.
    """

    __slots__ = (
        "attempt", "closed", "context", "courier", "done", "ended", "errands", "execution", "index", "launched",
        "left", "limit", "off", "slot", "started", "stopping", "suspect", "task", "task_object", "timers",
        "transaction", "work", "workflow", "written_off", "yielded",
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
        self.context: Context = _NOTHING
        self.done: Callable[[Attempt, Ending], None] = _ignore
        self.slot = False
        """True while it holds a slot: from its grant to its end, but for the waits that it gave it up for."""
        self.launched = False
        """True once its executor has it."""
        self.ended = False
        self.closed = False
        """True once its end is decided, though it may not be committed: a body that has not begun never will."""
        self.written_off = False
        """True if its body could not be stopped when the attempt ended."""
        self.left: Callable[[], None] | None = None
        """Called when a written-off body really ends."""
        self.off = False
        """True once a written-off body has really ended."""
        self.stopping: AttemptState | None = None
        """Why the body was told to stop, if it was."""
        self.work: asyncio.Task[None] | None = None
        self.timers: list[Timer] | None = None
        self.limit: TimeLimit | None = None
        """The clock of the task's timeout, while there is one."""
        self.courier: Courier | None = None
        """Where its body has something stored while it runs."""
        self.errands: Errands | None = None
        """What its body had done there, once it asked for something."""
        self.transaction: OpenTransaction | None = None
        """What its body writes through, if its task takes one; None again once that has ended."""
        self.yielded = 0
        """How many waits it gave its slot up for have not ended."""

    def due(self, timer: Timer) -> None:
        """Call ``timer`` off when the attempt ends."""
        if self.timers is None:
            self.timers = []
        self.timers.append(timer)

    def hold_clock(self) -> None:
        """Stop the clock of the timeout."""
        if self.limit is not None:
            self.limit.hold()

    def run_clock(self) -> None:
        """Let the clock of the timeout go on."""
        if self.limit is not None and not self.ended:
            self.limit.run()

    def call(self) -> object:
        """Call the body: the result, or a coroutine."""
        running.set(self)
        task = self.task_object
        if (task.handle_parameter is None and task.transaction_parameter is None) or self.courier is None:
            return task.fn(self.context)
        return task.fn(self.context, **self.courier.given(self))

    def write_off(self) -> None:
        """End though the body goes on."""
        if not self.ended:
            self.written_off = True
            self.end(self.conclude(None, None))

    def leave(self) -> None:
        """The body that was written off has really ended."""
        self.off = True
        if self.left is not None:
            self.left()

    def end(self, ending: Ending) -> None:
        """Report the ending, once."""
        if self.limit is not None:
            self.limit.hold()
            self.limit = None
        if self.timers is not None:
            for timer in self.timers:
                timer.cancel()
            self.timers = None
        if not self.ended:
            self.ended = True
            errands, self.errands = self.errands, None
            if errands is not None:
                errands.end()
            if self.task_object.writes is not None and ending.patch:
                ending = self._within(self.task_object.writes, ending.patch, ending)
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

    def _within(self, writes: frozenset[str], patch: Patch, ending: Ending) -> Ending:
        """The ending, or a failure if the body changed a key that ``writes=`` does not name."""
        strange = undeclared(writes, patch)
        if not strange:
            return ending
        refusal = (
            f"task {self.task!r} of workflow {self.workflow!r} changed {listing(strange)}, which its writes= does "
            "not name: add that to writes=, or leave it as it is"
        )
        return Ending(AttemptState.FAILED, error=PermanentError(refusal))

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


def describe(error: BaseException | Failure) -> ErrorInfo:
    """An error as it is stored: cleaned, cut to 8 KB, and safe to make from any exception whatever."""
    if isinstance(error, Failure):
        return error.info
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


_ENGINE = frozenset(
    f"{__package__}.{module}"
    for module in ("around", "attempt", "loop", "threads", "process.main", "process.bodies")
)


def clean(text: str, limit: int) -> str:
    """``text`` without NUL and lone surrogates, cut to ``limit`` bytes of UTF-8."""
    data = str(text[: limit + 1]).replace("\0", "\\0").encode("utf-8", "backslashreplace")
    if len(data) <= limit:
        return data.decode()
    return data[: limit - 3].decode("utf-8", "ignore") + "…"


def _ignore(attempt: Attempt, ending: Ending) -> None:
    return None


_NOTHING: Context = None  # type: ignore[assignment]  # set before the body starts
