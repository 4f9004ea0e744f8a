"""The bodies of a test runner: counted, and made to fail, to take long or to be others, without touching their code."""

from __future__ import annotations

import asyncio
import copy
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from inspect import isawaitable
from typing import Any, cast

from cloacina.engine.executors.around import BodyInfo
from cloacina.engine.executors.attempt import Attempt
from cloacina.errors import RunnerClosed, ValidationError
from cloacina.model.definition.hints import did_you_mean, listing
from cloacina.model.task import Task
from cloacina.model.workflow import Workflow
from cloacina.observe.logs import running
from cloacina.testing.hand.clock import HandClock

MADE = "failed on purpose by the test"
Body = Callable[..., Any]


@dataclass
class Mishap:
    """What befalls the next ``left`` attempts of a task: seconds to wait, an error before or after, another body."""

    left: float
    seconds: float = 0.0
    error: BaseException | type[BaseException] | None = None
    after: bool = False
    body: Body | None = None


@dataclass
class Bodies:
    """See the module's text. ``starts`` counts, by task, how often bodies really began."""

    clock: HandClock
    starts: Counter[str] = field(default_factory=Counter[str])
    moves: int = 0
    """Changes with every body that begins, ends, or waits for the clock."""
    _mishaps: dict[str, list[Mishap]] = field(default_factory=dict[str, list[Mishap]])
    _inside: dict[int, Attempt] = field(default_factory=dict[int, Attempt])
    _waiting: set[int] = field(default_factory=set[int])
    _naps: set[threading.Event] = field(default_factory=set[threading.Event])
    _closed: bool = False

    def befall(self, task: str, mishap: Mishap) -> None:
        """Let ``mishap`` come to the next attempts of a task; several at once come together."""
        self._mishaps.setdefault(task, []).append(mishap)

    def at_work(self) -> list[Attempt]:
        """The attempts whose bodies are on threads here, and do not wait for the clock or another execution."""
        return [
            attempt
            for attempt in list(self._inside.values())
            if not attempt.task_object.is_async
            and not self.waits(attempt)
            and (attempt.slot or attempt.ended)
        ]

    def waits(self, attempt: Attempt) -> bool:
        """True if a body waits for the clock, because the test delays it."""
        return id(attempt) in self._waiting

    @property
    def empty(self) -> bool:
        """True if no body runs."""
        return not self._inside

    def around(self, info: BodyInfo) -> _Stage:
        """What is wrapped around every body: an ``around_body``."""
        attempt = cast(Attempt, running.get())
        mishaps = [one for one in self._mishaps.get(info.task, ()) if one.left > 0]
        for one in mishaps:
            one.left -= 1
        return _Stage(self, attempt, mishaps)

    def close(self) -> None:
        """Let no body wait any more; those that did are told to stop."""
        self._closed = True
        for nap in list(self._naps):
            nap.set()

    # What its stages do.

    def enter(self, attempt: Attempt) -> None:
        """A body begins."""
        self.moves += 1
        self.starts[attempt.task] += 1
        self._inside[id(attempt)] = attempt

    def leave(self, attempt: Attempt) -> None:
        """A body has ended."""
        self.moves += 1
        self._inside.pop(id(attempt), None)

    async def sleep(self, attempt: Attempt, seconds: float) -> None:
        """Wait on the event loop until the clock has moved on."""
        rung = asyncio.get_running_loop().create_future()
        timer = self.clock.call_later(seconds, lambda: None if rung.done() else rung.set_result(None))
        self._waiting.add(id(attempt))
        try:
            await rung
        finally:
            timer.cancel()
            self._waiting.discard(id(attempt))
            self.moves += 1

    def nap(self, attempt: Attempt, seconds: float, loop: asyncio.AbstractEventLoop) -> None:
        """Wait on a thread until the clock has moved on. Raises `RunnerClosed` if the runner is left meanwhile."""
        nap = threading.Event()
        self._naps.add(nap)

        def begin() -> None:
            self.clock.call_later(seconds, wake)
            self._waiting.add(id(attempt))

        def wake() -> None:
            self._waiting.discard(id(attempt))
            self.moves += 1
            nap.set()

        loop.call_soon_threadsafe(begin)
        if not self._closed:
            nap.wait()
        self._naps.discard(nap)
        if self._closed:
            raise RunnerClosed("the test's runner was left while this body was delayed")


class _Stage:
    """One body's: entered before it and left after it, on the loop or on its thread."""

    def __init__(self, bodies: Bodies, attempt: Attempt, mishaps: list[Mishap]) -> None:
        self._bodies = bodies
        self._attempt = attempt
        self._mishaps = mishaps

    def __enter__(self) -> None:
        attempt, courier = self._attempt, self._attempt.courier
        self._bodies.enter(attempt)
        try:
            for seconds in self._delays():
                assert courier is not None
                self._bodies.nap(attempt, seconds, courier.loop)
            self._begin()
        except BaseException:
            self._bodies.leave(attempt)
            raise

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self._bodies.leave(self._attempt)
        if error is None:
            self._fail(after=True)

    async def __aenter__(self) -> None:
        self._bodies.enter(self._attempt)
        try:
            for seconds in self._delays():
                await self._bodies.sleep(self._attempt, seconds)
            self._begin()
        except BaseException:
            self._bodies.leave(self._attempt)
            raise

    async def __aexit__(self, kind: object, error: object, trace: object) -> None:
        self.__exit__(kind, error, trace)

    def _delays(self) -> list[float]:
        return [one.seconds for one in self._mishaps if one.seconds]

    def _begin(self) -> None:
        self._fail(after=False)
        for one in self._mishaps:
            if one.body is not None:
                self._attempt.task_object = with_body(self._attempt.task_object, one.body)

    def _fail(self, *, after: bool) -> None:
        for one in self._mishaps:
            if one.error is not None and one.after is after:
                raise one.error(MADE) if isinstance(one.error, type) else one.error.with_traceback(None)


def with_body(task: Task, body: Body) -> Task:
    """``task`` with another body, of the same kind as its own."""
    stand_in = Task(body, id=task.id)
    if stand_in.is_async and not task.is_async:
        raise ValidationError(
            f"replace: the body of task {task.id!r} is def, and what replaces it is async def: give a def"
        )
    made = copy.copy(task)

    async def awaited(*arguments: Any, **named: Any) -> Any:
        returned = stand_in.fn(*arguments, **named)
        return await returned if isawaitable(returned) else returned

    # A frozen dataclass has no other way in.
    vars(made).update(
        fn=awaited if task.is_async else stand_in.fn,
        handle_parameter=stand_in.handle_parameter,
        transaction_parameter=stand_in.transaction_parameter,
    )
    return made


def task_named(task: Task | str, workflows: list[Workflow], verb: str) -> str:
    """The id of a task of one of ``workflows``. Raises `ValidationError` if none has it."""
    id = task.id if isinstance(task, Task) else task
    known = [one.id for workflow in workflows for one in workflow.tasks]
    if id in known:
        return id
    if not known:
        raise ValidationError(
            f"{verb}({id!r}): the runner has no workflow yet: write TestRunner(workflow), or register it first"
        )
    raise ValidationError(
        f"{verb}({id!r}): no workflow of this runner has such a task: it has {listing(known)}.{did_you_mean(id, known)}"
    )
