"""Disks that fail and power that goes: what was acknowledged is there, whole, and goes on."""

from __future__ import annotations

import random
import shutil
import signal

import pytest

from acceptance.support import power
from acceptance.support.campaign import campaign
from acceptance.support.order import Fault
from acceptance.support.shapes import MIXED
from acceptance.support.stage import Stage, Theatre

FOR_EVER = 1_000_000


@pytest.mark.parametrize("full", [False, True], ids=["broken", "full"])
@pytest.mark.parametrize("times", [1, 4])
@pytest.mark.parametrize("step", [5, campaign(1)])
def test_work_goes_on_by_itself_after_the_disk_failed(
    theatre: Theatre, step: int, times: int, full: bool
) -> None:
    """The n-th write or sync fails, and some that follow; nobody notices but the log."""

    def play(number: int) -> bool:
        with theatre.stage(str(number)) as stage:
            fault = Fault("fail-io", number * step, times, full, once_up=True)
            first, asks = stage.asks("single"), stage.asks("diamond", "fallback")
            child = stage.start(asks, first=first, fault=fault)
            faulted = child.says("faulted")
            assert child.wait() == 0, child.tail()
            found = stage.finally_()
            assert {row.state for row in found.runners.values()} == {"stopped"}
            assert {row.attempt for row in found.rows} <= {0, 1}
            return faulted

    assert theatre.every(play) >= 50 // step


@pytest.mark.parametrize("step", [9, campaign(1)])
def test_nothing_acknowledged_is_lost_when_the_disk_fails_for_good(theatre: Theatre, step: int) -> None:
    """From the n-th write or sync on, all fail, until the process is killed and the disk is mended."""

    def play(number: int) -> bool:
        with theatre.stage(str(number)) as stage:
            fault = Fault("fail-io", number * step, FOR_EVER, once_up=True)
            first, asks = stage.asks("single"), stage.asks("diamond", "fallback")
            child = stage.start(asks, first=first, fault=fault)
            if not child.says("logged cloacina.store"):
                return False
            child.kill()
            stage.midway()
            stage.finish()
            stage.finally_()
            return True

    assert theatre.every(play) >= 50 // step


@pytest.mark.parametrize("at", [1, 20, 40])
def test_a_runner_can_be_stopped_while_the_disk_fails(stage: Stage, at: int) -> None:
    fault = Fault("fail-io", at, FOR_EVER, once_up=True)
    child = stage.start(stage.asks("diamond", "fallback"), fault=fault, shutdown_grace=0.2, stay=True)
    child.line("logged cloacina.store")
    child.signal(signal.SIGTERM)
    assert child.wait() == 0, child.tail()
    stage.lost_power.add(child.pid)
    stage.midway()
    stage.finish()
    stage.finally_()


@pytest.mark.parametrize(("moments", "played_on"), [(150, 10), campaign(10_000, 200)])
def test_nothing_acknowledged_is_lost_in_a_power_cut(
    theatre: Theatre, rng: random.Random, moments: int, played_on: int
) -> None:
    """Two programs, one after the other, are recorded; then the power goes at many moments of their work."""
    with theatre.stage("recorded") as recorded:
        start = recorded.database.read_bytes()
        happened = record(recorded)
    pids = {child.pid for child in recorded.children}
    chosen = set(rng.sample(range(moments), played_on))
    for number, image in enumerate(power.cuts(happened, recorded.database.name, start, rng, moments)):
        image.write(theatre.folder / str(number))
        with theatre.stage(str(number)) as stage:
            stage.lost_power = pids
            stage.midway()
            if number in chosen:
                stage.finish()
                stage.finally_()
        shutil.rmtree(stage.folder)


def record(stage: Stage) -> list[power.Operation]:
    """Everything that two programs do, of which the first leaves work to the second."""
    trace = stage.folder / "trace"
    child = stage.start(stage.asks(*MIXED * 25), trace=trace, stay=True, pace="to the end")
    child.line("staying")
    child.signal(signal.SIGTERM)
    assert child.wait() == 0, child.tail()
    child = stage.start(stage.asks(*MIXED * 15), trace=trace, pace="at once")
    assert child.wait() == 0, child.tail()
    stage.finally_()
    return power.read(trace)
