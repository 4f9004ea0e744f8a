"""Disks that fail and power that goes: what was acknowledged is there, whole, and goes on."""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import apsw
import msgspec
import pytest

from acceptance.support.order import Fault
from acceptance.support.shapes import MIXED
from acceptance.support.stage import Stage, Theatre

FOR_EVER = 1_000_000


@pytest.mark.parametrize("full", [False, True], ids=["broken", "full"])
@pytest.mark.parametrize("times", [1, 4])
@pytest.mark.parametrize("step", [5, pytest.param(1, marks=pytest.mark.campaign)])
def test_work_goes_on_by_itself_after_the_disk_failed(theatre: Theatre, step: int, times: int, full: bool) -> None:
    """The n-th write or sync fails, and some that follow; nobody notices but the log."""

    def play(number: int) -> bool:
        with theatre.stage(str(number)) as stage:
            fault = Fault("fail-io", number * step, times, full, once_up=True)
            child = stage.start(stage.asks("diamond", "fallback"), fault=fault)
            faulted = child.says("faulted")
            assert child.wait() == 0, child.tail()
            found = stage.finally_()
            assert {row.state for row in found.runners.values()} == {"stopped"}
            assert all(len(rows) == 1 for tasks in found.attempts.values() for rows in tasks.values())
            return faulted

    assert theatre.every(play) >= 50 // step


@pytest.mark.parametrize("step", [9, pytest.param(1, marks=pytest.mark.campaign)])
def test_nothing_acknowledged_is_lost_when_the_disk_fails_for_good(theatre: Theatre, step: int) -> None:
    """From the n-th write or sync on, all fail, until the process is killed and the disk is mended."""

    def play(number: int) -> bool:
        with theatre.stage(str(number)) as stage:
            fault = Fault("fail-io", number * step, FOR_EVER, once_up=True)
            child = stage.start(stage.asks("diamond", "fallback"), fault=fault)
            if not child.says("logged cloacina.store"):
                return False
            child.kill()
            stage.midway()
            stage.finish()
            stage.finally_()
            return True

    assert theatre.every(play) >= 50 // step
