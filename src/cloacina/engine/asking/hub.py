"""The waiter hub: who waits for which execution to end, and how they are told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from cloacina.model.result import ExecutionResult

Told = Callable[[], ExecutionResult]


class Hub:
    """One per engine. A waiter is told by the driver in this process, or after a look at the store."""

    def __init__(self) -> None:
        self._waiters: dict[str, list[asyncio.Future[Told]]] = {}
        self.stored: set[str] = set()
        """Those of the executions that somebody waits for that were seen in the store."""

    def wait(self, execution: str) -> asyncio.Future[Told]:
        """A future that is set when the execution has ended; call its value for the result."""
        future: asyncio.Future[Told] = asyncio.get_running_loop().create_future()
        self._waiters.setdefault(execution, []).append(future)
        return future

    def leave(self, execution: str, future: asyncio.Future[Told]) -> None:
        """Wait no longer."""
        if future.done() and not future.cancelled():
            future.exception()  # asked for, so that asyncio does not report it as lost
        waiters = self._waiters.get(execution)
        if waiters is not None and future in waiters:
            waiters.remove(future)
            if not waiters:
                del self._waiters[execution]
        if execution not in self._waiters:
            self.stored.discard(execution)

    def awaited(self) -> list[str]:
        """The executions that somebody waits for."""
        return list(self._waiters)

    def tell(self, execution: str, told: Told) -> None:
        """The execution has ended."""
        for future in self._waiters.pop(execution, ()):
            if not future.done():
                future.set_result(told)

    def refuse(self, execution: str, error: BaseException) -> None:
        """The execution will not end by itself."""
        for future in self._waiters.pop(execution, ()):
            if not future.done():
                future.set_exception(error)

    def fail(self, error: BaseException) -> None:
        """Nobody will ever be told: the engine has stopped."""
        waiters, self._waiters = self._waiters, {}
        for futures in waiters.values():
            for future in futures:
                if not future.done():
                    future.set_exception(error)
