"""Kills: runners and submitters on one database, killed by `kill -9` one by one and all at once, and replaced."""

from __future__ import annotations

import random
import signal
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any, get_args

from acceptance.support.child import Child
from acceptance.support.order import Ask, Fault, Pace
from acceptance.support.shapes import MIXED
from acceptance.support.stage import Stage
from campaign.place import Place
from campaign.sizes import Sizes

ROUND = 150
"""Kills on one database, after which everything on it comes to its end and is judged."""
LOOKS = 3
"""Looks at each database in the meantime."""
RUNNERS, SUBMITTERS = 3, 2
PLAIN = (*MIXED, "fan", "choice", "nap", "stepwise", "postponed")
TREATED = ("halted", "mended", "again", "endless")
"""Shapes that something is done to after they were submitted."""
MOMENTS = ("kill-before-commit", "kill-after-commit")
SETTINGS: dict[str, Any] = {"crash_cap": 1_000}
"""No task is to blame for these crashes, however many befall it."""


def play(place: Place, sizes: Sizes) -> str:
    """Kill so many processes; return what was done."""
    rounds = [min(ROUND, sizes.kills - first) for first in range(0, sizes.kills, ROUND)]

    def one(number: int) -> Counter[str]:
        with place.stage(f"kills-{number}") as stage:
            crew = _Crew(place, stage, place.rng("kills", number))
            crew.work(rounds[number])
            return crew.killed
        return Counter({"failed": 1})

    with ThreadPoolExecutor(2) as pool:
        killed = sum(pool.map(one, range(len(rounds))), Counter())
    return (
        f"{killed['runner'] + killed['submitter']} kills: {killed['runner']} runners, {killed['submitter']} submitters,"
        f" {killed['all']} times all at once, {killed['commit']} at a commit; {len(rounds)} databases"
    )


class _Crew:
    """The programs on one stage, and who kills them."""

    def __init__(self, place: Place, stage: Stage, rng: random.Random) -> None:
        self._place, self._stage, self._rng = place, stage, rng
        self._alive: dict[Child, str] = {}
        self._faulty: set[Child] = set()
        self._up: set[Child] = set()
        self._keyed: list[Ask] = []
        self.killed: Counter[str] = Counter()

    def work(self, kills: int) -> None:
        """Kill so many, let the work come to its end, and judge."""
        self._wait_until_up(self._start("runner"))  # clients know workflows that somebody has registered
        looks = {kills * look // LOOKS for look in range(1, LOOKS)}
        while (done := self._done) < kills:
            self._fill_up()
            self._strike()
            if looks & set(range(done + 1, self._done + 1)):
                self._place.so_far(self._stage)
        self._kill(*self._alive)
        self._place.end(self._stage, **SETTINGS)

    @property
    def _done(self) -> int:
        return self.killed["runner"] + self.killed["submitter"]

    def _fill_up(self) -> None:
        for role, many in (("runner", RUNNERS), ("submitter", SUBMITTERS)):
            while list(self._alive.values()).count(role) < many:
                self._start(role)

    def _strike(self) -> None:
        for child in [one for one in self._faulty if not one.outlives(0.0)]:
            self._buried(child)
        if not self._alive:
            return
        victim = self._rng.choice(list(self._alive))
        if self._rng.random() < 0.7:
            self._wait_until_up(victim)  # else it may die before: some do while they start
        victim.outlives(self._rng.choice((0.0, 0.02, 0.05, 0.1)))
        if self._rng.random() < 0.04:
            self._kill(*self._alive)
            self.killed["all"] += 1
        else:
            self._kill(victim)

    def _wait_until_up(self, child: Child) -> None:
        if child not in self._up:
            child.says("up")
            self._up.add(child)

    def _kill(self, *children: Child) -> None:
        for child in children:
            self._stage.note("killed", child.pid)
            child.signal(signal.SIGKILL)
        for child in children:
            child.wait()
            self._buried(child)

    def _buried(self, child: Child) -> None:
        role = self._alive.pop(child)
        self._faulty.discard(child)
        assert child.code == -signal.SIGKILL, f"a {role} ended by itself with {child.code}: {child.tail()}"
        self.killed[role] += 1
        self.killed["commit"] += "dying" in child.lines()
        child.close()

    def _start(self, role: str) -> Child:
        rng, stage = self._rng, self._stage
        client = role == "submitter"
        many = rng.randint(2, 6) if client else rng.randint(0, 3)
        asks = [*stage.asks(*rng.choices(PLAIN, k=many)), *stage.asks(*rng.choices(TREATED, k=many // 2))]
        keyed = stage.asks(rng.choice(PLAIN), keyed=True)
        self._keyed += keyed
        asks += rng.sample(self._keyed[-8:], k=1)  # it may have been acknowledged to somebody who is dead
        rng.shuffle(asks)
        batch = stage.asks(*[rng.choice(PLAIN)] * 5) if rng.random() < 0.2 else ()
        first = not self._stage.children
        fault = None
        if not first and rng.random() < 0.3:
            moments = MOMENTS if self._place.server is not None else (*MOMENTS, "kill-io")
            fault = Fault(rng.choice(moments), rng.randint(1, 12))
        child = stage.start(
            asks,
            client=client,
            batch=batch,
            stay=True,
            fault=fault,
            pace=rng.choice(get_args(Pace)),
            **SETTINGS,
        )
        self._alive[child] = role
        if fault is not None:
            self._faulty.add(child)
        return child
