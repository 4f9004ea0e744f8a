"""The world as the model has it: the executions, who is there to run them, and what time it is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from statemachine.model import CRASHES, ExecutionModel, TaskModel
from statemachine.shapes import Shape

Version = tuple[str, str]
"""A workflow's name and its version."""


@dataclass
class RunnerModel:
    """A runner that is alive. ``has`` has the workflows that it registered, by name, each with its version."""

    id: str
    has: dict[str, tuple[Shape, str]] = field(default_factory=dict)

    def offers(self, one: ExecutionModel) -> bool:
        return one.shape.name in self.has and self.has[one.shape.name][1] == one.version


@dataclass
class World:
    """See the module's text. Executions are in the order of their ids, which is that of their birth."""

    slots: int
    window: int
    keep: float
    """Ticks that what has ended is kept; 0 is for ever."""
    stores_away: bool = False
    """True if what only waits is given up at once, so that anybody may go on with it."""
    now: int = 0
    executions: dict[str, ExecutionModel] = field(default_factory=dict)
    runners: dict[int, RunnerModel] = field(default_factory=dict)
    known: dict[Version, Shape] = field(default_factory=dict)
    """Every version that was ever registered."""
    waits: dict[int, str] = field(default_factory=dict)
    """Which execution each of those who wait is waiting for."""
    reborn: RunnerModel | None = None
    """A runner that was dead for a moment since the last step: others may have used that."""
    queued: set[tuple[str, str]] = field(default_factory=set)
    """Tasks that had an owner and no slot after the last step."""
    unclaimed: set[str] = field(default_factory=set)
    """Executions that could have been claimed then."""
    happened: Counter[str] = field(default_factory=Counter)

    @property
    def live(self) -> list[ExecutionModel]:
        return [one for one in self.executions.values() if not one.over]

    @property
    def alive(self) -> dict[str, RunnerModel]:
        return {runner.id: runner for runner in self.runners.values()}

    def by_key(self, key: str) -> ExecutionModel | None:
        return next((one for one in self.executions.values() if one.key == key), None)

    def offering(self, one: ExecutionModel) -> list[RunnerModel]:
        return [runner for runner in self.runners.values() if runner.offers(one)]

    def bodies(self) -> Iterator[tuple[ExecutionModel, str, TaskModel]]:
        """The tasks whose bodies run, or are deferred, on runners that are alive."""
        for one in self.executions.values():
            if one.owner in self.alive:
                yield from ((one, id, task) for id, task in one.tasks.items() if task.runs)

    def owned(self, runner: RunnerModel) -> list[ExecutionModel]:
        return [one for one in self.live if one.owner == runner.id]

    def waiting_for_slots(self, runner: RunnerModel) -> list[tuple[ExecutionModel, str]]:
        return [(one, id) for one in self.owned(runner) for id in one.startable(self.now)]

    def taken(self, runner: RunnerModel) -> int:
        """How many slots of a runner are taken."""
        return sum(
            task.runs and not task.deferred for one in self.owned(runner) for task in one.tasks.values()
        )

    def runs_suspect(self, runner: RunnerModel) -> bool:
        return any(
            task.runs and not task.deferred and task.rows[-1].suspect
            for one in self.owned(runner)
            for task in one.tasks.values()
        )

    def full(self, runner: RunnerModel) -> bool:
        """True if a runner may leave what nobody owns to others, or to later."""
        window = self.window if len(self.runners) == 1 else min(self.window, self.slots + 2)
        active = sum(
            bool(one.startable(self.now))
            or any(task.runs and not task.deferred for task in one.tasks.values())
            for one in self.owned(runner)
        )
        return active >= window or bool(self.waiting_for_slots(runner)) or self.runs_suspect(runner)

    def tick(self) -> None:
        """Time moves on."""
        self.now += 1
        for one, id, task in list(self.bodies()):
            shape = one.shape.task(id)
            assert shape is not None
            timed = shape.timeout is not None and not task.deferred
            if timed and task.began + (shape.timeout or 0) <= self.now:
                self.happened["an attempt ran out of time"] += 1
                one.fail(id, self.now, state="timed_out")

    def lost(self, runner: str, reason: str) -> None:
        """What a runner owned is free."""
        for one in self.live:
            if one.owner == runner:
                for task in one.tasks.values():
                    if task.deferred:
                        self.happened["a deferred attempt was interrupted"] += 1
                    elif task.runs:
                        self.happened[f"an attempt was interrupted: {reason}"] += 1
                one.interrupt(reason)

    def old(self) -> list[str]:
        """What ended so long ago that it may be pruned."""
        return [
            id
            for id, one in self.executions.items()
            if self.keep and one.finished is not None and one.finished + self.keep < self.now
        ]

    def prune(self) -> list[str]:
        """Forget what is old; return which."""
        old = self.old()
        for id in old:
            del self.executions[id]
        return old


def is_suspect(task: TaskModel) -> bool:
    return task.crashes() >= CRASHES


def short(value: Any) -> str:
    return f"{value!r:.400}"
