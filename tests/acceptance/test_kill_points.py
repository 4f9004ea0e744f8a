"""Kills at every commit, and at every write and sync: nothing lost, nothing twice, nothing half done."""

from __future__ import annotations

import signal

import pytest

from acceptance.support.campaign import campaign
from acceptance.support.order import Fault
from acceptance.support.stage import Stage, Theatre

BEFORE, AFTER, DISK = "kill-before-commit", "kill-after-commit", "kill-io"

# Everyday, only every seventh write or sync of a file is a point; the campaign visits them all.
POINTS = [
    pytest.param(BEFORE, 1, id="before each commit"),
    pytest.param(AFTER, 1, id="after each commit"),
    pytest.param(DISK, 7, id="at writes and syncs"),
    campaign(DISK, 1),
]


@pytest.mark.parametrize(("moment", "step"), POINTS)
def test_an_execution_survives_a_kill_at_every_point(theatre: Theatre, moment: str, step: int) -> None:
    def play(number: int) -> bool:
        with theatre.stage(str(number)) as stage:
            if not killed(stage, Fault(moment, number * step), "diamond"):
                return False
            stage.midway()
            stage.finish()
            assert len(stage.finally_().executions) <= 1
            return True

    assert theatre.every(play) >= 7


@pytest.mark.parametrize(("moment", "step"), POINTS)
def test_failures_skips_and_retries_survive_a_kill_at_every_point(
    theatre: Theatre, moment: str, step: int
) -> None:
    def play(number: int) -> bool:
        with theatre.stage(str(number)) as stage:
            if not killed(stage, Fault(moment, number * step), "fallback", "flaky"):
                return False
            stage.midway()
            stage.finish()
            assert len(stage.finally_().executions) <= 2
            return True

    assert theatre.every(play) >= 7


@pytest.mark.parametrize(("moment", "step"), [(BEFORE, 1), (AFTER, 1), (DISK, 3)])
def test_a_database_survives_a_kill_while_it_is_made(theatre: Theatre, moment: str, step: int) -> None:
    def play(number: int) -> bool:
        with theatre.stage(str(number), bare=True) as stage:
            child = stage.start(stage.asks("diamond"), fault=Fault(moment, number * step))
            if child.says("up"):
                return False
            assert child.wait() == -signal.SIGKILL, child.tail()
            stage.finish(stage.asks("diamond"))
            assert len(stage.finally_().executions) == 1
            return True

    assert theatre.every(play) >= 3


@pytest.mark.parametrize("owned", [True, False], ids=["owned", "unowned"])
@pytest.mark.parametrize(("moment", "step"), [(BEFORE, 1), (AFTER, 1), (DISK, 3)])
def test_a_submit_is_stored_whole_or_not_at_all(
    theatre: Theatre, moment: str, step: int, owned: bool
) -> None:
    """A runner at rest owns at once what it stores; one that has just started stores it for whoever claims it."""

    def play(number: int) -> bool:
        with theatre.stage(str(number)) as stage:
            first, asks = stage.asks(*["single"] * owned), stage.asks("diamond")
            child = stage.start(asks, first=first, fault=Fault(moment, number * step, once_up=True))
            if f"acked {asks[0].number}" in child.lines():
                return False
            assert child.wait() == -signal.SIGKILL, child.tail()
            found = stage.midway()
            for row in found.executions.values():
                if row.over:
                    continue
                tasks = found.attempts.get(row.id, {})
                states = {task: [run.state for run in runs] for task, runs in tasks.items()}
                assert states == ({} if row.owner is None else {"top": ["running"]})
            stage.finish()
            stage.finally_()
            return True

    assert theatre.every(play) >= (moment != AFTER)


def test_a_key_finds_the_execution_whose_submit_died_before_its_reply(stage: Stage) -> None:
    died_in_the_gap = 0
    for ask in stage.asks(*["single"] * 10, keyed=True):
        for at in (1, 2):
            stage.start([ask], fault=Fault(AFTER, at, once_up=True)).wait()
        stored = {row.key: row.id for row in stage.midway().executions.values()}
        died_in_the_gap += ask.key in stored and f"ack {ask.number} " not in stage.ledger.read_text()
        stage.finish([ask])
        assert stage.read().executions.keys() >= set(stored.values())
    assert died_in_the_gap == 10
    assert len(stage.finally_().executions) == 10


@pytest.mark.parametrize(("moment", "step"), [(BEFORE, 1), (AFTER, 1), (DISK, 11)])
def test_a_recovery_survives_a_kill_at_every_point(theatre: Theatre, moment: str, step: int) -> None:
    with theatre.stage("origin") as origin:
        origin.close_gate()
        child = origin.start(origin.asks(*["gated"] * 20), pace="at once", stay=True)
        for _ in range(20):
            child.line("waiting")
        child.kill()
        assert len(origin.midway().attempts) == 20

        def play(number: int) -> bool:
            with theatre.stage(str(number), like=origin) as stage:
                if not killed(stage, Fault(moment, number * step)):
                    return False
                stage.midway()
                stage.finish()
                assert len(stage.finally_().executions) == 20
                return True

        assert theatre.every(play) >= 5


def killed(stage: Stage, fault: Fault, *shapes: str) -> bool:
    """Run a program on these shapes with the fault; True if it was killed by it, False if it came to its end."""
    child = stage.start(stage.asks(*shapes), fault=fault)
    child.wait()
    assert child.code in (0, -signal.SIGKILL), child.tail()
    return child.code != 0
