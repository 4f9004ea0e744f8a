"""Runners that stand still for longer than their lease: others take over, and what comes late is refused."""

from __future__ import annotations

import signal

import pytest

from acceptance.support.child import Child
from acceptance.support.order import Fault
from acceptance.support.stage import Stage, Theatre

LEASE = 0.8
REPEATED = [("interrupted", "lost_lease"), ("completed", None)]


@pytest.mark.parametrize("shape", ["gated", "stale"])
def test_what_a_frozen_runner_reports_late_is_refused(stage: Stage, shape: str) -> None:
    """A late success and a late failure: neither ends the task, nor counts as an attempt that failed."""
    first, old = start_and_freeze(stage, shape, shape)
    stage.finish(lease=LEASE)
    stage.open_gate()
    stage.thaw(first)
    for _ in range(2):
        first.line("passed")
    assert_lives_on(first, old)
    found = stage.finally_()
    for row in found.of(shape):
        rows = found.attempts[row.id]["waits" if shape == "gated" else "fails_late"]
        assert [(row.state, row.reason) for row in rows] == REPEATED
        assert [row.runner == old for row in rows] == [True, False]


def test_a_runner_frozen_alone_takes_its_own_work_again_and_refuses_its_own_past(stage: Stage) -> None:
    first, old = start_and_freeze(stage, "victim")
    assert first.outlives(1.5 * LEASE)
    stage.thaw(first)
    first.line("waiting")
    stage.open_gate()
    for _ in range(2):
        first.line("passed")
    first.line("over")
    assert_lives_on(first, old)
    found = stage.finally_()
    (victim,) = found.of("victim")
    assert [(row.state, row.reason) for row in found.attempts[victim.id]["suffers"]] == REPEATED


def test_a_thawed_runner_that_ends_at_once_leaves_the_work_of_its_successor_alone(stage: Stage) -> None:
    first, _ = start_and_freeze(stage, "victim")
    second = stage.start(lease=LEASE)
    second.line("waiting")
    stage.thaw(first)
    first.signal(signal.SIGTERM)
    assert first.wait() == 0, first.tail()
    stage.open_gate()
    assert second.wait() == 0, second.tail()
    assert [(row.state, row.reason) for row in stage.finally_().rows] == REPEATED


def test_a_freeze_shorter_than_the_lease_changes_nothing(stage: Stage) -> None:
    first, old = start_and_freeze(stage, "gated", lease=30.0)
    second = stage.start(stay=True)
    second.line("staying")
    assert second.outlives(0.5)
    stage.thaw(first)
    stage.open_gate()
    first.line("over")
    end(first)
    end(second)
    stage.frozen.clear()
    assert {(row.state, row.runner) for row in stage.finally_().rows} == {("completed", old)}


@pytest.mark.parametrize("times", [1, 3])
@pytest.mark.parametrize("moment", ["freeze-before-commit", "freeze-after-commit"])
def test_a_runner_frozen_at_any_commit_goes_on(theatre: Theatre, moment: str, times: int) -> None:
    """Also while it starts, and while it starts again under a new id."""
    lease = 0.15

    def play(number: int) -> bool:
        with theatre.stage(str(number)) as stage:
            child = stage.start(stage.asks("diamond"), fault=Fault(moment, number, times), lease=lease)
            stage.frozen.add(child.pid)
            froze = 0
            while child.says("freezing"):
                froze += 1
                assert child.outlives(2 * lease)
                stage.thaw(child)
            assert child.wait() == 0, child.tail()
            stage.finally_()
            return froze > 0

    assert theatre.every(play) >= 7


def test_a_group_that_was_frozen_on_its_way_is_refused(theatre: Theatre) -> None:
    """The runner is frozen as it begins to write, for so long that another one does all its work."""
    lease = 0.15

    def play(number: int) -> bool:
        with theatre.stage(str(number)) as stage:
            fault = Fault("freeze-before-begin", number, once_up=True)
            child = stage.start(stage.asks("diamond", "fallback"), fault=fault, lease=lease)
            if not child.says("freezing"):
                return False
            stage.frozen.add(child.pid)
            stage.finish(lease=lease)
            stage.thaw(child)
            assert child.wait() == 0, child.tail()
            stage.finally_()
            return True

    assert theatre.every(play) >= 7


def test_a_dead_runner_can_own_nothing_any_more(theatre: Theatre) -> None:
    """As above, but the other one lives on, and the frozen one dies as soon as it has written something."""
    lease = 0.15

    def play(number: int) -> bool:
        with theatre.stage(str(number)) as stage:
            first, asks = stage.asks("single"), stage.asks("diamond", "fallback", "single")
            fault = Fault("freeze-before-begin", number, once_up=True, dies=True)
            child = stage.start(asks, first=first, fault=fault, lease=lease)
            runner = child.line("up")
            if not child.says("freezing"):
                return False
            stage.frozen.add(child.pid)
            left = [row for row in stage.read().executions.values() if not row.over]
            other = stage.start(stay=True, lease=lease)
            for row in left:
                other.line(f"over {row.workflow} {row.id}")
            stage.wait_until_dead(runner)
            stage.thaw(child)
            assert child.wait() == -signal.SIGKILL, child.tail()
            end(other)
            stage.finally_()
            return True

    assert theatre.every(play) >= 4


def test_a_blocked_loop_gives_up_its_work_and_lives_on_when_it_is_free(stage: Stage) -> None:
    stage.close_gate()
    later = stage.asks("diamond")
    first = stage.start(stage.asks("blocking"), later=later, stay=True, loop_block_limit=0.3)
    old = first.line("up")
    first.line("waiting")
    stage.frozen.add(first.pid)
    stage.finish()
    log = stage.log()
    assert "the event loop was blocked" in log
    assert "task 'blocks_the_loop' of execution" in log
    stage.open_gate()
    assert_lives_on(first, old)
    found = stage.finally_()
    (blocked,) = found.of("blocking")
    assert [(row.state, row.reason) for row in found.attempts[blocked.id]["blocks_the_loop"]] == REPEATED


def test_those_who_wait_are_told_what_a_runner_wrote_as_it_gave_up(stage: Stage) -> None:
    """Nobody else is there: the blocking body ends in the same turn of the loop in which its runner gives up."""
    times = 3
    later = stage.asks(*["blocking"] * times)
    first = stage.start(stage.asks("single"), later=later, stay=True, loop_block_limit=0.3)
    first.line("over single")
    stage.frozen.add(first.pid)
    for _ in range(times):
        stage.close_gate()
        first.signal(signal.SIGUSR1)
        first.line("waiting")
        first.line("logged cloacina.lease")
        stage.open_gate()
        first.line("later")
    end(first)
    stage.finally_()


def start_and_freeze(stage: Stage, *shapes: str, lease: float = LEASE) -> tuple[Child, str]:
    """A runner that is frozen while these bodies wait at the closed gate; and its id."""
    stage.close_gate()
    asks, later = stage.asks(*shapes), stage.asks("diamond")
    child = stage.start(asks, later=later, stay=True, lease=lease)
    runner = child.line("up")
    for _ in shapes:
        child.line("waiting")
    child.line("staying")
    stage.freeze(child)
    return child, runner


def assert_lives_on(child: Child, old: str) -> None:
    """Its runner has another id now, and does new work."""
    child.signal(signal.SIGUSR1)
    assert child.line("later") != old
    end(child)


def end(child: Child) -> None:
    child.signal(signal.SIGTERM)
    assert child.wait() == 0, child.tail()
