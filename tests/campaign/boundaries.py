"""Boundaries: every commit of every scenario, with a kill just before it and just after it."""

from __future__ import annotations

import signal
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from acceptance.support.order import Ask, Fault
from acceptance.support.stage import Stage
from campaign.place import Place
from campaign.sizes import Sizes

BEFORE, AFTER = "kill-before-commit", "kill-after-commit"


class Scenario(NamedTuple):
    """What is submitted, and how."""

    shapes: tuple[str, ...]
    keyed: bool = False
    """Under a key, and again by whoever comes after the kill."""
    batch: bool = False
    """All at once, by one call."""
    start: bool = False
    """From the first commit of the program, rather than from when its runner is at rest."""
    died_before: bool = False
    """Another program has died in the middle of it already; this one takes over."""
    edition: int = 1
    """The version of the workflow that the second program has."""


SCENARIOS = {
    "one task": Scenario(("single",), start=True),
    "a chain": Scenario(("chain",)),
    "a diamond": Scenario(("diamond",)),
    "fan-out and fan-in": Scenario(("fan",)),
    "a failure and its stand-in": Scenario(("fallback",)),
    "retries": Scenario(("flaky",)),
    "rules and skips": Scenario(("choice",)),
    "a cancel": Scenario(("endless",)),
    "a pause and a resume": Scenario(("halted",)),
    "checkpoints": Scenario(("stepwise",)),
    "deferrals": Scenario(("postponed",)),
    "a key": Scenario(("single",), keyed=True),
    "many at once": Scenario(("chain",) * 4, batch=True),
    "a retry by hand": Scenario(("mended",)),
    "a fork": Scenario(("again",)),
    "a recovery": Scenario(("chain", "diamond", "stepwise"), start=True, died_before=True),
    "another version": Scenario(("relay", "relay"), start=True, died_before=True, edition=2),
}


def play(place: Place, sizes: Sizes) -> str:
    """Kill at each boundary, or at some; return how many there were."""
    if sizes.boundaries:
        found = _some(place, sizes.boundaries)
    else:
        found = Counter(
            {name: _every(place, name, BEFORE) + _every(place, name, AFTER) for name in SCENARIOS}
        )
    told = ", ".join(f"{name} {found[name]}" for name in SCENARIOS)
    some = "some" if sizes.boundaries else "all"
    return f"{found.total()} kills before or after {some} commits of {len(SCENARIOS)} scenarios: {told}"


def _some(place: Place, many: int) -> Counter[str]:
    """Kill before the first commit, and at others that are chosen by lot; some choices come after the end."""
    rng = place.rng("boundaries")
    first, *points = [(moment, at) for moment in (BEFORE, AFTER) for at in range(1, 8)]
    plays = [(name, *point) for name in SCENARIOS for point in (first, *rng.sample(points, many - 1))]
    with ThreadPoolExecutor(place.at_once) as pool:
        came = pool.map(lambda play: _once(place, *play), plays)
        return Counter(name for (name, _, _), killed in zip(plays, came, strict=True) if killed)


def _every(place: Place, name: str, moment: str) -> int:
    return place.theatre.every(lambda at: _once(place, name, moment, at), at_once=place.at_once)


def _once(place: Place, name: str, moment: str, at: int) -> bool:
    with place.stage(f"{name.replace(' ', '-')}-{moment}-{at}") as stage:
        return _survives(place, stage, SCENARIOS[name], moment, at)
    return True  # there is something to complain of, which is noted


def _survives(place: Place, stage: Stage, scenario: Scenario, moment: str, at: int) -> bool:
    """True if the kill came about."""
    asks, batch = _asks(stage, scenario)
    if scenario.died_before:
        first = stage.start(asks, fault=Fault(AFTER, 4, once_up=True), pace="at once")
        assert first.wait() == -signal.SIGKILL, first.tail()
        asks = ()
    fault = Fault(moment, at, once_up=not scenario.start)
    rest = () if scenario.start else stage.asks("single")  # a runner at rest owns what it stores
    child = stage.start(asks, first=rest, batch=batch, fault=fault, edition=scenario.edition)
    if child.wait() == 0:
        return False
    assert child.code == -signal.SIGKILL, child.tail()
    place.so_far(stage)
    place.end(stage, *(asks if scenario.keyed else ()), edition=scenario.edition)
    return True


def _asks(stage: Stage, scenario: Scenario) -> tuple[tuple[Ask, ...], tuple[Ask, ...]]:
    asks = stage.asks(*scenario.shapes, keyed=scenario.keyed)
    return ((), asks) if scenario.batch else (asks, ())
