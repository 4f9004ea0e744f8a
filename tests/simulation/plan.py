"""A plan: everything that happens in one simulation, as a value that can be stored, read and made smaller.

Times are seconds since the beginning of the simulation.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from simulation.disk import Hiccup

Kind = Literal["kill", "freeze", "stop", "jump", "slow", "outage", "unfile", "block", "cut", "restart"]
"""What can happen to a process: see `simulation.place`."""


class TaskPlan(msgspec.Struct, frozen=True, omit_defaults=True):
    """A task, and how its body behaves."""

    id: str
    after: tuple[str, ...] = ()
    rule: object = None
    """A trigger rule in its JSON grammar."""
    optional: bool = False
    recovers: bool = False
    seconds: float = 0.0
    """How long the body takes."""
    failures: int = 0
    """How many of its attempts fail before one completes."""
    how: Literal["raise", "hang", "cling", "give up"] = "raise"
    """How they fail: with an error, by taking longer than the time limit, the same and then ignoring that they are
    cancelled, or for good at the first."""
    attempts: int = 3
    delay: float = 0.0
    notes: bool = False
    """True if it stores a checkpoint before it fails or completes."""
    waits: float = 0.0
    """If not 0, it is deferred until so many seconds after the beginning."""


class WorkflowPlan(msgspec.Struct, frozen=True, omit_defaults=True):
    """A workflow of one generation of the program."""

    name: str
    tasks: tuple[TaskPlan, ...]
    timeout: float | None = None


class Ask(msgspec.Struct, frozen=True, omit_defaults=True):
    """A submit of an execution, or of several at once."""

    at: float
    place: int
    workflow: str
    flag: bool = False
    """The input's only value, which rules may look at."""
    key: str | None = None
    many: int = 0
    """If not 0, so many are submitted in one call."""
    wait: bool = True
    """True if somebody waits for the result."""


class Order(msgspec.Struct, frozen=True):
    """A command about the execution of an ask."""

    at: float
    place: int
    ask: int
    kind: Literal["cancel", "pause", "resume", "retry"]


class Blow(msgspec.Struct, frozen=True, omit_defaults=True):
    """Something that happens to a place, where one process at a time runs a runner."""

    at: float
    place: int
    kind: Kind
    seconds: float = 1.0
    """How long it takes until all is well again: a new process is started, the frozen one goes on."""
    steps: int = 0
    """It comes so many steps of the process after ``at``."""
    generation: int | None = None
    """Which generation of the program is started next."""


class Trip(msgspec.Struct, frozen=True):
    """A hiccup of the ``job``-th job of the stores of the ``life``-th process at a place."""

    place: int
    life: int
    job: int
    hiccup: Hiccup


class Plan(msgspec.Struct, frozen=True):
    """All of it. ``seed`` decides what is left to chance: how long jobs take, and what the engine draws."""

    seed: int
    places: int
    settings: dict[str, int | float]
    generations: tuple[tuple[WorkflowPlan, ...], ...]
    asks: tuple[Ask, ...]
    orders: tuple[Order, ...] = ()
    blows: tuple[Blow, ...] = ()
    trips: tuple[Trip, ...] = ()
    on_server: bool = False
    """True if leases, locks and the bell are a server's, as on PostgreSQL; else leases are files."""


def written(plan: Plan) -> bytes:
    """``plan`` as JSON."""
    return msgspec.json.format(msgspec.json.encode(plan), indent=1)


def read(text: bytes) -> Plan:
    """The plan that `written` wrote."""
    return msgspec.json.decode(text, type=Plan)
