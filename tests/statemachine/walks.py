"""Walks: a machine whose steps a test chooses, with what the steps hardly ever vary filled in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from statemachine.machine import EngineMachine, machine_at
from statemachine.places import Place
from statemachine.shapes import Shape, TaskShape

STEPS = Shape("red", (TaskShape("t0"), TaskShape("t1", ("t0",))))
BLUE = Shape("blue", (TaskShape("t0"),))


def begin(machine: EngineMachine, *red: Shape, **settings: Any) -> None:
    """Begin with a runner that has both workflows; ``red`` are one's versions."""
    first = red[0] if red else STEPS
    chosen = {"slots": 2, "window": 50, "waiting": 1000, "pending": 0, "keep": 0.0, "first": 0, **settings}
    machine.begin(red=(first, red[-1] if red else STEPS), blue=(BLUE, BLUE), **chosen)


def submit(machine: EngineMachine, name: str = "red", key: str | None = None) -> None:
    """Submit an execution."""
    machine.submit(desk=0, name=name, flag=True, rich=True, key=key, priority=0, tags=())


def crash(machine: EngineMachine, red: int = 0) -> None:
    """Let the runner die, and another one come, with that version of red."""
    machine.crash(0)
    machine.start(red, 0)


def history(machine: EngineMachine, task: str = "t0", which: int = 0) -> list[tuple[str, str | None]]:
    """What became of the attempts of a task of the execution that was born as number ``which``."""
    one = list(machine.world.executions.values())[which]
    return [(row.state, row.reason) for row in one.tasks[task].rows]


@pytest.fixture(params=["file", "postgres"])
def machine(request: pytest.FixtureRequest, place_of: Callable[[str], Place]) -> Iterator[EngineMachine]:
    """A machine that has not begun; at the end it compares once more."""
    machine = machine_at(place_of(request.param))()
    yield machine
    machine.teardown()
