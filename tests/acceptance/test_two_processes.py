"""Two processes on one file: they share the work, and one takes over what the other can no longer do."""

from __future__ import annotations

import signal

from acceptance.support.shapes import MIXED
from acceptance.support.stage import Stage


def test_one_takes_over_what_the_other_owned_when_it_was_killed(stage: Stage) -> None:
    stage.close_gate()
    first = stage.start(stage.asks("gated", "gated", "gated"), stay=True)
    for _ in range(3):
        first.line("waiting")
    second = stage.start(stay=True)
    second.line("staying")
    first.kill()
    for _ in range(3):
        second.line("over")
    second.signal(signal.SIGTERM)
    assert second.wait() == 0, second.tail()
    found = stage.finally_()
    for tasks in found.attempts.values():
        assert [(row.state, found.pid(row)) for row in tasks["waits"]] == [
            ("interrupted", first.pid),
            ("completed", second.pid),
        ]


def test_one_claims_what_the_other_has_no_room_for(stage: Stage) -> None:
    stage.close_gate()
    first = stage.start(stage.asks("gated", *["single"] * 10), stay=True, window=1, thread_slots=1)
    first.line("waiting")
    first.line("staying")
    second = stage.start(stay=True)
    for _ in range(10):
        second.line("over")
    stage.open_gate()
    first.line("over gated")
    for child in (first, second):
        child.signal(signal.SIGTERM)
        assert child.wait() == 0, child.tail()
    found = stage.finally_()
    for row in found.executions.values():
        pids = {found.pid(run) for runs in found.attempts[row.id].values() for run in runs}
        assert pids == {first.pid if row.workflow == "gated" else second.pid}


def test_one_waits_for_what_the_other_does(stage: Stage) -> None:
    stage.close_gate()
    first = stage.start(stage.asks("gated", "gated"), stay=True)
    first.line("staying")
    second = stage.start()
    second.line("up")
    assert second.outlives(0.2), second.tail()
    stage.open_gate()
    assert second.wait() == 0, second.tail()
    first.signal(signal.SIGTERM)
    assert first.wait() == 0, first.tail()
    found = stage.finally_()
    assert {found.pid(row) for row in found.rows} == {first.pid}


def test_many_writers_never_see_a_locked_database(stage: Stage) -> None:
    children = [
        stage.start(stage.asks(*MIXED * 20, keyed=True), pace="at once"),
        stage.start(stage.asks(*MIXED * 20), pace="to the end"),
        stage.start(stage.asks(*MIXED * 20, keyed=True), pace="in turn"),
    ]
    for child in children:
        assert child.wait() == 0, child.tail()
    assert stage.log() == "", "there was something to complain about"
    assert len(stage.finally_().executions) == 300
