"""What the machine found, reduced: each is a few of its steps, which compare model and reality as always."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from statemachine.machine import EngineMachine, machine_at
from statemachine.places import Place
from statemachine.shapes import Shape, TaskShape

STEPS = Shape("red", (TaskShape("t0"), TaskShape("t1", ("t0",))), timeout=1.5)
OTHER = Shape("red", (TaskShape("t0"), TaskShape("t1")))
BLUE = Shape("blue", (TaskShape("t0"),))


@pytest.fixture(params=["file", "postgres"])
def machine(request: pytest.FixtureRequest, place_of: Callable[[str], Place]) -> Iterator[EngineMachine]:
    """A machine that has begun with a runner; at the end it compares once more."""
    machine = machine_at(place_of(request.param))()
    yield machine
    machine.teardown()


def begin(machine: EngineMachine, red: tuple[Shape, Shape] = (STEPS, STEPS), **settings: Any) -> None:
    chosen = {"slots": 2, "window": 50, "waiting": 1000, "pending": 0, "keep": 0.0, "first": 0, **settings}
    machine.begin(red=red, blue=(BLUE, BLUE), **chosen)


def submit(machine: EngineMachine, name: str = "red", **options: Any) -> None:
    machine.submit(
        **{
            "desk": 0,
            "name": name,
            "flag": True,
            "rich": True,
            "key": None,
            "priority": 0,
            "tags": (),
            **options,
        }
    )


@pytest.mark.parametrize("end", ["crash", "shut_down", "lose_lease"])
def test_a_paused_execution_runs_out_of_time_though_its_owner_is_gone(
    machine: EngineMachine, end: str
) -> None:
    begin(machine)
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
    submit(machine, key="k1", name="blue")
    machine.command(0, 1, "pause")
    machine.lose_lease(0)
    submit(machine, key="k2", name="blue")
    assert len(machine.world.executions) == 3


def test_a_parked_execution_that_is_cancelled_has_no_error_any_more(machine: EngineMachine) -> None:
    begin(machine, red=(Shape("red", (TaskShape("t0"), TaskShape("t1", ("t0",)))), OTHER))
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
