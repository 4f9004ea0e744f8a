"""Deaths: which runners on a server are dead, decided from what an observer saw of their leases.

A runner is suspect if its lock is gone or its lease ran out. It is dead if a second look finds the same and it did not
renew its lease in between. Both looks count only if the observer itself had no break: a server that restarts takes
everybody's lock, and everybody needs a moment to take it again. One that gave its lease up is dead at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from cloacina.model.status import Reason


@dataclass(frozen=True, slots=True)
class Sign:
    """What one look found of a runner. Times are microseconds by the server's clock."""

    renewed: int | None
    """When its lease was renewed last; None if it has no lease."""
    expires: int = 0
    held: bool | None = None
    """True if its lock is there; None if it has none, so that its lease alone decides."""
    given_up: bool = False


@dataclass(frozen=True, slots=True)
class Look:
    """What an observer saw with one statement."""

    at: float
    """When it asked, in seconds by its own clock."""
    session: int
    """Which of its sessions it asked: another number after a break."""
    now: int
    """The server's clock, in microseconds."""
    up_since: int
    """When the server was started, in microseconds. Locks from before that are gone with it."""
    signs: Mapping[str, Sign]
    """By the runner's id, without the observer's own."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How careful an observer is, in seconds."""

    apart: float
    """How long the two looks lie apart, at least."""
    unbroken: float
    """How long it has watched before it decides, once it is new."""
    lease: float
    """The same after a break: all who live have renewed by then."""
    gap: float
    """Looks that lie further apart are a break, and so is a clock that jumped so far."""


@dataclass(frozen=True, slots=True)
class Watch:
    """Since when an observer has watched without a break, how long it must, and what it saw last."""

    session: int
    since: float
    needs: float
    last: Look | None = None


def judge(watch: Watch, look: Look, patience: Patience) -> tuple[Watch, dict[str, Reason]]:
    """What is known after one more look, and the dead with the reason that their attempts are given."""
    dead = {runner: Reason.LOST_LEASE for runner, sign in look.signs.items() if sign.given_up}
    last = watch.last
    if look.session != watch.session or (last is not None and _interrupted(last, look, patience)):
        return Watch(look.session, look.at, patience.lease, look), dead
    if last is None:
        return replace(watch, last=look), dead
    if look.at - last.at < patience.apart:
        return watch, dead
    if look.at - watch.since >= watch.needs:
        before = suspects(last)
        for runner, reason in suspects(look).items():
            if runner in before and last.signs[runner].renewed == look.signs[runner].renewed:
                dead.setdefault(runner, reason)
    return replace(watch, last=look), dead


def suspects(look: Look) -> dict[str, Reason]:
    """Who seems dead at this look, and of what."""
    found = ((runner, _suspicion(look, sign)) for runner, sign in look.signs.items())
    return {runner: reason for runner, reason in found if reason is not None}


def _suspicion(look: Look, sign: Sign) -> Reason | None:
    if sign.renewed is None:
        return Reason.CRASH
    if sign.held is False and sign.renewed > look.up_since:
        return Reason.CRASH
    return Reason.LOST_LEASE if sign.expires <= look.now or sign.given_up else None


def _interrupted(last: Look, look: Look, patience: Patience) -> bool:
    """True if the observer stood still, or if one of the two clocks jumped: what ran out meanwhile proves nothing."""
    passed, passed_there = look.at - last.at, (look.now - last.now) / 1e6
    return passed > patience.gap or abs(passed_there - passed) > patience.gap
