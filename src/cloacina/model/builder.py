"""A builder: for workflows that a program makes, task by task, all or nothing."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any, Unpack, overload

from cloacina.errors import WorkflowError
from cloacina.model.task import P, R, Returned, Task, TaskOptions, TypedTask
from cloacina.model.workflow import Workflow, WorkflowOptions


class WorkflowBuilder:
    """Makes a `Workflow` in a ``with`` block; it is checked and frozen where the block ends.

    ::

        with WorkflowBuilder("etl", description="one load for each table") as builder:
            builder.add(extract)
            for table in tables:
                builder.add(partial(load, table=table), id=f"load_{table}", dependencies=["extract"])
        etl = builder.workflow

    The options are those of `Workflow`. If the block raises, there is no workflow.
    """

    def __init__(self, name: str, **options: Unpack[WorkflowOptions]) -> None:
        self._draft = Workflow(name, **options)
        self._workflow: Workflow | None = None
        self._state = _NEW

    def __enter__(self) -> WorkflowBuilder:
        if self._state != _NEW:
            raise WorkflowError(
                f"{self._where}: its builder is for one with block only: make another builder"
            )
        self._state = _OPEN
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._state = _DONE
        if error is None:
            self._workflow = self._draft.validate()

    @overload
    def task(self, fn: Callable[P, R], /, **options: Unpack[TaskOptions]) -> TypedTask[P, R]: ...
    @overload
    def task(self, /, **options: Unpack[TaskOptions]) -> Callable[[Callable[P, R]], TypedTask[P, R]]: ...
    def task(self, fn: Callable[..., Any] | None = None, /, **options: Unpack[TaskOptions]) -> object:
        """Make a task and add it, as `Workflow.task` does. Raises `WorkflowError` outside the block."""
        self._check_open()
        return self._draft.task(**options) if fn is None else self._draft.task(fn, **options)

    def add(self, task: Task | Callable[..., Returned], /, **options: Unpack[TaskOptions]) -> Task:
        """Add a task, or a function with options, as `Workflow.add` does; raises outside the block, too."""
        self._check_open()
        return self._draft.add(task, **options)

    @property
    def workflow(self) -> Workflow:
        """The finished workflow. Raises `WorkflowError` before the block has ended, or if it raised."""
        if self._workflow is None:
            remedy = {
                _NEW: "it has not begun: write with WorkflowBuilder(...) as builder:",
                _OPEN: "it is not finished: read builder.workflow after the with block",
                _DONE: "its with block raised: mend that error and build it again",
            }
            raise WorkflowError(f"{self._where}: {remedy[self._state]}")
        return self._workflow

    @property
    def _where(self) -> str:
        return f"workflow {self._draft.name!r}"

    def _check_open(self) -> None:
        if self._state != _OPEN:
            raise WorkflowError(f"{self._where}: tasks are added inside the builder's with block only")


_NEW, _OPEN, _DONE = "new", "open", "done"
