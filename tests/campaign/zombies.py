"""Zombies: runners that stand still beyond their lease, and report what they had under way when they go on.

Of some the bodies end late, while their successor runs the same bodies, or after it. Others stand still with a group
in their hands that others have made obsolete by the time it reaches the database.
"""

from __future__ import annotations

import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import apsw

from acceptance.support.child import Child
from acceptance.support.ledger import read
from acceptance.support.order import Fault
from acceptance.support.shapes import MIXED
from acceptance.support.stage import Stage
from campaign.place import Place
from campaign.sizes import Sizes
from support.postgres.server import until

LEASE, PATIENT = 0.5, 30.0
"""Of zombies and of their successors, in seconds."""
HERD = 10
SHAPES = ("gated", "stale", "victim")
BODIES = {"waits", "fails_late", "suffers"}
WRITERS = 4


def play(place: Place, sizes: Sizes) -> str:
    """Make so many zombies, half of each kind; return what was done."""
    herds = [min(HERD, sizes.zombies // 2 - first) for first in range(0, sizes.zombies // 2, HERD)]

    def herd(number: int) -> int:
        with place.stage(f"zombies-{number}") as stage:
            return _herd(place, stage, herds[number])
        return 0

    def writers(number: int) -> int:
        with place.stage(f"writers-{number}") as stage:
            return _writers(place, stage, number)
        return 0

    with ThreadPoolExecutor(2) as pool:
        late = sum(pool.map(herd, range(len(herds))))
        stopped = number = 0
        while late + stopped < sizes.zombies and number < sizes.zombies:
            stopped += sum(pool.map(writers, (number, number + 1)))
            number += 2
    return (
        f"{late + stopped} zombies: {late} with bodies that ended late, {stopped} with a group that came late"
    )


def _herd(place: Place, stage: Stage, many: int) -> int:
    stage.close_gate()
    zombies = [stage.start(stage.asks(*SHAPES), stay=True, lease=LEASE) for _ in range(many)]
    for zombie in zombies:
        zombie.line("staying")
        stage.frozen.add(zombie.pid)  # also if such a short lease runs out without that
    until(lambda: len(_begun(stage)) >= many * len(SHAPES), "the bodies do not start", 60)
    _freeze(stage, zombies)
    successor = stage.start(stay=True, lease=PATIENT)
    successor.line("up")
    all_again = many * len(SHAPES)
    until(
        lambda: len(_begun(stage, successor) | _over(stage)) >= all_again,
        "the successor does not take over",
        60,
    )
    for zombie in zombies[::2]:
        stage.thaw(zombie)  # while its successor runs the victims
    stage.open_gate()
    until(lambda: len(_over(stage)) >= all_again, "the successor does not come to an end", 60)
    for zombie in zombies[1::2]:
        stage.thaw(zombie)
    for child in (*zombies, successor):
        _stop(child)
    place.judge(stage)
    return many


def _writers(place: Place, stage: Stage, number: int) -> int:
    """Programs that freeze as they begin to write; those that do not freeze take over from the others.

    Some die as soon as they have written something after the thaw, and leave behind whatever that was.
    """
    rng = place.rng("writers", number)
    children: list[Child] = []
    for _ in range(WRITERS):
        fault = Fault("freeze-before-begin", rng.randint(1, 6), once_up=True, dies=rng.random() < 0.5)
        first, asks = stage.asks("single"), stage.asks(*rng.choices(MIXED, k=4))
        children.append(stage.start(asks, first=first, fault=fault, lease=LEASE))
        stage.frozen.add(children[-1].pid)
    frozen = [child for child in children if child.says("freezing")]
    counts = _takes_writes(stage)  # else another thread of one is just writing
    if counts:
        stage.finish(lease=PATIENT)
    for child in frozen:
        stage.thaw(child)
    for child in children:
        assert child.wait() in (0, -signal.SIGKILL), child.tail()
    place.end(stage, lease=PATIENT)
    return len(frozen) if counts else 0


def _freeze(stage: Stage, zombies: list[Child]) -> None:
    """Freeze them all, but none within a write to an SQLite file: nobody could go on, as the documentation says."""
    while True:
        for zombie in zombies:
            stage.freeze(zombie)
        for zombie in zombies:
            until(lambda pid=zombie.pid: _stands_still(pid), "a process does not stop")
        if _takes_writes(stage):
            return
        for zombie in zombies:
            stage.thaw(zombie)


def _stands_still(pid: int) -> bool:
    """True if all its threads do: a signal takes its time."""
    try:
        told = [stat.read_text() for stat in Path(f"/proc/{pid}/task").glob("*/stat")]
    except OSError:  # one has just ended
        return False
    return {text.rpartition(")")[2].split()[0] for text in told} == {"T"}


def _takes_writes(stage: Stage) -> bool:
    if stage.home.schema is not None:
        return True
    connection = apsw.Connection(str(stage.database))
    try:
        connection.execute("BEGIN IMMEDIATE; ROLLBACK")
    except apsw.BusyError:
        return False
    finally:
        connection.close()
    return True


def _begun(stage: Stage, child: Child | None = None) -> set[str]:
    """The executions whose bodies have begun, in one process or any."""
    pid = None if child is None else str(child.pid)
    starts = [
        entry.words for entry in read(stage.ledger) if entry.kind == "start" and entry.words[1] in BODIES
    ]
    return {words[0] for words in starts if pid in (None, words[3])}


def _over(stage: Stage) -> set[str]:
    return {entry.words[0] for entry in read(stage.ledger) if entry.kind == "over"}


def _stop(child: Child) -> None:
    child.signal(signal.SIGTERM)
    assert child.wait() == 0, child.tail()
