"""Shutdown under load, from a SIGTERM: bodies may finish, the rest is handed over, nothing is lost."""

from __future__ import annotations

import random
import signal

import pytest

from acceptance.support.campaign import campaign
from acceptance.support.shapes import MIXED
from acceptance.support.stage import Stage


def test_only_bodies_that_were_cut_run_again(stage: Stage) -> None:
    stage.close_gate()
    asks = stage.asks(*["gated"] * 5, *MIXED * 20)
    child = stage.start(asks, pace="at once", stay=True, shutdown_grace=0.5, cancel_grace=0.1)
    for _ in range(5):
        child.line("waiting")
    child.line("over")
    child.signal(signal.SIGTERM)
    assert child.wait() == 0, child.tail()
    found = stage.midway()
    assert {runner.state for runner in found.runners.values()} == {"stopped"}
    assert {row.owner for row in found.executions.values()} == {None}
    stage.finish()
    cut = [(row.task, row.reason) for row in stage.finally_().rows if row.state == "interrupted"]
    assert cut == [("waits", "shutdown")] * 5


def test_bodies_may_finish_and_what_follows_is_handed_over(stage: Stage) -> None:
    stage.close_gate()
    child = stage.start(stage.asks("gated", "gated"), stay=True)
    for _ in range(2):
        child.line("waiting")
    child.line("staying")
    child.signal(signal.SIGTERM)
    child.line("ending")
    stage.open_gate()
    assert child.wait() == 0, child.tail()
    assert [(row.task, row.state) for row in stage.midway().rows] == [("waits", "completed")] * 2
    stage.finish()
    stage.finally_()


@pytest.mark.parametrize("stops", [10, campaign(200)])
def test_no_body_is_cut_if_it_ends_within_the_grace(stage: Stage, stops: int) -> None:
    rng = random.Random(stops)
    for _ in range(stops):
        child = stage.start(stage.asks(*rng.choices(MIXED, k=20)), pace="at once", stay=True)
        child.line("up")
        child.outlives(rng.uniform(0.0, 0.1))
        child.signal(signal.SIGTERM)
        assert child.wait() == 0, child.tail()
        stage.midway()
    stage.finish()
    assert {row.reason for row in stage.finally_().rows} == {None, "dependency_failed"}


def test_a_second_signal_ends_it_at_once(stage: Stage) -> None:
    stage.close_gate()
    child = stage.start(stage.asks("gated"), stay=True, shutdown_grace=1_000.0)
    child.line("waiting")
    child.line("staying")
    child.signal(signal.SIGTERM)
    child.line("ending")
    child.signal(signal.SIGTERM)
    assert child.wait() == 0, child.tail()
    stage.finish()
    (tasks,) = stage.finally_().attempts.values()
    assert [(row.state, row.reason) for row in tasks["waits"]] == [
        ("interrupted", "shutdown"),
        ("completed", None),
    ]
