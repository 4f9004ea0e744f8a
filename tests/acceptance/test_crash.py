"""`kill -9` of a lonely process, again and again: nothing lost, nothing twice, no repeat without a cause.

Several processes on one database, killed one by one and all at once, are the campaign's: `tests/campaign/kills.py`.
"""

from __future__ import annotations

import random
import signal
from typing import Any, get_args

import pytest

from acceptance.support.campaign import campaign
from acceptance.support.child import Child
from acceptance.support.order import Pace
from acceptance.support.shapes import MIXED
from acceptance.support.stage import Stage, Theatre

PACES = get_args(Pace)

pytestmark = pytest.mark.parametrize("theatre", ["sqlite", "postgres"], indirect=True)


@pytest.mark.parametrize("kills", [20, campaign(300)])
def test_a_fresh_database_survives_a_kill(theatre: Theatre, rng: random.Random, kills: int) -> None:
    plays = [(rng.choices(MIXED, k=30), rng.choice(PACES), random.Random(rng.random())) for _ in range(kills)]

    def play(number: int) -> bool:
        if number > kills:
            return False
        shapes, pace, own = plays[number - 1]
        with theatre.stage(str(number)) as stage:
            child = stage.start(stage.asks(*shapes), stay=True, pace=pace)
            assert kill_some_time(child, own) == -signal.SIGKILL
            stage.midway()
            stage.finish()
            stage.finally_()
            return True

    assert theatre.every(play) == kills


@pytest.mark.parametrize("backlog", [150, campaign(2_000)])
def test_a_crash_loop_makes_progress(stage: Stage, rng: random.Random, backlog: int) -> None:
    """Each life is short and ends by `kill -9`; each completes something, and in the end all is done."""
    if stage.home.schema is not None:
        backlog //= 3  # each life waits until the ones before count as dead
    narrow: dict[str, Any] = {"async_slots": 1, "thread_slots": 1, "window": 50}
    child = stage.start(stage.asks(*["chain"] * backlog), pace="at once", stay=True, **narrow)
    child.line("staying")
    child.kill()
    done, lives = completed(stage), 1
    while done < 4 * backlog:
        child = stage.start(stay=True, **narrow)
        child.line("over")
        child.outlives(rng.uniform(0.0, 0.02))
        assert child.kill() == -signal.SIGKILL
        done, before = completed(stage), done
        assert done > before
        lives += 1
    print(f"{lives} lives")
    assert lives >= 5
    stage.finish()
    stage.finally_()


def kill_some_time(child: Child, rng: random.Random) -> int:
    """Kill at a moment between the first instruction and some time after the runner is up."""
    if rng.random() < 0.6:
        child.line("up")
    child.outlives(rng.uniform(0.0, 0.15))
    return child.kill()


def completed(stage: Stage) -> int:
    """How many tasks have completed."""
    return sum(row.state == "completed" for row in stage.read().rows)
