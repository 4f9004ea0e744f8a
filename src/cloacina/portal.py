"""The portal: how code that blocks calls coroutine functions on an event loop in another thread.

A call runs in a copy of the caller's context variables, so that the engine knows which body waits. A
caller that is interrupted (Ctrl-C) leaves at once; what it called is cancelled, what was stored goes on.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
from collections.abc import Callable, Coroutine
from concurrent import futures
from contextlib import suppress
from inspect import CORO_CREATED, getcoroutinestate
from typing import Any, ParamSpec, TypeAlias, TypeVar

from cloacina.engine.asking.joining import Lent
from cloacina.errors import ForkedProcess, RunnerClosed, ValidationError, WrongThread
from cloacina.observe.logs import get_logger

P = ParamSpec("P")
T = TypeVar("T")
Request: TypeAlias = Callable[P, Coroutine[Any, Any, T]]

LOOK_AGAIN = 1.0
"""Seconds between looks whether the loop that a caller waits for still runs."""
LAST_GRACE = 5.0
"""Seconds that the end of the loop's thread, or of the interpreter, waits for what does not end."""

log = get_logger("portal")


class Portal:
    """Calls on an event loop that somebody else runs."""

    kind = "runner"
    closed = "the runner's event loop does not run: use the runner inside `async with Runner(...)`"
    remedy = "await the Runner itself here, or call from another thread (asyncio.to_thread)"

    def __init__(self, loop: asyncio.AbstractEventLoop | None) -> None:
        self._loop = loop
        self._pid = os.getpid()

    def call(self, request: Request[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run ``request(...)`` on the loop, wait for it, and return or raise what it does.

        Raises `WrongThread` on the loop's own thread, `RunnerClosed` if the loop does not run or stops
        meanwhile, `ForkedProcess` after a fork.
        """
        return self._waited(lambda: request(*args, **kwargs), _ended)

    def lend(
        self, connection: object, request: Callable[..., Coroutine[Any, Any, T]], /, *args: Any, **kwargs: Any
    ) -> T:
        """`call` with ``connection=``, if there is one; what is done on that is done on this thread, meanwhile."""
        if connection is None:
            return self.call(request, *args, **kwargs)
        lent = Lent(connection)
        return self._waited(lambda: request(*args, connection=lent, **kwargs), lent.serve)

    def _waited(
        self, request: Callable[[], Coroutine[Any, Any, T]], ended: Callable[[futures.Future[T], float], bool]
    ) -> T:
        """Run ``request()`` on the loop; ``ended`` waits some seconds for its end and returns True when it has come."""
        loop = self._checked()
        coroutine = request()
        try:
            future = asyncio.run_coroutine_threadsafe(coroutine, loop)
        except RuntimeError:
            coroutine.close()
            raise RunnerClosed(self.closed) from None
        try:
            while not ended(future, LOOK_AGAIN):
                if not loop.is_running():
                    raise RunnerClosed(self.closed)
            return future.result()
        except futures.CancelledError:
            raise RunnerClosed(self.closed) from None
        finally:
            future.cancel()
            if not loop.is_running() and getcoroutinestate(coroutine) == CORO_CREATED:
                coroutine.close()

    def read(self, look: Callable[[], T]) -> T:
        """Call a plain function on the loop, wait for it, and return or raise what it does."""

        async def read() -> T:
            return look()

        return self.call(read)

    def open(self, start: Request[P, None], /, *args: P.args, **kwargs: P.kwargs) -> None:
        """Call ``start``."""
        self.call(start, *args, **kwargs)

    def close(self, stop: Request[P, None], /, *args: P.args, **kwargs: P.kwargs) -> None:
        """Call ``stop``. An interrupt on the way calls it again, which cuts the bodies that still run."""
        try:
            self.call(stop, *args, **kwargs)
        except KeyboardInterrupt:
            self.call(stop, *args, **kwargs)
            raise

    def leave(self, why: type[BaseException] | None, stop: Request[[], None]) -> None:
        """`close`, at the end of a ``with`` block that ``why`` left; None if it ended as usual."""
        if why is KeyboardInterrupt and self.kind == "runner":
            log.warning("interrupted: running bodies may finish now; interrupt again to cut them")
        self.close(stop)

    def _checked(self) -> asyncio.AbstractEventLoop:
        loop = self._loop
        if loop is None:
            raise RunnerClosed(self.closed)
        if self._pid != os.getpid():
            raise ForkedProcess(
                f"this {self.kind} was started before a fork and its thread is not in the child: start one after "
                "the fork"
            )
        self._refuse_own_thread(loop)
        if not loop.is_running():
            raise RunnerClosed(self.closed)
        return loop

    def _refuse_own_thread(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            here = asyncio.get_running_loop()
        except RuntimeError:
            return
        if here is loop:
            raise WrongThread(
                f"a blocking call on the event loop's own thread would stop it for ever: {self.remedy}"
            )


class OwnLoop(Portal):
    """Calls on an event loop of its own, on a daemon thread from `open` to `close`.

    Where `close` was forgotten, ``at_exit`` is called when the interpreter ends, for a few seconds at most.
    """

    def __init__(self, at_exit: Callable[[], Coroutine[Any, Any, None]], kind: str = "runner") -> None:
        super().__init__(None)
        self.kind = kind
        self._name = f"Blocking{kind.capitalize()}"
        self.closed = f"the {kind} is not running: use it inside `with {self._name}(...)`"
        self.remedy = f"an `async def` body calls a {self._name} through `await asyncio.to_thread(...)`"
        self._last = at_exit
        self._thread: threading.Thread | None = None
        self._opening = threading.Lock()

    def open(self, start: Request[P, None], /, *args: P.args, **kwargs: P.kwargs) -> None:
        """Start the thread, then call ``start``; if that raises, the thread ends."""
        ready = threading.Event()
        with self._opening:
            if self._thread is not None:
                raise RunnerClosed(f"a {self.kind} starts once: make a new {self._name}")
            self._pid = os.getpid()
            self._thread = threading.Thread(
                target=self._serve, args=(ready,), name="cloacina-loop", daemon=True
            )
            self._thread.start()
        try:
            ready.wait()
            self.call(start, *args, **kwargs)
        except BaseException:
            self._end()
            raise
        atexit.register(self._exit)

    def close(self, stop: Request[P, None], /, *args: P.args, **kwargs: P.kwargs) -> None:
        """Call ``stop`` as `Portal.close` does, then end the thread. The second time, nothing happens.

        If ``stop`` refuses its arguments, everything goes on.
        """
        if self._loop is None or self._pid != os.getpid():
            return
        self._refuse_own_thread(self._loop)
        try:
            super().close(stop, *args, **kwargs)
        except ValidationError:
            raise  # an argument was wrong, and nothing has ended
        except BaseException:
            self._end()
            raise
        self._end()

    def _serve(self, ready: threading.Event) -> None:
        try:
            with asyncio.Runner() as own:
                self._loop = own.get_loop()
                self._loop.call_soon(ready.set)
                self._loop.run_forever()
        finally:
            ready.set()

    def _end(self) -> None:
        atexit.unregister(self._exit)
        loop, self._loop = self._loop, None
        if loop is None:
            return
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(loop.stop)
        # A body that ignores its cancellation may hold the loop; the thread is a daemon.
        if self._thread is not None:
            self._thread.join(LAST_GRACE)

    def _exit(self) -> None:
        loop = self._loop
        if loop is None or self._pid != os.getpid() or not loop.is_running():
            return
        ended = asyncio.run_coroutine_threadsafe(self._last(), loop)
        futures.wait((ended,), LAST_GRACE)
        self._end()


def _ended(call: futures.Future[T], seconds: float) -> bool:
    return bool(futures.wait((call,), seconds).done)
