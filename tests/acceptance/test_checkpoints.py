"""Checkpoints and deferrals in processes that are really killed: what was kept is never made again."""

from __future__ import annotations

import random
import signal
from collections import Counter

import pytest

from acceptance.support.campaign import campaign
from acceptance.support.child import Child
from acceptance.support.ledger import read
from acceptance.support.order import Fault
from acceptance.support.stage import Stage, Theatre

BEFORE, AFTER, DISK = "kill-before-commit", "kill-after-commit", "kill-io"
LEASE = 0.8


def made_again(stage: Stage) -> Counter[tuple[str, str]]:
    """How often each checkpoint was made more than once; fails if one was made after it had been kept."""
    kept: set[tuple[str, str]] = set()
    made: Counter[tuple[str, str]] = Counter()
    for kind, words, _ in read(stage.ledger):
        if kind == "made":
            assert words[:2] not in kept, f"{words} was made although it was kept"
            made[words[0], words[1]] += 1
        elif kind == "kept":
            kept.add((words[0], words[1]))
    assert made.keys() == kept
    return Counter({name: count - 1 for name, count in made.items() if count > 1})


@pytest.mark.parametrize(("moment", "step"), [(BEFORE, 1), (AFTER, 1), (DISK, 7), campaign(DISK, 1)])
def test_a_checkpoint_is_made_again_only_if_the_kill_came_before_its_commit(
    theatre: Theatre, moment: str, step: int
) -> None:
    repeated: list[int] = []

    def play(number: int) -> bool:
        with theatre.stage(str(number)) as stage:
            child = stage.start(stage.asks("stepwise"), fault=Fault(moment, number * step))
            child.wait()
            if child.code == 0:
                return False
            assert child.code == -signal.SIGKILL, child.tail()
            stage.midway()
            stage.finish()
            assert len(stage.finally_().executions) <= 1
            again = made_again(stage)
            assert again.total() <= 1, again
            if moment == AFTER:
                assert not again, "what was committed is not made again"
            repeated.append(again.total())
            return True

    assert theatre.every(play) >= 7
    if moment == BEFORE:
        assert sum(repeated) >= 7, "each of the checkpoints"


@pytest.mark.parametrize("plays", [5, campaign(100)])
def test_kills_at_random_moments_make_no_kept_value_again(
    theatre: Theatre, rng: random.Random, plays: int
) -> None:
    """Four in a row on each database: a fifth could make a task poisoned."""
    seeds = [rng.random() for _ in range(plays)]

    def play(number: int) -> bool:
        if number > plays:
            return False
        own = random.Random(seeds[number - 1])
        with theatre.stage(str(number)) as stage:
            for _ in range(4):
                child = stage.start(stage.asks("stepwise", "stepwise", "flaky"), stay=True, pace="at once")
                child.line("up")
                child.outlives(own.uniform(0.0, 0.05))
                assert child.kill() == -signal.SIGKILL
            stage.finish()
            stage.finally_()
            made_again(stage)
            return True

    assert theatre.every(play) == plays


def test_a_frozen_body_stores_nothing_late(stage: Stage) -> None:
    """It is frozen in the function of a checkpoint, another process does its work, and then it goes on."""
    stage.close_gate()
    first = stage.start(stage.asks("slow_step"), stay=True, lease=LEASE)
    first.line("waiting")
    stage.freeze(first)
    stage.finish(lease=LEASE)
    stage.open_gate()
    stage.thaw(first)
    first.line("passed")
    first.signal(signal.SIGTERM)
    assert first.wait() == 0, first.tail()
    found = stage.finally_()  # the shape says: quick from the first attempt, slow from the second
    (tasks,) = found.attempts.values()
    assert [(row.state, row.reason) for row in tasks["dawdles"]] == [
        ("interrupted", "lost_lease"),
        ("completed", None),
    ]
    made = Counter(words[1] for kind, words, _ in read(stage.ledger) if kind == "made")
    kept = [(words[1], int(words[2])) for kind, words, _ in read(stage.ledger) if kind == "kept"]
    assert made == {"quick": 1, "slow": 2}
    assert ("slow", first.pid) not in kept, "the frozen body was not told that its value is stored"


@pytest.mark.parametrize("how", ["kill", "stop"])
def test_a_deferred_body_outlives_any_number_of_kills_and_stops(stage: Stage, how: str) -> None:
    lives = 6
    stage.close_gate()
    asks = stage.asks("deferring")
    for life in range(lives):
        child = stage.start(asks if life == 0 else (), stay=True, shutdown_grace=1_000.0)
        deferred_in(stage, child)
        if how == "kill":
            assert child.kill() == -signal.SIGKILL
        else:
            child.signal(signal.SIGTERM)
            assert child.wait() == 0, child.tail()
        stage.midway()
    stage.open_gate()
    stage.finish()
    found = stage.finally_()
    (tasks,) = found.attempts.values()
    for rows in tasks.values():
        assert [(row.state, row.reason, row.suspect) for row in rows] == [
            *[("interrupted", "deferred", 0)] * lives,
            ("completed", None, 0),
        ]


def deferred_in(stage: Stage, child: Child) -> None:
    """Wait until both bodies are stored as deferred by this process."""
    runner = child.line("up").strip()
    while sum((row.state, row.runner) == ("deferred", runner) for row in stage.read().rows) < 2:
        child.line("looks")


@pytest.mark.parametrize(("moment", "step"), [(BEFORE, 1), (AFTER, 1), (DISK, 9)])
def test_a_deferral_survives_a_kill_at_every_point(theatre: Theatre, moment: str, step: int) -> None:
    """The gate opens after some looks, so that the process dies before, while and after it is deferred."""

    def play(number: int) -> bool:
        with theatre.stage(str(number)) as stage:
            stage.close_gate()
            child = stage.start(stage.asks("deferring"), fault=Fault(moment, number * step))
            all(child.says("looks") for _ in range(4))
            stage.open_gate()
            child.wait()
            if child.code == 0:
                return False
            stage.midway()
            stage.finish()
            stage.finally_()
            return True

    assert theatre.every(play) >= 4
