"""The handle that a body is given of its own attempt."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Generator
from typing import TYPE_CHECKING

from cloacina.engine.bodies.notebook import to_end
from cloacina.errors import PermanentError, ValidationError
from cloacina.model.context.handle import Look, TaskHandle
from cloacina.model.definition.durations import Duration, seconds
from cloacina.model.definition.hints import shown

if TYPE_CHECKING:
    from cloacina.engine.bodies.errands import Errands


class AttemptHandle(TaskHandle):
    """See `TaskHandle`."""

    def __init__(self, errands: Errands) -> None:
        self._errands = errands
        self._attempt = errands.attempt

    @property
    def execution(self) -> str:
        return self._attempt.execution

    @property
    def workflow(self) -> str:
        return self._attempt.workflow

    @property
    def task(self) -> str:
        return self._attempt.task

    @property
    def attempt(self) -> int:
        return self._attempt.attempt

    def defer_until(self, condition: Look, poll_interval: Duration) -> Awaitable[None]:
        if not callable(condition):
            if inspect.iscoroutine(condition):
                condition.close()
            raise ValidationError(
                f"condition={shown(condition)} cannot be called: hand over the function itself, with "
                "functools.partial if it takes arguments"
            )
        interval = seconds("poll_interval", poll_interval)
        work = self._defer_until(condition, interval)
        if self._errands.is_async:
            return work
        to_end(work)
        return _DONE

    async def _defer_until(self, condition: Look, interval: float) -> None:
        if await self._holds(condition):
            return
        errands = self._errands
        if errands.deferred is not None:
            raise PermanentError(
                f"task {self.task!r} is deferred already: one body waits for one condition at a time"
            )
        if self._attempt.transaction is not None and self._attempt.transaction.begun:
            raise PermanentError(
                f"task {self.task!r} cannot be deferred while its transaction is open: wait before its first statement"
            )
        errands.deferred = interval
        without_slot = False
        try:
            await errands.done(errands.courier.defer(self._attempt))
            without_slot = True
            while True:
                await errands.done(errands.courier.sleep(self._attempt, interval))
                if await self._holds(condition):
                    break
        finally:
            try:
                await errands.done(errands.courier.go_on(self._attempt, without_slot=without_slot))
            finally:
                errands.deferred = None

    async def _holds(self, condition: Look) -> bool:
        found = condition()
        if inspect.isawaitable(found):
            return bool(await self._errands.done(_result_of(found)))
        return bool(found)

    def __repr__(self) -> str:
        return f"<TaskHandle of task {self.task}, attempt {self.attempt}, execution {self.execution}>"


async def _result_of(found: Awaitable[bool]) -> bool:
    return await found


class _Done:
    """What a plain call in a ``def`` body returns: nothing is left to wait for."""

    def __await__(self) -> Generator[None, None, None]:
        return
        yield


_DONE = _Done()
