"""Retry policies: what they accept, in either spelling, and what they refuse."""

from __future__ import annotations

import copy
import dataclasses
import math
import pickle
from datetime import timedelta
from typing import Any

import pytest

from cloacina.errors import WorkflowError
from cloacina.model.retry import Exponential, Fixed, Linear, RetryPolicy


def test_the_default() -> None:
    policy = RetryPolicy()
    assert (policy.max_attempts, policy.initial_delay, policy.max_delay, policy.jitter) == (
        3,
        1.0,
        30.0,
        0.25,
    )
    assert policy.backoff == Exponential(base=2.0, multiplier=1.0)
    assert policy.retry_on == "all"


@pytest.mark.parametrize(
    ("given", "field", "kept"),
    [
        ({"backoff": "fixed"}, "backoff", Fixed()),
        ({"backoff": "linear"}, "backoff", Linear()),
        ({"backoff": Exponential(3)}, "backoff", Exponential(3.0, 1.0)),
        ({"backoff": math.sqrt}, "backoff", math.sqrt),
        ({"jitter": True}, "jitter", 0.25),
        ({"jitter": False}, "jitter", 0.0),
        ({"jitter": 1}, "jitter", 1.0),
        ({"initial_delay": 0}, "initial_delay", 0.0),
        ({"initial_delay": timedelta(milliseconds=250)}, "initial_delay", 0.25),
        ({"max_delay": timedelta(minutes=2)}, "max_delay", 120.0),
        ({"initial_delay": 60, "max_delay": 60}, "max_delay", 60.0),
        ({"max_attempts": 2**31 - 1}, "max_attempts", 2**31 - 1),
        ({"retry_on": OSError}, "retry_on", (OSError,)),
        ({"retry_on": (OSError, KeyError)}, "retry_on", (OSError, KeyError)),
        ({"retry_on": "transient"}, "retry_on", "transient"),
        ({"retry_on": callable}, "retry_on", callable),
    ],
)
def test_what_a_policy_keeps(given: dict[str, Any], field: str, kept: object) -> None:
    assert getattr(RetryPolicy(**given), field) == kept


async def _later(_: object) -> float:
    return 1.0


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"max_attempts": 0}, "give 1 to"),
    ({"max_attempts": -1}, "give 1 to"),
    ({"max_attempts": 2**31}, "give 1 to"),
    ({"max_attempts": 10**5000}, "give 1 to"),
    ({"max_attempts": True}, "no whole number"),
    ({"max_attempts": 3.0}, "no whole number"),
    ({"max_attempts": None}, "no whole number"),
    ({"initial_delay": -0.1}, "give 0 or more"),
    ({"initial_delay": math.nan}, "out of range"),
    ({"initial_delay": math.inf}, "at most 366 days"),
    ({"initial_delay": 10**400}, "at most 366 days"),
    ({"initial_delay": "1s"}, "seconds or a timedelta"),
    ({"initial_delay": True}, "seconds or a timedelta"),
    ({"initial_delay": timedelta(seconds=-1)}, "give 0 or more"),
    ({"initial_delay": timedelta.max}, "at most 366 days"),
    ({"max_delay": math.nan}, "out of range"),
    ({"max_delay": -1}, "give 0 or more"),
    ({"initial_delay": 60}, "max_delay=60 or more"),
    ({"jitter": -0.1}, "from 0 to 1"),
    ({"jitter": 1.1}, "from 0 to 1"),
    ({"jitter": math.nan}, "finite"),
    ({"jitter": "yes"}, "no number"),
    ({"jitter": 10**400}, "finite"),
    ({"backoff": "exponental"}, "Did you mean 'exponential'"),
    ({"backoff": None}, "'fixed', 'linear', 'exponential'"),
    ({"backoff": 2}, "a function"),
    ({"backoff": Exponential}, "a function"),
    ({"backoff": _later}, "plain function"),
    ({"retry_on": "transiet"}, "Did you mean 'transient'"),
    ({"retry_on": ()}, "names no type"),
    ({"retry_on": (OSError, 3)}, "3 is no type of exception"),
    ({"retry_on": int}, "no type of exception"),
    ({"retry_on": KeyboardInterrupt}, "subclasses of Exception"),
    ({"retry_on": [OSError]}, "a tuple of them or a function"),
    ({"retry_on": _later}, "plain function"),
]


@pytest.mark.parametrize(("given", "remedy"), REFUSED)
def test_what_a_policy_refuses(given: dict[str, Any], remedy: str) -> None:
    with pytest.raises(WorkflowError) as refused:
        RetryPolicy(**given)
    assert type(refused.value) is WorkflowError
    assert remedy in str(refused.value)
    assert any(f"{name}=" in str(refused.value) for name in given), "it names what was given"


@pytest.mark.parametrize(
    "given",
    [{"base": 0.5}, {"base": 0}, {"base": math.inf}, {"multiplier": 0}, {"multiplier": -1}, {"base": "2"}],
)
def test_what_exponential_refuses(given: dict[str, Any]) -> None:
    with pytest.raises(WorkflowError, match=f"Exponential: {next(iter(given))}="):
        Exponential(**given)


def test_the_flat_spelling_is_the_same_policy() -> None:
    flat = RetryPolicy.from_flat(
        retry_attempts=5,
        retry_delay_ms=200,
        retry_max_delay_ms=1500.0,
        retry_backoff="linear",
        retry_jitter=False,
        retry_condition="transient",
    )
    assert flat == RetryPolicy(5, 0.2, 1.5, "linear", 0.0, "transient")
    assert RetryPolicy.from_flat() == RetryPolicy()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"retry_attempts": 0}, ["retry_attempts=0", "1 to"]),
        ({"retry_delay_ms": "1000"}, ["retry_delay_ms='1000'", "no number"]),
        ({"retry_delay_ms": -5}, ["retry_delay_ms=-5", "0 or more"]),
        ({"retry_max_delay_ms": math.inf}, ["retry_max_delay_ms=inf", "finite"]),
        ({"retry_max_delay": 3}, ["'retry_max_delay'", "Did you mean 'retry_max_delay_ms'"]),
    ],
)
def test_the_flat_spelling_is_checked_under_its_own_names(given: Any, words: list[str]) -> None:
    with pytest.raises(WorkflowError) as refused:
        RetryPolicy.from_flat(**given)
    assert [word for word in words if word not in str(refused.value)] == []


@pytest.mark.parametrize(
    ("value", "attempts"), [(1, 1), (7, 7), (False, 1), (RetryPolicy(4), 4), (RetryPolicy.none(), 1)]
)
def test_what_retry_may_be(value: object, attempts: int) -> None:
    assert RetryPolicy.of(value).max_attempts == attempts


@pytest.mark.parametrize("value", [True, 0, -1, "3", 2.0, [], {"max_attempts": 3}])
def test_what_retry_may_not_be(value: object) -> None:
    with pytest.raises(WorkflowError):
        RetryPolicy.of(value)


def test_a_policy_is_a_value() -> None:
    policy = RetryPolicy(5, backoff="fixed")
    assert pickle.loads(pickle.dumps(policy)) == copy.deepcopy(policy) == policy
    assert len({policy, RetryPolicy(5, backoff="fixed"), RetryPolicy(6, backoff="fixed")}) == 2
    assert dataclasses.replace(policy, max_attempts=2) == RetryPolicy(2, backoff="fixed")
    with pytest.raises(dataclasses.FrozenInstanceError):
        policy.max_attempts = 2  # type: ignore[misc]
