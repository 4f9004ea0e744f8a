"""A store behind its line: jobs from the loop, one after the other, and their answers back on the loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Generic, TypeVar, cast

from cloacina.engine.storage.line import Done, Line
from cloacina.errors import RunnerClosed

T = TypeVar("T")
S = TypeVar("S")


class StoreThread(Generic[S]):
    """Runs blocking jobs on a store, one after the other; its `Line` repeats those that a wait can mend."""

    _store: S

    def __init__(self, line: Line, loop: asyncio.AbstractEventLoop) -> None:
        self._line = line
        self._loop = loop
        self._between: Callable[[], None] | None = None

    async def open(self, factory: Callable[[], S], patience: float = 0.0) -> S:
        """Open the store on the thread; what a wait can mend is tried again for ``patience`` seconds.

        `stop` closes it even if the caller did not wait for it to be open.
        """

        def job() -> None:
            self._store = factory()

        await self._answer(job, patience)
        return self._store

    def beside(self, store: T) -> StoreThread[T]:
        """Another store whose jobs run on this one's thread, and that ends with it."""
        made: StoreThread[T] = StoreThread(self._line, self._loop)
        made._store = store
        return made

    def afterwards(self, job: Callable[[], None]) -> None:
        """Run ``job`` on the thread after every other one, once its answer is on its way."""
        self._between = job

    def call(self, job: Callable[[S], T], done: Done[T]) -> None:
        """Run ``job`` on the thread, then ``done(result, error)`` on the loop."""
        if self._line.closed:
            late = RunnerClosed("the runner was shut down before it could do this: ask the next runner")
            self._loop.call_soon(done, None, late)
            return
        store = self._store
        self._line.put(lambda: job(store), done, after=self._between)

    def run(self, job: Callable[[S], T], then: Callable[[T], None] | None = None) -> asyncio.Future[T]:
        """Run ``job`` on the thread; the future belongs to the loop and may be given up.

        What follows from its effect is for ``then``: that is called with the result, whoever still waits for it.
        """
        future: asyncio.Future[T] = self._loop.create_future()

        def done(result: T | None, error: BaseException | None) -> None:
            if error is None and then is not None:
                then(cast(T, result))
            _settle(future, result, error)

        self.call(job, done)
        return future

    def give_up(self) -> None:
        """Repeat nothing any more: what waits for the database raises its error."""
        self._line.give_up()

    async def stop(self, last: Callable[[S], None]) -> None:
        """Give up pauses, finish what is queued, run ``last`` and end the thread."""
        self._line.give_up()
        self._between = None

        def end() -> None:
            if hasattr(self, "_store"):
                last(self._store)

        ended = self._answer(end)
        self._line.end()
        try:
            await ended
        finally:
            self._line.join()

    def _answer(self, job: Callable[[], None], patience: float = 0.0) -> asyncio.Future[None]:
        future: asyncio.Future[None] = self._loop.create_future()

        def done(result: None, error: BaseException | None) -> None:
            _settle(future, result, error)

        self._line.put(job, done, patience=patience)
        return future


def _settle(future: asyncio.Future[Any], result: object, error: BaseException | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)
