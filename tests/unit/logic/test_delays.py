"""Retry decisions: the arithmetic of delays, and which errors are tried again."""

from __future__ import annotations

import errno
import math
import socket
from datetime import timedelta
from fractions import Fraction
from typing import Any
from urllib.error import URLError

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloacina.errors import PermanentError, TaskError, TransientError
from cloacina.logic.delays import Failure, delay, should_retry, worth_another
from cloacina.model.result import ErrorInfo
from cloacina.model.retry import Backoff, Exponential, Fixed, Linear, RetryPolicy

draws = st.integers(0, 2**53 - 1).map(lambda drawn: drawn / 2**53)


@st.composite
def policies(draw: st.DrawFn, least: float = 0.0, most: float = 1e300) -> RetryPolicy:
    """Policies whose numbers other than 0 lie between ``least`` and ``most``."""
    times = st.one_of(st.just(0.0), st.floats(least, 31_622_400))
    first, longest = sorted([draw(times), draw(times)])
    kinds: list[Backoff] = [Fixed(), Linear(), Exponential()]
    backoff = draw(st.sampled_from(kinds))
    if isinstance(backoff, Exponential):
        backoff = Exponential(draw(st.floats(1, most)), draw(st.floats(least or 1e-300, most)))
    return RetryPolicy(3, first, longest, backoff, draw(st.one_of(st.floats(0, 0.99), st.just(1.0))))


@given(policies(), st.integers(1, 2**31 - 1), draws)
def test_a_delay_is_never_negative_and_never_above_its_cap(policy: RetryPolicy, n: int, draw: float) -> None:
    assert 0 <= delay(policy, n, draw) <= policy.max_delay


@given(policies(least=1e-6, most=1e6), st.integers(1, 60), draws)
def test_a_delay_is_the_formula_then_the_jitter_then_the_cap(
    policy: RetryPolicy, n: int, draw: float
) -> None:
    first, backoff = Fraction(policy.initial_delay), policy.backoff
    raw = first
    if isinstance(backoff, Linear):
        raw = first * n
    elif isinstance(backoff, Exponential):
        raw = first * Fraction(backoff.multiplier) * Fraction(backoff.base) ** (n - 1)
    jittered = raw * (1 + Fraction(policy.jitter) * (2 * Fraction(draw) - 1))
    expected = min(jittered, Fraction(policy.max_delay))
    assert delay(policy, n, draw) == pytest.approx(float(expected), rel=1e-9, abs=1e-290)


@pytest.mark.parametrize(
    ("backoff", "expected"),
    [
        ("fixed", [2, 2, 2, 2, 2]),
        ("linear", [2, 4, 6, 8, 10]),
        ("exponential", [2, 4, 8, 16, 30]),
        (Exponential(base=3, multiplier=0.5), [1, 3, 9, 27, 30]),
        (lambda failures: 0.5 * failures, [0.5, 1, 1.5, 2, 2.5]),
        (lambda failures: timedelta(seconds=failures), [1, 2, 3, 4, 5]),
    ],
)
def test_each_backoff_by_example(backoff: Any, expected: list[float]) -> None:
    policy = RetryPolicy(initial_delay=2, max_delay=30, backoff=backoff, jitter=0)
    assert [delay(policy, failures, 0.9) for failures in range(1, 6)] == expected


def test_the_cap_comes_after_the_jitter() -> None:
    policy = RetryPolicy(initial_delay=30, max_delay=30, backoff="fixed", jitter=0.25)
    assert delay(policy, 1, 0.0) == 22.5
    assert delay(policy, 1, 0.999) == 30


def _raises(failures: int) -> float:
    raise ZeroDivisionError


@pytest.mark.parametrize(
    "told", [_raises, lambda _: math.nan, lambda _: -1, lambda _: math.inf, lambda _: "soon", lambda _: None,
             lambda _: 10**400, lambda _: [1]]
)  # fmt: skip
def test_a_backoff_function_that_goes_wrong_means_the_longest_delay(told: Any) -> None:
    policy = RetryPolicy(initial_delay=1, max_delay=30, backoff=told, jitter=0)
    assert delay(policy, 1, 0.5) == 30


@pytest.mark.parametrize(("attempts", "retried"), [(1, 0), (2, 1), (5, 4)])
def test_attempts_never_exceed_the_policy(attempts: int, retried: int) -> None:
    policy = RetryPolicy(max_attempts=attempts)
    assert sum(should_retry(policy, OSError(), failures) for failures in range(1, 20)) == retried


TRANSIENT = [
    TransientError("later"), ConnectionResetError(), TimeoutError(), BlockingIOError(), InterruptedError(),
    OSError(errno.ENETUNREACH, "no route"), OSError(errno.EMFILE, "too many"), socket.gaierror(socket.EAI_AGAIN, ""),
    URLError(ConnectionRefusedError()), ExceptionGroup("both", [TimeoutError(), ConnectionError()]),
]  # fmt: skip
LASTING = [
    ValueError(), KeyError(), TaskError(), OSError(errno.ENOSPC, "full"), FileNotFoundError(), PermissionError(),
    OSError("no number"), URLError("unknown scheme"), socket.gaierror(socket.EAI_NONAME, ""), MemoryError(),
    ExceptionGroup("one of them", [TimeoutError(), ValueError()]),
]  # fmt: skip


