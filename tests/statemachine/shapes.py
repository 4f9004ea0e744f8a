"""Shapes: workflows as plain values, drawn by Hypothesis, and the real workflows that are built from them."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, Literal

from hypothesis import strategies as st

from cloacina import Context, RetryPolicy, TaskHandle, Workflow
from cloacina.model.rules import (
    All,
    Always,
    Any_,
    Condition,
    None_,
    Not,
    TaskFailed,
    TaskSkipped,
    TaskSuccess,
    context_value,
)
from statemachine.stage import Stage

TICK = 7200.0
"""Seconds by which the machine moves the clock: all that is due in a shape is due in the middle of a tick."""

Policy = Literal["adopt_if_compatible", "pin", "adopt"]


@dataclass(frozen=True, repr=False)
class TaskShape:
    """A task. ``delay`` and ``timeout`` are in ticks."""

    id: str
    dependencies: tuple[str, ...] = ()
    rule: Condition | None = None
    optional: bool = False
    attempts: int = 1
    delay: float = 0.5
    timeout: float | None = None
    recovers: bool = False

    def __repr__(self) -> str:
        return _told(self)

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(repr(self))  # as Hypothesis prints it


@dataclass(frozen=True, repr=False)
class Shape:
    """A workflow. ``edition`` is in the code of all its bodies; ``timeout`` is in ticks."""

    name: str
    tasks: tuple[TaskShape, ...]
    timeout: float | None = None
    edition: int = 1
    policy: Policy = "adopt_if_compatible"

    def __repr__(self) -> str:
        return _told(self)

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(repr(self))  # as Hypothesis prints it

    @property
    def order(self) -> list[TaskShape]:
        """The tasks in canonical order: again and again the first one declared whose dependencies have come."""
        left, order = list(self.tasks), list[TaskShape]()
        while left:
            placed = {task.id for task in order}
            order.append(next(task for task in left if placed.issuperset(task.dependencies)))
            left.remove(order[-1])
        return order

    def task(self, id: str) -> TaskShape | None:
        return next((task for task in self.tasks if task.id == id), None)


def _told(shape: TaskShape | Shape) -> str:
    """The shape without what is as usual."""
    told = [
        f"{one.name}={getattr(shape, one.name)!r}"
        for one in fields(shape)
        if getattr(shape, one.name) != one.default
    ]
    return f"{type(shape).__name__}({', '.join(told)})"


def built(shape: Shape, stage: Stage) -> Workflow:
    """The real workflow, whose bodies wait on ``stage``."""
    timeout = None if shape.timeout is None else shape.timeout * TICK
    workflow = Workflow(shape.name, timeout=timeout, on_version=shape.policy)
    for task in shape.tasks:
        options: dict[str, Any] = {} if task.rule is None else {"trigger_rules": task.rule}
        workflow.task(
            _body(stage, shape.edition),
            id=task.id,
            dependencies=task.dependencies,
            retry=RetryPolicy(
                max_attempts=task.attempts,
                initial_delay=task.delay * TICK,
                max_delay=10 * TICK,
                backoff="fixed",
                jitter=0,
            ),
            timeout=None if task.timeout is None else task.timeout * TICK,
            optional=task.optional,
            **options,
        )
    return workflow.validate()


def _body(stage: Stage, edition: int) -> Any:
    async def body(ctx: Context, handle: TaskHandle) -> None:
        await stage.play(ctx, handle, edition)

    return body


# Drawing.


@st.composite
def shapes(draw: st.DrawFn, name: str) -> Shape:
    """A workflow of one to five tasks."""
    tasks: list[TaskShape] = []
    timed = draw(st.sampled_from(["no", "tasks", "workflow"]))
    for number in range(draw(st.integers(1, 5))):
        above = [task.id for task in tasks]
        after = tuple(id for id in above if draw(st.booleans()))
        tasks.append(
            TaskShape(
                f"t{number}",
                after,
                draw(conditions(after)) if draw(st.integers(0, 2)) == 2 else None,
                optional=draw(st.integers(0, 5)) == 5,
                attempts=draw(st.integers(1, 3)),
                delay=draw(st.sampled_from([0.5, 0.0, 1.5])),
                timeout=1.5 if timed == "tasks" else None,
            )
        )
    timeout = 1.5 if timed == "workflow" else None
    policy: Policy = draw(st.sampled_from(["adopt_if_compatible", "adopt_if_compatible", "pin", "adopt"]))
    return Shape(name, tuple(tasks), timeout, policy=policy)


@st.composite
def conditions(draw: st.DrawFn, after: tuple[str, ...], depth: int = 2) -> Condition:
    """A rule of a task that comes after these."""
    leaves = ["flag", "always", *["task"] * 3 * bool(after)]
    kind = draw(st.sampled_from([*leaves, *(["not", "all", "any", "none"] if depth else [])]))
    if kind == "task":
        made = draw(st.sampled_from([TaskSuccess, TaskFailed, TaskSkipped]))
        return made(draw(st.sampled_from(after)))
    if kind == "flag":
        return context_value("flag", "equals", True)
    if kind == "always":
        return Always()
    if kind == "not":
        return Not(draw(conditions(after, depth - 1)))
    parts = tuple(draw(st.lists(conditions(after, depth - 1), min_size=1, max_size=2)))
    return {"all": All, "any": Any_, "none": None_}[kind](parts)


@st.composite
def successors(draw: st.DrawFn, shape: Shape) -> Shape:
    """The next version of a workflow: other code, a task more, one less, or one that depends on less."""
    kind = draw(st.sampled_from(["code", "more", "less", "other"]))
    last = shape.tasks[-1]
    if kind == "more":
        more = TaskShape(f"new{len(shape.tasks)}", (last.id,), timeout=last.timeout)
        return replace(shape, tasks=(*shape.tasks, more))
    if kind == "less" and len(shape.tasks) > 1:
        return replace(shape, tasks=shape.tasks[:-1])
    if kind == "other" and last.dependencies and last.rule is None:
        changed = replace(last, dependencies=last.dependencies[1:])
        return replace(shape, tasks=(*shape.tasks[:-1], changed))
    return replace(shape, edition=shape.edition + 1)
