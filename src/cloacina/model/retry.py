"""The retry policy: how often a failed task is tried again, when, and after which errors."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, TypedDict, Unpack, cast

from cloacina.errors import TransientError, WorkflowError
from cloacina.model.definition.durations import Duration, seconds
from cloacina.model.definition.hints import did_you_mean, shown

TRANSIENT: tuple[type[Exception], ...] = (
    TransientError,
    ConnectionError,
    TimeoutError,
    BlockingIOError,
    InterruptedError,
)
"""The types that ``retry_on="transient"`` tries again.

An `OSError` counts too if its ``errno`` says so (`cloacina.logic.delays.TRANSIENT_ERRNOS`), or if it carries
such an error as its ``reason``, as `urllib.error.URLError` does. Everything else does not: a body that knows
better raises `TransientError`.
"""

MOST_ATTEMPTS = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Fixed:
    """Wait the initial delay each time."""


@dataclass(frozen=True, slots=True)
class Linear:
    """Wait the initial delay times the number of failures."""


@dataclass(frozen=True, slots=True)
class Exponential:
    """Wait ``initial_delay * multiplier * base ** (failures - 1)``.

    ``base`` is at least 1, ``multiplier`` more than 0; raises `WorkflowError` otherwise.
    """

    base: float = 2.0
    multiplier: float = 1.0

    def __post_init__(self) -> None:
        for name, least in (("base", 1.0), ("multiplier", 0.0)):
            value = _number(f"Exponential: {name}", getattr(self, name))
            if value < least or not value:
                bound = "1 or more" if least else "more than 0"
                raise WorkflowError(f"Exponential: {name}={shown(value)} is out of range: give {bound}")
            object.__setattr__(self, name, value)


BackoffWord: TypeAlias = Literal["fixed", "linear", "exponential"]
Backoff: TypeAlias = Fixed | Linear | Exponential | Callable[[int], float]
"""How the delay grows. A function is given the number of failures so far and returns seconds."""

RetryWord: TypeAlias = Literal["all", "never", "transient"]
RetryOn: TypeAlias = RetryWord | tuple[type[Exception], ...] | Callable[[Exception], bool]
"""Which errors are worth another attempt. A function is given the error."""


class RetryOptions(TypedDict, total=False):
    """The flat spelling of a retry policy, as options of a task. Delays are in milliseconds."""

    retry_attempts: int
    retry_delay_ms: float
    retry_max_delay_ms: float
    retry_backoff: BackoffWord | Backoff
    retry_jitter: bool | float
    retry_condition: RetryOn | type[Exception]


@dataclass(frozen=True, slots=True, init=False)
class RetryPolicy:
    """How a failed attempt is followed by another.

    Args:
        max_attempts: how many attempts there may be, the first one counted; 1 means no retry.
        initial_delay: the delay after the first failure: seconds or a timedelta, 0 or more.
        max_delay: no delay is longer: seconds or a timedelta, not less than ``initial_delay``.
        backoff: ``"fixed"``, ``"linear"``, ``"exponential"``, an `Exponential` with other numbers, or a
            function from the number of failures to seconds. Where the function raises or returns no usable
            number, the delay is ``max_delay``.
        jitter: the share by which a delay may be drawn shorter or longer, 0 to 1; True means 0.25, False 0.
        retry_on: ``"all"`` errors, ``"never"``, ``"transient"`` ones only (see `TRANSIENT`), an exception
            type or a tuple of them, or a function from the error to True. Where the function raises, there is no
            retry. `PermanentError` is never retried.

    The delay is drawn first and then cut to ``max_delay``. Raises `WorkflowError` for a bad value.
    """

    max_attempts: int
    initial_delay: float
    max_delay: float
    backoff: Backoff
    jitter: float
    retry_on: RetryOn

    def __init__(
        self,
        max_attempts: int = 3,
        initial_delay: Duration = 1.0,
        max_delay: Duration = 30.0,
        backoff: BackoffWord | Backoff = "exponential",
        jitter: bool | float = 0.25,
        retry_on: RetryOn | type[Exception] = "all",
    ) -> None:
        first = seconds("RetryPolicy: initial_delay", initial_delay, zero=True)
        longest = seconds("RetryPolicy: max_delay", max_delay, zero=True)
        if longest < first:
            raise WorkflowError(
                f"RetryPolicy: max_delay={longest:g} s is shorter than initial_delay={first:g} s: "
                f"give max_delay={first:g} or more"
            )
        values = {
            "max_attempts": _attempts(max_attempts),
            "initial_delay": first,
            "max_delay": longest,
            "backoff": _backoff(backoff),
            "jitter": _jitter(jitter),
            "retry_on": _retry_on(retry_on),
        }
        for name, value in values.items():
            object.__setattr__(self, name, value)

    @classmethod
    def none(cls) -> RetryPolicy:
        """One attempt and no other."""
        return cls(max_attempts=1)

    @classmethod
    def from_flat(cls, **options: Unpack[RetryOptions]) -> RetryPolicy:
        """The policy that the flat spelling means: ``retry_attempts=5, retry_delay_ms=200``.

        Raises `WorkflowError` for a bad value or an unknown option.
        """
        values = {_FLAT.get(name, name): _unflat(name, value) for name, value in options.items()}
        try:
            return cls(**values)
        except WorkflowError as refused:
            told = ", ".join(f"{name}={shown(value)}" for name, value in options.items())
            raise WorkflowError(f"{told}: {refused}") from None

    @classmethod
    def of(cls, value: object) -> RetryPolicy:
        """The policy that ``retry=value`` means: a policy, a number of attempts, or False for none.

        Raises `WorkflowError` for anything else.
        """
        if isinstance(value, RetryPolicy):
            return value
        if value is False:
            return cls.none()
        if value is True or not isinstance(value, int):
            raise WorkflowError(
                f"retry={shown(value)} is not a policy: give retry=RetryPolicy(...), a number of attempts, "
                "or False; leave it out for the default of 3 attempts"
            )
        return cls(max_attempts=value)


def _unflat(name: str, value: Any) -> Any:
    if name not in _FLAT:
        raise WorkflowError(f"RetryPolicy.from_flat: unknown option {name!r}.{did_you_mean(name, _FLAT)}")
    return _number(name, value) / 1000 if name.endswith("_ms") else value


def _attempts(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise WorkflowError(f"RetryPolicy: max_attempts={shown(value)} is no whole number: give 1 or more")
    if not 1 <= value <= MOST_ATTEMPTS:
        raise WorkflowError(
            f"RetryPolicy: max_attempts={shown(value)} is out of range: give 1 to {MOST_ATTEMPTS}, the first "
            "attempt counted; retry=False means one attempt"
        )
    return value


def _jitter(value: object) -> float:
    if isinstance(value, bool):
        return 0.25 if value else 0.0
    share = _number("RetryPolicy: jitter", value)
    if not 0 <= share <= 1:
        raise WorkflowError(f"RetryPolicy: jitter={shown(value)} is out of range: give a share from 0 to 1")
    return share


def _backoff(value: object) -> Backoff:
    if isinstance(value, (Fixed, Linear, Exponential)):
        return value
    if isinstance(value, str):
        if value in _BACKOFFS:
            return _BACKOFFS[value]
        raise WorkflowError(
            f"RetryPolicy: backoff={shown(value)} is unknown: give {_BACKOFF_CHOICE}, "
            f"Exponential(base, multiplier) or a function.{did_you_mean(value, _BACKOFFS)}"
        )
    return cast(
        Backoff, _function("backoff", value, f"{_BACKOFF_CHOICE} or a function of the failures so far")
    )


def _retry_on(value: object) -> RetryOn:
    if isinstance(value, str):
        for word in _RETRY_WORDS:
            if value == word:
                return word
        raise WorkflowError(
            f"RetryPolicy: retry_on={shown(value)} is unknown: give {_RETRY_CHOICE} "
            f"or a function of the error.{did_you_mean(value, _RETRY_WORDS)}"
        )
    if isinstance(value, (type, tuple)):
        kinds = cast("tuple[object, ...]", value if isinstance(value, tuple) else (value,))
        wrong: list[object] = [
            kind for kind in kinds if not (isinstance(kind, type) and issubclass(kind, Exception))
        ]
        if wrong or not kinds:
            problem = f"{shown(wrong[0])} is no type of exception" if wrong else "it names no type"
            raise WorkflowError(
                f"RetryPolicy: retry_on={shown(kinds)}: {problem}; give subclasses of Exception, or 'never'"
            )
        return cast("tuple[type[Exception], ...]", kinds)
    return cast(RetryOn, _function("retry_on", value, f"{_RETRY_CHOICE} or a function of the error"))


def _function(name: str, value: object, wanted: str) -> object:
    if not callable(value) or isinstance(value, type):
        raise WorkflowError(f"RetryPolicy: {name}={shown(value)} is not usable: give {wanted}")
    if inspect.iscoroutinefunction(value):
        raise WorkflowError(f"RetryPolicy: {name}={shown(value)} is async: give a plain function")
    return value


def _number(what: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise WorkflowError(f"{what}={shown(value)} is no number")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise WorkflowError(f"{what}={shown(value)} is out of range: give a finite number")
    return number


_FLAT = {
    "retry_attempts": "max_attempts",
    "retry_delay_ms": "initial_delay",
    "retry_max_delay_ms": "max_delay",
    "retry_backoff": "backoff",
    "retry_jitter": "jitter",
    "retry_condition": "retry_on",
}
_BACKOFFS: dict[str, Backoff] = {"fixed": Fixed(), "linear": Linear(), "exponential": Exponential()}
_BACKOFF_CHOICE = "'fixed', 'linear', 'exponential'"
_RETRY_WORDS: tuple[RetryWord, ...] = ("all", "never", "transient")
_RETRY_CHOICE = "'all', 'never', 'transient', an exception type, a tuple of them"
