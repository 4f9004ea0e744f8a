"""An event loop on virtual time, on which simulated processes live, freeze and die.

Time passes only when nothing is left to do, and then at once to whatever is due next. Each callback belongs to the
process in whose context it was made: one of a dead process is never run, one of a frozen process waits until it
thaws. So a process can die or stop between any two steps of its code, at every ``await``.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context, ContextVar, copy_context
from heapq import heappop, heappush
from itertools import count
from math import inf
from typing import Any, TypeVar

T = TypeVar("T")

START = 1_000.0
"""The loop's time at its beginning, in seconds."""

AT_ONCE = 100_000
"""Steps that may be made without any time passing: more of them spin."""


class Process:
    """Something that runs until it dies. ``stepped`` is called before each of its steps."""

    def __init__(self, name: str, main: Process | None = None) -> None:
        self.name = name
        self.main = main
        """The process whose threads these are: they go on while its event loop is blocked."""
        self.dead = False
        self.frozen = False
        self.thawed = -inf
        """When it was frozen last, in seconds."""
        self.excused = False
        """True if something was done to it that others may take for its death."""
        self.held: list[asyncio.Handle] = []
        self.stepped: Callable[[], None] | None = None

    def __repr__(self) -> str:
        return self.name


here: ContextVar[Process | None] = ContextVar("here", default=None)
"""The process in which the current code runs; None for the simulation's own."""


def context_of(process: Process) -> Context:
    """A context in which code belongs to ``process``."""
    context = copy_context()
    context.run(here.set, process)
    return context


class Stalled(Exception):
    """Nothing is left to do and nothing will ever be due, or what is done takes no time for ever."""


class VirtualLoop(asyncio.AbstractEventLoop):
    """See the module's text."""

    def __init__(self, failed: Callable[[str], None]) -> None:
        """``failed`` is called with what a callback raised that nobody waits for."""
        self._failed = failed
        self._now = START
        self._ready: deque[asyncio.Handle] = deque()
        self._later: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._order = count()
        self._running = False
        self.halted = False
        """Set to end `run` before its time."""

    # What the simulation does with it.

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run ``work`` to its end. Raises `Stalled` if it waits for what never comes."""
        asyncio._set_running_loop(self)
        self._running = True
        try:
            main = self.create_task(work)
            steps = 0
            while not main.done():
                if self.halted:
                    raise Stalled("halted")
                if not self._ready:
                    self._let_time_pass()
                    steps = 0
                steps += 1
                if steps > AT_ONCE:
                    raise Stalled(f"{steps} steps at {self._now:.3f}s, the next one is {self._ready[0]}")
                handle = self._ready.popleft()
                if not handle.cancelled():
                    handle._run()
            return main.result()
        finally:
            self._running = False
            asyncio._set_running_loop(None)

    def thaw(self, process: Process) -> None:
        """Let a frozen process go on with what fell due meanwhile."""
        process.frozen, process.thawed = False, self._now
        held, process.held = process.held, []
        self._ready.extend(held)

    def _let_time_pass(self) -> None:
        later = self._later
        while later and later[0][2].cancelled():
            heappop(later)
        if not later:
            raise Stalled(f"at {self._now:.3f}s nothing is left to do")
        self._now = now = later[0][0]
        while later and later[0][0] <= now:
            self._ready.append(heappop(later)[2])

    # What asyncio asks of a loop.

    def time(self) -> float:
        return self._now

    def call_soon(
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        handle = _Step(self._now, callback, args, self, context or copy_context())
        self._ready.append(handle)
        return handle

    def call_soon_threadsafe(
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        process = here.get()
        context = context or copy_context()
        if process is not None and process.main is not None:
            context.run(here.set, process.main)
        return self.call_soon(callback, *args, context=context)

    def call_later(
        self, delay: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        return self.call_at(self._now + delay, callback, *args, context=context)

    def call_at(
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        timer = _Step(when, callback, args, self, context or copy_context())
        heappush(self._later, (max(when, self._now), next(self._order), timer))
        return timer

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(
        self,
        coro: Generator[Any, None, T] | Coroutine[Any, Any, T],
        *,
        name: object = None,
        context: Context | None = None,
    ) -> asyncio.Task[T]:
        return asyncio.Task(coro, loop=self, name=name, context=context)  # type: ignore[arg-type]

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        if self._running:
            self._failed(f"{context['message']}: {context.get('exception')!r}")

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return self._running

    def is_closed(self) -> bool:
        return False

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """A timer was called off: it is passed over when its time comes."""


class _Step(asyncio.TimerHandle):
    """A callback of a process."""

    def _run(self) -> None:
        process = self._context.get(here)
        if process is not None:
            if process.dead or process.frozen:
                process.held.append(
                    self
                )  # of a dead one too: its tasks must not be collected, and complain of that
                return
            if process.stepped is not None:
                process.stepped()
                if process.dead or process.frozen:
                    return self._run()
        super()._run()
