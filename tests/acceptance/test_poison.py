"""Tasks that kill their process each time: they are isolated, everything else completes."""

from __future__ import annotations

import pytest

from acceptance.support.stage import Stage

CRASHES_AS_ANY_OTHER, CRASH_CAP = 2, 3


@pytest.mark.parametrize("shape", ["exits", "segfaults"])
def test_a_poison_task_fails_after_the_documented_number_of_crashes(stage: Stage, shape: str) -> None:
    stage.close_gate()
    good = ["victim"] * 6 + ["single"] * 12 + ["diamond"] * 12
    crashes = supervise(stage, [*good[:15], shape, *good[15:]])
    assert crashes == CRASHES_AS_ANY_OTHER + CRASH_CAP
    found = stage.finally_()
    (poison,) = found.of(shape)
    (rows,) = found.attempts[poison.id].values()
    assert [(row.state, row.reason, row.suspect) for row in rows] == [
        *[("interrupted", "crash", 0)] * CRASHES_AS_ANY_OTHER,
        *[("interrupted", "crash", 1)] * CRASH_CAP,
        ("failed", "poisoned", 0),
    ]


def test_several_poison_tasks_do_not_hide_behind_each_other(stage: Stage) -> None:
    shapes = ["exits", "segfaults"] * 2 + ["victim", "single", "chain", "flaky"] * 5
    crashes = supervise(stage, shapes)
    assert crashes <= 4 * (CRASHES_AS_ANY_OTHER + CRASH_CAP)
    stage.finally_()


def supervise(stage: Stage, shapes: list[str]) -> int:
    """Start a program again and again until it ends well; return how often it did not."""
    crashes = 0
    child = stage.start(stage.asks(*shapes), pace="at once")
    while child.wait() != 0:
        crashes += 1
        stage.midway()
        assert crashes < 50, child.tail()
        child = stage.start()
    return crashes
