"""Deaths: from what two looks found, who is dead."""

from __future__ import annotations

from typing import Any

import pytest

from cloacina.logic.deaths import Look, Patience, Sign, Watch, judge, suspects
from cloacina.model.status import Reason

CRASH, LOST = Reason.CRASH, Reason.LOST_LEASE
PATIENCE = Patience(apart=1.5, unbroken=3.0, lease=30.0, gap=10.0)
UP = 1_000_000_000
RENEWED = UP + 50_000_000
"""The server's clock at the moment 0 of the observer's."""

WELL = Sign(RENEWED, RENEWED + 30_000_000, True)
UNLOCKED = Sign(RENEWED, RENEWED + 30_000_000, False)
FROZEN = Sign(RENEWED, RENEWED + 1_000_000, True)
POOLED = Sign(RENEWED, RENEWED + 30_000_000)
POOLED_LATE = Sign(RENEWED, RENEWED + 1_000_000)
GIVEN_UP = Sign(RENEWED, RENEWED + 30_000_000, True, given_up=True)
NO_LEASE = Sign(None)
OLD_LOCK = Sign(UP - 1, RENEWED + 30_000_000, False)
OLD_LOCK_LATE = Sign(UP - 1, RENEWED + 1_000_000, False)
RENEWED_LATER = Sign(RENEWED + 1, RENEWED + 30_000_001, False)


def seen(at: float, sign: Sign | None, *, session: int = 1, jumped: float = 0.0) -> Look:
    now = RENEWED + round((at + jumped) * 1e6)
    return Look(at, session, now, UP, {} if sign is None else {"other": sign})


def watched(*looks: Look, since: float = 0.0) -> dict[str, Reason]:
    """The dead after the last of ``looks``."""
    watch, dead = Watch(1, since, PATIENCE.unbroken), dict[str, Reason]()
    for look in looks:
        watch, dead = judge(watch, look, PATIENCE)
    return dead


@pytest.mark.parametrize(
    ("first", "second", "reason"),
    [
        (UNLOCKED, UNLOCKED, CRASH),
        (FROZEN, FROZEN, LOST),
        (POOLED_LATE, POOLED_LATE, LOST),
        (NO_LEASE, NO_LEASE, CRASH),
        (GIVEN_UP, GIVEN_UP, LOST),
        (WELL, GIVEN_UP, LOST),
        (None, GIVEN_UP, LOST),
        (OLD_LOCK_LATE, OLD_LOCK_LATE, LOST),
        (WELL, WELL, None),
        (POOLED, POOLED, None),
        (OLD_LOCK, OLD_LOCK, None),
        (WELL, UNLOCKED, None),
        (UNLOCKED, WELL, None),
        (UNLOCKED, None, None),
        (None, UNLOCKED, None),
        (NO_LEASE, UNLOCKED, None),
        (UNLOCKED, RENEWED_LATER, None),
    ],
)
def test_who_is_dead_after_two_looks(first: Sign, second: Sign, reason: Reason | None) -> None:
    assert watched(seen(5, first), seen(6.5, second)) == ({} if reason is None else {"other": reason})


@pytest.mark.parametrize(("at", "dead"), [(1.5, False), (2.9, False), (3.0, True)])
def test_a_new_observer_watches_for_a_while(at: float, dead: bool) -> None:
    assert watched(seen(0.1, UNLOCKED), seen(at, UNLOCKED)) == ({"other": CRASH} if dead else {})


def test_looks_too_close_to_each_other_are_one() -> None:
    assert watched(seen(5, UNLOCKED), seen(6.4, UNLOCKED)) == {}
    assert watched(seen(5, UNLOCKED), seen(6.4, UNLOCKED), seen(6.5, UNLOCKED)) == {"other": CRASH}


BREAKS: dict[str, dict[str, Any]] = {
    "another session": {"session": 2},
    "the server's clock was set forward": {"jumped": 11.0},
    "the server's clock was set back": {"jumped": -11.0},
}


@pytest.mark.parametrize("how", [*BREAKS, "it stood still itself"])
def test_after_a_break_an_observer_waits_for_a_lease(how: str) -> None:
    begun = 21.0 if how == "it stood still itself" else 9.0
    options = BREAKS.get(how, {})
    looks = [seen(8, UNLOCKED), *(seen(begun + 3 * n, UNLOCKED, **options) for n in range(11))]
    for count in range(1, len(looks)):
        assert watched(*looks[:count]) == {}, count
    assert watched(*looks) == {"other": CRASH}


def test_who_gave_up_is_dead_at_the_first_look_after_a_break_too() -> None:
    assert watched(seen(8, WELL), seen(9, GIVEN_UP, session=2)) == {"other": LOST}
    assert watched(seen(8, GIVEN_UP)) == {"other": LOST}


def test_suspects_are_looked_at_again_sooner() -> None:
    assert suspects(seen(0, UNLOCKED)) == {"other": CRASH}
    assert suspects(seen(0, WELL)) == {}


def test_on_the_moment() -> None:
    """A lease that runs out now has run out; a lock that is as old as the server went with the one before it."""
    lease = Sign(RENEWED, RENEWED + 6_500_000, True)
    assert suspects(seen(6.499, lease)) == {}
    assert suspects(seen(6.5, lease)) == {"other": LOST}
    assert suspects(seen(5, Sign(UP, RENEWED + 30_000_000, False))) == {}
    assert suspects(seen(5, Sign(UP + 1, RENEWED + 30_000_000, False))) == {"other": CRASH}


@pytest.mark.parametrize(
    ("apart", "jumped", "dead"), [(10.0, 0.0, True), (10.1, 0.0, False), (5.0, 10.0, True)]
)
def test_how_long_a_break_is(apart: float, jumped: float, dead: bool) -> None:
    later = seen(5 + apart, UNLOCKED, jumped=jumped)
    assert watched(seen(5, UNLOCKED), later) == ({"other": CRASH} if dead else {})


def test_the_look_that_shows_a_break_is_the_first_after_it() -> None:
    after = [seen(at, UNLOCKED, session=2) for at in (20.0, 29.0, 38.0, 47.0, 50.0)]
    assert watched(seen(12, UNLOCKED), *after) == {"other": CRASH}
    watch, _ = judge(Watch(1, 0.0, 3.0, seen(12, UNLOCKED)), after[0], PATIENCE)
    assert watch == Watch(2, 20.0, PATIENCE.lease, after[0])
