"""What the machine found, reduced: each is a few of its steps, which compare model and reality as always."""

from __future__ import annotations

import pytest

from statemachine.machine import EngineMachine
from statemachine.shapes import Shape, TaskShape
from statemachine.walks import STEPS, begin, machine, submit

_ = machine
TIMED = Shape("red", STEPS.tasks, timeout=1.5)
OTHER = Shape("red", (TaskShape("t0"), TaskShape("t1")))


@pytest.mark.parametrize("end", ["crash", "shut_down", "lose_lease"])
def test_a_paused_execution_runs_out_of_time_though_its_owner_is_gone(
    machine: EngineMachine, end: str
) -> None:
    begin(machine, TIMED)
    submit(machine)
    machine.command(0, 0, "pause")
    getattr(machine, end)(0)
    if end != "lose_lease":
        machine.start(0, 0)
    machine.advance(3)
    [one] = machine.world.executions.values()
    assert one.status == "failed"


def test_a_paused_execution_that_is_looked_at_later_counts_once_in_the_bound(machine: EngineMachine) -> None:
    begin(machine, pending=3)
    submit(machine)
    machine.command(0, 0, "pause")
    machine.lose_lease(0)
    submit(machine, "blue", "k1")
    machine.command(0, 1, "pause")
    machine.lose_lease(0)
    submit(machine, "blue", "k2")
    assert len(machine.world.executions) == 3


def test_a_parked_execution_that_is_cancelled_has_no_error_any_more(machine: EngineMachine) -> None:
    begin(machine, STEPS, OTHER)
    submit(machine)
    machine.complete_all(0)
    machine.shut_down(0)
    machine.start(1, 0)
    [one] = machine.world.executions.values()
    assert one.parked
    machine.command(0, 0, "cancel")


@pytest.mark.xfail(strict=True, reason="whoever cancels what nobody drives has no code to merge with")
def test_the_result_of_what_is_cancelled_while_nobody_drives_it_has_what_its_tasks_did(
    machine: EngineMachine,
) -> None:
    begin(machine)
    submit(machine)
    machine.command(0, 0, "pause")
    machine.complete_all(0)
    machine.command(0, 0, "cancel")
    [one] = machine.world.executions.values()
    assert one.context == one.view(None)