@pytest.mark.parametrize("error", TRANSIENT, ids=repr)
def test_transient_errors(error: Exception) -> None:
    assert should_retry(RetryPolicy(retry_on="transient"), error, 1)


@pytest.mark.parametrize("error", LASTING, ids=repr)
def test_errors_that_are_not_transient_are_only_retried_with_all(error: Exception) -> None:
    assert not should_retry(RetryPolicy(retry_on="transient"), error, 1)
    assert should_retry(RetryPolicy(), error, 1)


NEVER = [PermanentError(), ExceptionGroup("x", [TimeoutError(), ExceptionGroup("y", [PermanentError()])])]


@pytest.mark.parametrize("error", NEVER, ids=repr)
@pytest.mark.parametrize("wanted", ["all", "transient", Exception, PermanentError, lambda error: True])
def test_a_permanent_error_is_never_retried(error: Exception, wanted: Any) -> None:
    assert not should_retry(RetryPolicy(retry_on=wanted), error, 1)


@pytest.mark.parametrize("error", [*TRANSIENT, *LASTING, KeyboardInterrupt(), SystemExit()], ids=repr)
def test_never_means_never(error: BaseException) -> None:
    assert not should_retry(RetryPolicy(retry_on="never"), error, 1)


@pytest.mark.parametrize(
    ("wanted", "error", "retried"),
    [
        (OSError, FileNotFoundError(), True),
        ((KeyError, OSError), KeyError(), True),
        ((KeyError, OSError), ValueError(), False),
        (OSError, ExceptionGroup("x", [OSError(), TimeoutError()]), True),
        (OSError, ExceptionGroup("x", [OSError(), ValueError()]), False),
        (ExceptionGroup, ExceptionGroup("x", [ValueError()]), True),
        (lambda error: "busy" in str(error), ValueError("busy"), True),
        (lambda error: "busy" in str(error), ValueError("full"), False),
        (lambda error: [], ValueError(), False),
        ("all", KeyboardInterrupt(), False),
    ],
)
def test_types_and_predicates(wanted: Any, error: BaseException, retried: bool) -> None:
    assert should_retry(RetryPolicy(retry_on=wanted), error, 1) is retried


def test_a_predicate_that_raises_means_no_retry_and_a_note() -> None:
    error = ValueError("bad row")
    assert not should_retry(RetryPolicy(retry_on=lambda error: error.missing), error, 1)
    assert error.__notes__ == ["Not retried: retry_on raised AttributeError when asked about this error."]


def test_a_group_may_be_nested_deeper_than_the_stack() -> None:
    error: Exception = TimeoutError()
    for _ in range(5_000):
        error = ExceptionGroup("again", [error])
    assert should_retry(RetryPolicy(retry_on="transient"), error, 1)


def test_an_error_that_is_its_own_reason_ends() -> None:
    error = URLError("x")
    error.reason = error
    assert not should_retry(RetryPolicy(retry_on="transient"), error, 1)


class Rude(BaseException):
    """What a user's function may raise that is no ordinary error."""


@pytest.mark.parametrize("rude", [SystemExit, KeyboardInterrupt, Rude])
def test_nothing_that_a_users_function_raises_gets_out(rude: type[BaseException]) -> None:
    def fails(_: object) -> float:
        raise rude

    assert should_retry(RetryPolicy(retry_on=fails), ValueError("x"), 1) is False  # type: ignore[arg-type]
    policy = RetryPolicy(backoff=fails, max_delay=9.0, jitter=False)
    assert delay(policy, 1, 0.5) == 9.0


@pytest.mark.parametrize("retry_on", ["all", "never", "transient", KeyError, lambda error: False])
@pytest.mark.parametrize("worth", [True, False])
def test_what_was_judged_elsewhere_is_not_judged_again(retry_on: Any, worth: bool) -> None:
    policy = RetryPolicy(max_attempts=3, retry_on=retry_on)
    failure = Failure(ErrorInfo("elsewhere.Error", "unknown here"), worth)
    assert [should_retry(policy, failure, n) for n in (1, 2, 3, 4)] == [worth, worth, False, False]


@pytest.mark.parametrize("error", [ValueError(), TransientError(), PermanentError(), KeyboardInterrupt()])
@pytest.mark.parametrize("retry_on", ["all", "never", "transient", (ValueError,)])
def test_elsewhere_the_same_is_asked(retry_on: Any, error: BaseException) -> None:
    policy = RetryPolicy(max_attempts=2, retry_on=retry_on)
    assert worth_another(policy.retry_on, error) is should_retry(policy, error, 1)


@pytest.mark.parametrize(("draw", "waits"), [(0.0, 5.0), (0.5, 10.0), (0.75, 12.5)])
def test_the_jitter_goes_both_ways_alike(draw: float, waits: float) -> None:
    assert delay(RetryPolicy(initial_delay=10, max_delay=100, backoff="fixed", jitter=0.5), 1, draw) == waits


def test_a_backoff_function_may_say_at_once() -> None:
    assert delay(RetryPolicy(initial_delay=1, max_delay=100, backoff=lambda failures: 0), 1, 0.5) == 0


def test_an_error_that_takes_no_note_is_told_without() -> None:
    class Mute(ValueError):
        def add_note(self, note: str, /) -> None:
            raise OSError

    def fails(_: object) -> bool:
        raise ZeroDivisionError

    assert should_retry(RetryPolicy(retry_on=fails), Mute("x"), 1) is False
