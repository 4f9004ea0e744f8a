"""Stores that a test can hold up, make fail, or make fail after what they were asked took effect."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from cloacina.runner import Runner
from cloacina.store.port import WriteStore
from cloacina.store.rows import Group
from support.clock import until

Call = Callable[[], Any]
Fault = Callable[[Call], Any]
"""What is done in place of a call; it gets the call."""


def fails(error: Exception) -> Fault:
    """The call has no effect and raises."""

    def fault(call: Call) -> Any:
        raise error

    return fault


def unsure(error: Exception) -> Fault:
    """The call has its whole effect, and raises all the same: nobody knows."""

    def fault(call: Call) -> Any:
        call()
        raise error

    return fault


class Hold:
    """The call waits until the test lets it go on."""

    def __init__(self) -> None:
        self._reached = threading.Event()
        self._go_on = threading.Event()

    def __call__(self, call: Call) -> Any:
        self._reached.set()
        assert self._go_on.wait(20)
        return call()

    def release(self) -> None:
        self._go_on.set()

    async def reached(self) -> None:
        await until(self._reached.is_set, "the call that is held")


class Late(Hold):
    """The call has its effect, and its answer comes when the test lets it."""

    def __call__(self, call: Call) -> Any:
        answer = call()
        super().__call__(lambda: None)
        return answer


class Interference:
    """A `WriteStore` around another. ``groups`` has every group that was sent, in order."""

    def __init__(self, inner: WriteStore) -> None:
        self._inner = inner
        self._faults: dict[str, deque[Fault | None]] = {}
        self.groups: list[Group] = []
        self.refuses: Callable[[Group], Exception | None] = lambda group: None
        """Asked before each group; an error that it returns is raised."""

    def plan(self, name: str, *faults: Fault | None) -> None:
        """Use ``faults`` on the next calls of ``name``, one after the other; None lets one pass."""
        self._faults.setdefault(name, deque()).extend(faults)

    def beside(self, inner: WriteStore) -> Interference:
        """The same around another store: a fault that was planned is used by who comes first."""
        other = Interference(inner)
        other._faults, other.groups, other.refuses = self._faults, self.groups, self.refuses
        return other

    def hold(self, name: str) -> Hold:
        """Hold up the next call of ``name``."""
        hold = Hold()
        self.plan(name, hold)
        return hold

    def commit(self, group: Group) -> Any:
        self.groups.append(group)

        def call() -> Any:
            error = self.refuses(group)
            if error is not None:
                raise error
            return self._inner.commit(group)

        return self._do("commit", call)

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._inner, name)
        return lambda *args, **named: self._do(name, lambda: method(*args, **named))

    def _do(self, name: str, call: Call) -> Any:
        faults = self._faults.get(name)
        fault = faults.popleft() if faults else None
        return call() if fault is None else fault(call)


def interfere(runner: Runner) -> Interference:
    """Put an `Interference` between a runner that was entered and its store, or both that write, on a server."""
    storage: Any = runner._engine._storage
    writer, submitter = storage.writer, storage.submitter
    made = writer._store = Interference(writer._store)
    if submitter is not writer:
        submitter._store = made.beside(submitter._store)
    return made


def numbers(groups: list[Group]) -> list[int]:
    return [group.number for group in groups]
