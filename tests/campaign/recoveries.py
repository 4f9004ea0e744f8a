"""Recoveries: how long after the `kill -9` of a runner another one, that was there, goes on with its work.

With the settings that everybody has. Measured by the ledger: from the line that says that a process was killed to the
next start of each body that ran in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from acceptance.support.child import Child
from acceptance.support.ledger import Entry, read
from acceptance.support.stage import Stage
from campaign.place import Place
from campaign.sizes import Sizes
from cloacina.settings import Settings
from support.postgres.server import until

RUNNERS, BODIES = 3, 6
LANES = 3
"""Databases at the same time."""
BILLION = 1_000_000_000


def play(place: Place, sizes: Sizes) -> str:
    """Kill so many runners, one at a time on each database; return what was done."""
    kills = [sizes.recoveries // LANES + (lane < sizes.recoveries % LANES) for lane in range(LANES)]

    def lane(number: int) -> None:
        with place.stage(f"recoveries-{number}") as stage:
            _lane(stage, kills[number])
            place.tally.recovered(recoveries(read(stage.ledger)))
            place.end(stage)

    before = len(place.tally.recoveries)
    with ThreadPoolExecutor(LANES) as pool:
        list(pool.map(lane, range(LANES)))
    return f"{sum(kills)} kills, {len(place.tally.recoveries) - before} bodies begun again by a runner that was there"


def _lane(stage: Stage, kills: int) -> None:
    runners: dict[int, Child] = {}
    for _ in range(RUNNERS - 1):
        _enter(stage, runners)
    for _ in range(kills):
        stage.close_gate()
        _enter(stage, runners, *["gated"] * BODIES)
        until(lambda: len(_running(stage)) == BODIES, "the bodies do not start", 60)
        pids = [entry.words[3] for entry in _running(stage)]
        victim = max(sorted(runners), key=lambda pid: pids.count(str(pid)))
        child = runners.pop(victim)
        stage.note("killed", victim)
        child.kill()
        until(lambda pid=str(victim): not _waiting_for_another(stage, pid), "nobody takes over", 60)
        stage.open_gate()
        until(lambda: not _running(stage), "the bodies do not end", 60)
    for child in runners.values():
        child.kill()


def _enter(stage: Stage, runners: dict[int, Child], *shapes: str) -> None:
    """Another runner, with more work for all of them."""
    child = stage.start(stage.asks(*shapes), stay=True, poll_interval=Settings().poll_interval)
    child.line("up")
    runners[child.pid] = child


def _running(stage: Stage) -> list[Entry]:
    """The last starts of bodies that wait at the gate, or did so when they were killed."""
    last = {entry.words[0]: entry for entry in read(stage.ledger) if _gated(entry)}
    return [entry for entry in last.values() if entry.kind == "start"]


def _gated(entry: Entry) -> bool:
    return entry.kind in ("start", "end") and entry.words[1] == "waits"


def _waiting_for_another(stage: Stage, victim: str) -> bool:
    return any(entry.words[3] == victim for entry in _running(stage))


def recoveries(entries: Sequence[Entry]) -> list[float]:
    """For each body that a kill cut off: seconds until it began again in a process that was there at the kill."""
    running: dict[tuple[str, str], str] = {}
    cut: dict[tuple[str, str], Entry] = {}
    up: dict[str, int] = {}
    found: list[float] = []
    for entry in entries:
        if entry.kind == "up":
            up[entry.words[0]] = entry.at
        elif entry.kind == "killed":
            for body in [body for body, pid in running.items() if pid == entry.words[0]]:
                cut[body] = entry
                del running[body]
        elif entry.kind in ("start", "end"):
            body, pid = (entry.words[0], entry.words[1]), entry.words[3]
            running.pop(body, None)
            if entry.kind == "start":
                running[body] = pid
                kill = cut.pop(body, None)
                if kill is not None and up.get(pid, kill.at) < kill.at:
                    found.append((entry.at - kill.at) / BILLION)
    return found
