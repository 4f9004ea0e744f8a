"""Walks that a short random run hardly takes: model and reality are compared after every step of theirs too."""

from __future__ import annotations

from statemachine.machine import EngineMachine
from statemachine.shapes import Shape, TaskShape
from statemachine.walks import begin, crash, history, machine, submit

_ = machine
CRASHED = ("interrupted", "crash")


def test_what_crashed_often_runs_alone_and_is_poisoned_in_the_end(machine: EngineMachine) -> None:
    begin(machine)
    submit(machine)
    submit(machine)
    for _ in range(2):
        crash(machine)
    assert machine.world.happened["a suspect waits for another"]
    for _ in range(3):
        crash(machine)
    assert history(machine) == [*[CRASHED] * 5, ("failed", "poisoned")]
    assert history(machine, which=1) == [CRASHED, CRASHED, ("running", None)], "it was innocent"


def test_a_retry_is_not_due_sooner_because_its_runner_died(machine: EngineMachine) -> None:
    begin(machine, Shape("red", (TaskShape("t0", attempts=2, delay=1.5),)))
    submit(machine)
    machine.fail(0, False)
    crash(machine)
    machine.advance(1)
    assert history(machine) == [("failed", None)]
    machine.advance(1)
    assert history(machine) == [("failed", None), ("running", None)]


def test_a_version_that_changed_what_was_done_is_not_adopted(machine: EngineMachine) -> None:
    done = (TaskShape("t0"), TaskShape("t1", ("t0",)), TaskShape("t2", ("t1",)))
    other = (TaskShape("t0"), TaskShape("t1"), TaskShape("t2", ("t1",)))
    begin(machine, Shape("red", done), Shape("red", other))
    submit(machine)
    submit(machine)
    machine.complete(0, 0)
    crash(machine, red=1)
    first, second = machine.world.executions.values()
    assert (first.parked, second.parked) == (True, False)
    machine.complete_all(1)
    machine.shut_down(0)
    machine.start(0, 0)
    assert not next(iter(machine.world.executions.values())).parked


def test_what_waits_for_a_retry_is_cancelled_while_nobody_drives_it(machine: EngineMachine) -> None:
    begin(machine, Shape("red", (TaskShape("t0", attempts=2), TaskShape("t1", ("t0",)))))
    submit(machine)
    machine.command(0, 0, "pause")
    machine.fail(0, False)
    machine.command(0, 0, "cancel")
    assert history(machine) == [("failed", None), ("cancelled", "cancelled")]
    assert history(machine, "t1") == [("skipped", "cancelled")]


def test_what_became_ready_during_a_pause_starts_when_it_is_resumed(machine: EngineMachine) -> None:
    begin(machine, Shape("red", (TaskShape("t0"), TaskShape("t1"), TaskShape("t2", ("t0",)))))
    submit(machine)
    machine.command(0, 0, "pause")
    machine.complete(0, 0)
    machine.command(0, 0, "resume")
    assert history(machine, "t2") == [("running", None)]
