"""The arming of failpoints: what is put around a place while a failpoint is armed there."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import wraps
from inspect import iscoroutinefunction
from typing import Any

from cloacina.errors import ValidationError
from cloacina.model.definition.hints import did_you_mean
from cloacina.testing.failpoints.catalogue import FAILPOINTS, PLACES, Place


class Armed:
    """A failpoint while it is armed. ``passed`` is how often it was come by, ``fired`` how often it did something."""

    def __init__(
        self,
        name: str,
        error: BaseException | type[BaseException] | None,
        delay: float | None,
        kill: bool,
        nth: int,
        times: int,
    ) -> None:
        self.name = name
        self.passed = self.fired = 0
        self._error, self._delay, self._kill = error, delay, kill
        self._first, self._end = nth, nth + times
        self._lock = threading.Lock()

    def due(self) -> bool:
        """Count somebody who comes by; True if it shall do something to them."""
        with self._lock:
            self.passed += 1
            fires = self._first <= self.passed < self._end
            self.fired += fires
        if fires and self._kill:
            os.kill(os.getpid(), signal.SIGKILL)
        return fires

    @property
    def delay(self) -> float:
        """Seconds, of real time, to wait."""
        return self._delay or 0.0

    @property
    def error(self) -> BaseException | None:
        """The error to come to, if any."""
        error = self._error
        return error(f"failpoint {self.name!r}") if isinstance(error, type) else error


@contextmanager
def failpoint(
    name: str,
    *,
    error: BaseException | type[BaseException] | None = None,
    delay: float | None = None,
    kill: bool = False,
    nth: int = 1,
    times: int = 1,
) -> Generator[Armed, None, None]:
    """Arm the failpoint ``name`` in this process, for as long as the block runs.

    It does one of three things: raise ``error``, wait for ``delay`` seconds of real time, or ``kill`` the process
    as ``kill -9`` does. It does so to whoever comes by as the ``nth``, and to the next ones, ``times`` in all. An error
    that waiting may mend (`StoreError.retryable`) is met as one of the database would be: the call is repeated.

    Raises `ValidationError` for an unknown name and for anything but one of the three; at the end of the block
    `AssertionError` if nobody came by, because the test has tested nothing then.
    """
    place = PLACES.get(name)
    if place is None:
        raise ValidationError(
            f"there is no failpoint {name!r}: see cloacina.testing.FAILPOINTS.{did_you_mean(name, FAILPOINTS)}"
        )
    if (error is not None) + (delay is not None) + bool(kill) != 1:
        raise ValidationError(f"failpoint {name!r}: give one of error=..., delay=seconds and kill=True")
    if nth < 1 or times < 1:
        raise ValidationError(f"failpoint {name!r}: nth={nth!r} and times={times!r} count from 1")
    armed = Armed(name, error, delay, kill, nth, times)
    with _turn:
        put_back = [_put(owner, place, armed) for owner in place.owners]
    try:
        yield armed
    finally:
        with _turn:
            for undo in put_back:
                undo()
    if not armed.fired:
        raise AssertionError(
            f"failpoint {name!r} never fired: it was passed {armed.passed} times, and nth is {nth}. It comes "
            f"{place.meaning}"
        )


_turn = threading.Lock()
_around: dict[tuple[type, str], tuple[Callable[..., Any] | None, list[tuple[Place, Armed]]]] = {}
"""The class's own function at each place that is wrapped now, None if it was inherited, and what is armed there."""


def _put(owner: type, place: Place, armed: Armed) -> Callable[[], None]:
    """Arm ``armed`` at one function; what is returned disarms it."""
    where, one = (owner, place.attribute), (place, armed)
    if where not in _around:
        original = getattr(owner, place.attribute)
        _around[where] = vars(owner).get(place.attribute), []
        wrap = _wrapped_async if iscoroutinefunction(original) else _wrapped
        setattr(owner, place.attribute, wrap(original, _around[where][1]))
    own, there = _around[where]
    there.append(one)

    def undo() -> None:
        there.remove(one)
        if there:
            return
        del _around[where]
        if own is None:
            delattr(owner, place.attribute)
        else:
            setattr(owner, place.attribute, own)

    return undo


def _wrapped(original: Callable[..., Any], there: list[tuple[Place, Armed]]) -> Callable[..., Any]:
    @wraps(original)
    def call(*arguments: Any, **named: Any) -> Any:
        error, told = _come_by("before", there, _wait)
        if error is not None and told is not None:
            return told(original, arguments, error)
        if error is not None:
            raise error
        result = original(*arguments, **named)
        error, _ = _come_by("after", there, _wait)
        if error is not None:
            raise error
        return result

    return call


def _wrapped_async(original: Callable[..., Any], there: list[tuple[Place, Armed]]) -> Callable[..., Any]:
    @wraps(original)
    async def call(*arguments: Any, **named: Any) -> Any:
        pauses: list[float] = []
        error, _ = _come_by("before", there, pauses.append)
        await asyncio.sleep(sum(pauses))
        if error is not None:
            raise error
        result = await original(*arguments, **named)
        pauses.clear()
        error, _ = _come_by("after", there, pauses.append)
        await asyncio.sleep(sum(pauses))
        if error is not None:
            raise error
        return result

    return call


def _come_by(
    moment: str, there: list[tuple[Place, Armed]], wait: Callable[[float], object]
) -> tuple[BaseException | None, Any]:
    """What the failpoints at one moment do: wait, or give an error and how it is told."""
    for place, armed in tuple(there):
        if place.moment == moment and armed.due():
            if armed.delay:
                wait(armed.delay)
            if armed.error is not None:
                return armed.error, place.told
    return None, None


def _wait(seconds: float) -> None:
    threading.Event().wait(seconds)
