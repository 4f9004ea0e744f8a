"""Bodies in a child process: each is found once, then called for every order that names it."""

from __future__ import annotations

import asyncio
import contextvars
import os
import sys
from collections.abc import Awaitable
from contextlib import suppress
from typing import Any, cast

import msgspec

from cloacina.engine.bodies.notebook import Notebook
from cloacina.engine.executors.attempt import Attempt, describe
from cloacina.engine.executors.process.interrupt import Interrupt
from cloacina.engine.executors.process.place import MainModule, Place, is_main, load_main
from cloacina.engine.executors.process.wire import NULL, Ask, Begun, Done, Failed, Judge, Link, Order, Reply
from cloacina.errors import PermanentError, TransientError
from cloacina.logic.delays import worth_another
from cloacina.model.context.context import Context
from cloacina.model.json.patch import as_view
from cloacina.model.json.values import JSON, Limits, decode, encode
from cloacina.model.retry import RetryOn
from cloacina.model.status import AttemptState
from cloacina.model.task import Task

_NO_INPUT = msgspec.Raw(NULL)


class Bodies:
    """Runs one body after the other: see the module's text."""

    def __init__(self, link: Link, limits: Limits, main: MainModule | None, interrupt: Interrupt) -> None:
        self._link = link
        self._limits = limits
        self._main = main
        self._interrupt = interrupt
        self._pid = os.getpid()
        self._tasks: dict[Place, Task] = {}
        self._judges: dict[Judge, RetryOn] = {}

    def run(self, order: Order) -> Done | Failed:
        """Run the body that ``order`` names; what came of it."""
        try:
            task, wanted = self._task(order.body), self._judge(order.judge)
        except BaseException as unfound:
            refused = PermanentError(
                f"{order.body} could not be loaded in the child process: {describe(unfound)}"
            )
            refused.__cause__ = unfound
            return Failed(describe(refused), False)
        attempt = Attempt(order.execution, order.workflow, task, 0, order.attempt, 0, False)
        attempt.task = order.task
        attempt.context = self._context(order, task)
        self._link.send(Begun())
        returned, error = self._call(attempt)
        if os.getpid() != self._pid:
            os._exit(0)  # the body forked, and this is the fork: the answer is its parent's affair
        ending = attempt.conclude(returned, error)
        self._print_all()
        if ending.state is AttemptState.COMPLETED:
            return Done(msgspec.Raw(encode(cast(JSON, ending.patch)).encode()))
        failure = cast(BaseException, ending.error)
        worth = worth_another(wanted, failure)  # which may add a note to the error
        return Failed(describe(failure), worth)

    def _call(self, attempt: Attempt) -> tuple[object, BaseException | None]:
        try:
            with self._interrupt.armed():
                if attempt.task_object.is_async:
                    return contextvars.Context().run(self._run_loop, attempt)
                return contextvars.Context().run(attempt.call), None
        except BaseException as error:
            return None, error

    def _run_loop(self, attempt: Attempt) -> tuple[object, BaseException | None]:
        return asyncio.run(self._awaited(attempt))

    async def _awaited(self, attempt: Attempt) -> tuple[object, BaseException | None]:
        try:
            with self._interrupt.aimed():
                return await cast("Awaitable[object]", attempt.call()), None
        except BaseException as error:
            return None, error

    def _context(self, order: Order, task: Task) -> Context:
        text = bytes(order.view).decode()
        view = as_view(cast("dict[str, JSON]", decode(text)), text)
        source = None if order.input == _NO_INPUT else bytes(order.input).decode()
        notebook = Notebook(_Book(self._link), self._limits, is_async=task.is_async)
        return Context.over(view, self._limits, input=source, checkpoints=notebook)

    def _task(self, place: Place) -> Task:
        task = self._tasks.get(place)
        if task is None:
            found = self._find(place)
            task = self._tasks[place] = (
                found if isinstance(found, Task) else Task(cast(Any, found), id="body")
            )
        return task

    def _judge(self, judge: Judge) -> RetryOn:
        wanted = self._judges.get(judge)
        if wanted is None:
            if judge.predicate is not None:
                wanted = cast(RetryOn, self._find(judge.predicate))
            elif judge.types:
                wanted = cast(RetryOn, tuple(self._find(place) for place in judge.types))
            else:
                wanted = cast(RetryOn, judge.word)
            self._judges[judge] = wanted
        return wanted

    def _find(self, place: Place) -> object:
        if is_main(place) and self._main is not None:
            load_main(self._main)
            self._main = None
        return place.find()

    def _print_all(self) -> None:
        for stream in (sys.stdout, sys.stderr):
            with suppress(Exception):  # a body may have closed or replaced it
                cast(Any, stream).flush()


class _Book:
    """The checkpoints of one body, kept by the runner: asked for over the wire."""

    def __init__(self, link: Link) -> None:
        self._link = link

    async def stored(self) -> dict[str, str]:
        return self._ask(Ask()) or {}

    async def store(self, name: str, value: str) -> None:
        self._ask(Ask(name, value))

    def _ask(self, ask: Ask) -> dict[str, str] | None:
        self._link.send(ask)
        reply = self._link.receive()
        if not isinstance(reply, Reply):
            raise SystemExit("the runner is gone")
        if reply.refusal is not None:
            raise (PermanentError if reply.permanent else TransientError)(reply.refusal)
        return reply.value
