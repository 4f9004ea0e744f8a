"""A machine whose time is driven by hand, and whose databases are used on the event loop itself.

So nothing depends on threads of the engine, and the same test takes the same steps every time. It can die at a
commit: from then on nothing of what it was asked is done, and nobody gets an answer.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from contextvars import copy_context
from math import inf
from typing import Any, Literal, TypeAlias, TypeVar, cast

from cloacina.engine.machine import Machine
from cloacina.engine.storage.backend import Backend
from cloacina.engine.storage.line import Done, Tries, Voice, quietly
from cloacina.errors import RunnerClosed, StoreError, ValidationError
from cloacina.store.location import Location
from cloacina.store.port import WriteStore
from cloacina.store.postgres.location import ServerLocation
from cloacina.store.rows import Group, StoredExecution
from cloacina.store.sqlite.database import SqliteWriter
from cloacina.testing.hand.clock import HandClock

T = TypeVar("T")

PAUSE = 0.001
"""Seconds, of real time, between two tries of a job that the database could not do."""

Moment: TypeAlias = Literal["before", "after"]
"""Whether a commit had no effect, or its whole effect."""


class Even:
    """Draws the middle, so that jitter changes nothing."""

    def random(self) -> float:
        return 0.5


class HandMachine(Machine):
    """See the module's text. Made on the event loop on which its engine runs."""

    def __init__(self, clock: HandClock) -> None:
        super().__init__(clock, Even())
        self.jobs = 0
        """How many jobs of stores were begun or answered."""
        self.commits = 0
        """How many groups were committed, or would have been had it not died."""
        self.retries = 0
        """How many jobs of stores wait to be tried again."""
        self.dead = False
        self.died = asyncio.Event()
        self._end: tuple[int, Moment] | None = None

    def die_at(self, commit: int, moment: Moment) -> None:
        """Die just before or just after commit number ``commit``, counted from its beginning."""
        self._end = (commit, moment)

    def die(self) -> None:
        """Do nothing any more, and answer nobody."""
        self.dead = True
        self.died.set()

    def reach(self, moment: Moment) -> None:
        """A commit is about to begin, or has just ended. Raises `RunnerClosed` if the machine dies of it."""
        if self._end == (self.commits, moment):
            self.die()
            raise RunnerClosed("the test let the runner die at this commit")

    def backend(self, location: Location | ServerLocation, *, allow_unsafe: bool) -> Backend:
        if not isinstance(location, Location):
            raise ValidationError(
                f"a TestRunner works on SQLite, and {location} is on a server, whose time cannot be driven by hand: "
                "test there with Runner, whose calls are the same"
            )
        backend = super().backend(location, allow_unsafe=allow_unsafe)
        opened = backend.writer

        def writer() -> WriteStore:
            store = opened()
            if isinstance(store, SqliteWriter):
                store.risk_power_loss()
            return cast(WriteStore, _Counted(store, self))

        backend.writer = writer
        return backend

    def line(self, name: str, loop: asyncio.AbstractEventLoop, voice: Voice) -> InlineLine:
        return InlineLine(self, loop, voice)

    def metronome(self, name: str, seconds: float, beat: Callable[[], bool]) -> SilentMetronome:
        return SilentMetronome()


class SilentMetronome:
    """Never beats: a lease that is kept by hand never runs out."""

    def stop(self) -> None:
        return None


class InlineLine:
    """A `Line` on the event loop, which makes no long pauses between the tries of a job."""

    def __init__(self, machine: HandMachine, loop: asyncio.AbstractEventLoop, voice: Voice) -> None:
        self.closed = False
        self._machine = machine
        self._loop = loop
        self._voice = voice
        self._context = copy_context()
        self._jobs: deque[tuple[Callable[[], Any], Done[Any], Tries, Callable[[], None] | None]] = deque()
        self._given_up = False

    def put(
        self,
        job: Callable[[], T],
        done: Done[T],
        *,
        patience: float = inf,
        after: Callable[[], None] | None = None,
    ) -> None:
        self._jobs.append((job, done, Tries(self._machine.randomness, self._voice, patience), after))
        if len(self._jobs) == 1:
            self._soon(self._work)

    def give_up(self) -> None:
        self._given_up = True
        if self._machine.dead:  # who still waits for an answer is let go
            for _, done, _, _ in self._jobs:
                self._soon(done, None, asyncio.CancelledError())
            self._jobs.clear()

    def end(self) -> None:
        self.closed = True

    def join(self) -> None:
        return None

    def _soon(self, call: Callable[..., object], *arguments: Any) -> None:
        self._loop.call_soon(call, *arguments, context=self._context)

    def _work(self) -> None:
        machine = self._machine
        if not self._jobs or self._dead:
            return
        machine.jobs += 1
        job, _, tries, after = self._jobs[0]
        result: Any = None
        error: BaseException | None = None
        try:
            result = job()
        except BaseException as caught:
            error = caught
        if self._dead:
            return
        if isinstance(error, StoreError) and not self._given_up and tries.pause_after(error) is not None:
            machine.retries += 1
            self._loop.call_later(PAUSE, self._try_again, context=self._context)
            return
        tries.end()
        self._soon(self._answer, result, error)
        if after is not None:
            quietly(after)

    def _try_again(self) -> None:
        self._machine.retries -= 1
        self._work()

    def _answer(self, result: Any, error: BaseException | None) -> None:
        if not self._jobs or self._dead:
            return
        _, done, _, _ = self._jobs.popleft()
        if self._jobs:
            self._soon(self._work)
        self._machine.jobs += 1
        done(result, error)

    @property
    def _dead(self) -> bool:
        """True if nothing is done or answered: the machine died, and nobody has let go of this line yet."""
        return self._machine.dead and not self._given_up


class _Counted:
    """A `WriteStore` whose machine counts its commits, and may die at one of them."""

    def __init__(self, inner: WriteStore, machine: HandMachine) -> None:
        self._inner = inner
        self._machine = machine

    def commit(self, group: Group) -> list[StoredExecution]:
        self._machine.commits += 1
        self._machine.reach("before")
        claimed = self._inner.commit(group)
        self._machine.reach("after")
        return claimed

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)
