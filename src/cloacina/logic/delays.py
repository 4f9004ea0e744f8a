"""Retry decisions: is another attempt due after this error, and how long is the wait before it."""

from __future__ import annotations

import errno
import math
import socket
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, cast

from cloacina.errors import PermanentError
from cloacina.model.result import ErrorInfo
from cloacina.model.retry import TRANSIENT, Exponential, Fixed, Linear, RetryOn, RetryPolicy

TRANSIENT_ERRNOS = frozenset(
    {
        errno.EAGAIN, errno.EBUSY, errno.EDEADLK, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.EINTR,
        errno.EMFILE, errno.ENETDOWN, errno.ENETRESET, errno.ENETUNREACH, errno.ENFILE, errno.ENOBUFS,
        errno.ESTALE,
    }
)  # fmt: skip
"""The ``errno`` of an `OSError` that may pass: busy, interrupted, too many open files, no route for now."""

_HUGE = 1e300
"""Stands for an overflow: above every cap, and still a number when multiplied by a jitter of 2."""


@dataclass(frozen=True, slots=True)
class Failure:
    """An error of another process, as it was told there.

    ``worth_another`` says whether the task's ``retry_on`` wants another attempt after it; that was asked where
    the error was, since neither it nor its type need exist here.
    """

    info: ErrorInfo
    worth_another: bool


def should_retry(policy: RetryPolicy, error: BaseException | Failure, failures: int) -> bool:
    """True if another attempt follows the failure ``error``, which was number ``failures`` (from 1).

    Never raises: a predicate that does means no retry, because it did not say that a repeat is safe; the
    error is given a note that says so. An `ExceptionGroup` is retried if each error in it would be.
    """
    if failures >= policy.max_attempts:
        return False
    return error.worth_another if isinstance(error, Failure) else worth_another(policy.retry_on, error)


def worth_another(wanted: RetryOn, error: BaseException) -> bool:
    """True if ``retry_on=wanted`` lets another attempt follow ``error``; see `should_retry`."""
    if wanted == "never" or not isinstance(error, Exception):
        return False
    leaves = _leaves(error)
    if any(isinstance(leaf, PermanentError) for leaf in leaves):
        return False
    if isinstance(wanted, str):
        return wanted == "all" or all(is_transient(leaf) for leaf in leaves)
    if isinstance(wanted, tuple):
        return isinstance(error, wanted) or all(isinstance(leaf, wanted) for leaf in leaves)
    try:
        return bool(wanted(error))
    except BaseException as broken:
        with suppress(Exception):
            error.add_note(
                f"Not retried: retry_on raised {type(broken).__name__} when asked about this error."
            )
        return False


def is_transient(error: BaseException) -> bool:
    """True if ``error`` is of a kind that passes by itself: see `TRANSIENT` for the list."""
    seen: set[int] = set()
    current: object = error
    while isinstance(current, BaseException) and id(current) not in seen:
        seen.add(id(current))
        if isinstance(current, TRANSIENT):
            return True
        if not isinstance(current, OSError):
            return False
        if isinstance(current, socket.gaierror):
            return current.errno == socket.EAI_AGAIN
        if current.errno in TRANSIENT_ERRNOS:
            return True
        current = getattr(current, "reason", None)
    return False


def delay(policy: RetryPolicy, failures: int, draw: float) -> float:
    """Seconds to wait after failure number ``failures`` (from 1), from 0 to ``policy.max_delay``.

    ``draw`` is a random number in [0, 1). Fixed: d; linear: d * n; exponential:
    d * multiplier * base ** (n - 1); then the jitter, then the cap. Never raises: a backoff function that
    does, or returns what is no length of time, means ``max_delay``.
    """
    drawn = min(_raw(policy, failures), _HUGE) * (1.0 + policy.jitter * (2.0 * draw - 1.0))
    return max(0.0, min(drawn, policy.max_delay))


def _raw(policy: RetryPolicy, failures: int) -> float:
    backoff, first = policy.backoff, policy.initial_delay
    if isinstance(backoff, Exponential):
        scaled = first * backoff.multiplier
        if not scaled:
            return 0.0
        try:
            return scaled * backoff.base ** (failures - 1)
        except OverflowError:
            return _HUGE
    if isinstance(backoff, Fixed):
        return first
    if isinstance(backoff, Linear):
        return first * failures
    try:
        told: Any = backoff(failures)
        given = told.total_seconds() if isinstance(told, timedelta) else float(told)
    except BaseException:
        return policy.max_delay
    return given if given >= 0 and not math.isnan(given) else policy.max_delay


def _leaves(error: BaseException) -> list[BaseException]:
    """The error, or the errors that a group holds, however deep."""
    if not isinstance(error, BaseExceptionGroup):
        return [error]
    leaves: list[BaseException] = []
    unread: list[BaseException] = [error]
    while unread:
        current = unread.pop()
        if isinstance(current, BaseExceptionGroup):
            unread.extend(cast("BaseExceptionGroup[BaseException]", current).exceptions)
        else:
            leaves.append(current)
    return leaves
