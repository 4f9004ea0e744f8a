"""The server restarts, crashes, or loses one of its processes: work waits for it and goes on, by itself."""

from __future__ import annotations

import random
import signal
from collections.abc import Callable

import pytest

from acceptance.support.campaign import campaign
from acceptance.support.child import PATIENCE
from acceptance.support.harms import fast, immediate, killed_backend
from acceptance.support.shapes import MIXED
from acceptance.support.stage import Stage, Theatre
from support.postgres.server import PostgresServer

LEASE = 2.0


@pytest.mark.parametrize("times", [2, campaign(100)])
@pytest.mark.parametrize("harm", [fast, immediate, killed_backend])
def test_a_server_that_comes_back_costs_nothing(
    stage: Stage, mortal: PostgresServer, rng: random.Random, times: int, harm: Callable[..., None]
) -> None:
    """Nobody dies, so no body may run twice: the checker knows no cause for a repeat."""
    steady = stage.start(stage.asks(*MIXED * 6 * times), pace="to the end")
    others = [
        stage.start(stage.asks(*MIXED * 3 * times), pace="in turn", stay=True),
        stage.start(stage.asks(*MIXED * 3 * times, keyed=True), pace="at once", stay=True),
    ]
    for program in others:
        program.line("up")
    stage.wait_for_progress()
    harmed = 0
    while harmed < times and steady.outlives(rng.uniform(0.0, 0.1)):
        harm(mortal, rng)
        harmed += 1
        stage.wait_for_progress()
    assert harmed >= times / 2, "the work was over too early"
    for program in others:
        program.line("staying")
    assert steady.wait(PATIENCE * times) == 0, steady.tail()
    for program in others:
        program.signal(signal.SIGTERM)
        assert program.wait() == 0, program.tail()
    assert len(stage.finally_().executions) == 12 * len(MIXED) * times


@pytest.mark.parametrize("times", [2, campaign(20)])
def test_no_orphan_is_stranded_by_a_server_that_crashes_while_they_are_recovered(
    theatre: Theatre, mortal: PostgresServer, rng: random.Random, times: int
) -> None:
    for number in range(times):
        with theatre.stage(str(number)) as stage:
            stage.close_gate()
            asks = stage.asks(*["gated"] * 250)
            dead = stage.start(asks, pace="at once", stay=True, thread_slots=1, window=300, lease=LEASE)
            stage.frozen.add(dead.pid)  # after a restart its lease alone tells that it is dead
            dead.line("staying")
            dead.line("waiting")
            dead.kill()
            stage.open_gate()
            assert sum(row.owner is not None for row in stage.midway().executions.values()) > 200
            finisher = stage.start(alone=True, start_patience=30.0, lease=LEASE)
            assert finisher.outlives(rng.uniform(0.05, 0.3)), finisher.tail()
            mortal.restart("immediate")
            assert finisher.wait() == 0, finisher.tail()
            assert len(stage.finally_().executions) == 250
