"""The errands of one body: what it has its courier do, waited for on the loop or on the body's own thread."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from concurrent import futures
from inspect import CORO_CREATED, getcoroutinestate
from typing import TYPE_CHECKING, Any, TypeVar

from cloacina.engine.bodies.notebook import Notebook
from cloacina.engine.executors.attempt import Attempt
from cloacina.errors import WrongThread

if TYPE_CHECKING:
    from cloacina.engine.bodies.courier import Courier

T = TypeVar("T")

LOOK_AGAIN = 1.0
"""Seconds between looks whether the loop that a thread waits for still runs."""


class Errands:
    """See the module's text. It is the `Book` of its attempt's notebook. Made when there is one."""

    def __init__(self, attempt: Attempt, courier: Courier) -> None:
        self.attempt = attempt
        self.courier = courier
        self.is_async = attempt.task_object.is_async
        self.notebook = Notebook(self, courier.limits, is_async=self.is_async)
        self.deferred: float | None = None
        """The seconds between looks at its condition, while the attempt is deferred."""
        self._waits: set[asyncio.Task[Any]] = set()

    async def stored(self) -> dict[str, str]:
        if self.courier.first(self.attempt):
            return {}
        return await self.done(self.courier.stored(self.attempt))

    async def store(self, name: str, value: str) -> None:
        await self.done(self.courier.store(self.attempt, name, value))

    async def done(self, work: Coroutine[Any, Any, T]) -> T:
        """What ``work`` returns or raises on the event loop; for a ``def`` body this blocks its thread.

        Raises `asyncio.CancelledError` if the body is told to stop meanwhile, `WrongThread` where that cannot work.
        """
        if not self.is_async:
            return self._from_thread(work)
        if not _is_here(self.courier.loop):
            work.close()
            raise WrongThread(
                f"the body of task {self.attempt.task!r} is async def, which waits on the runner's event loop: await "
                "this in the body itself, not on a loop of another thread"
            )
        return await work

    def end(self) -> None:
        """The attempt has ended: wake the threads that still wait."""
        for wait in tuple(self._waits):
            wait.cancel()

    def _from_thread(self, work: Coroutine[Any, Any, T]) -> T:
        loop = self.courier.loop
        if _is_here(loop):
            work.close()
            raise WrongThread(
                f"the body of task {self.attempt.task!r} is a def, which waits on its own thread: on the event loop's "
                "thread that would stop the loop for ever"
            )
        watched = self._watched(work)
        try:
            coming = asyncio.run_coroutine_threadsafe(watched, loop)
            while not futures.wait((coming,), LOOK_AGAIN).done:
                if not loop.is_running():
                    raise futures.CancelledError
            return coming.result()
        except futures.CancelledError:
            raise asyncio.CancelledError(f"task {self.attempt.task!r} was told to stop") from None
        finally:
            if not loop.is_running() and getcoroutinestate(watched) == CORO_CREATED:
                watched.close()
                work.close()

    async def _watched(self, work: Coroutine[Any, Any, T]) -> T:
        this = asyncio.current_task()
        assert this is not None
        if self.attempt.ended:
            this.cancel()
        self._waits.add(this)
        try:
            return await work
        finally:
            self._waits.discard(this)


def _is_here(loop: asyncio.AbstractEventLoop) -> bool:
    """True on the thread of ``loop``, while it runs."""
    try:
        return asyncio.get_running_loop() is loop
    except RuntimeError:
        return False
