"""The outline of a version: what a store keeps of a workflow, and how one version differs from another."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

import msgspec

from cloacina.errors import CloacinaError, WorkflowError
from cloacina.model.context.context import Context
from cloacina.model.dag.dag import Dag
from cloacina.model.json.patch import same
from cloacina.model.json.values import JSON
from cloacina.model.rules import condition_from_json
from cloacina.model.task import Task

if TYPE_CHECKING:
    from cloacina.model.workflow import Workflow


class TaskOutline(msgspec.Struct, frozen=True, kw_only=True):
    """One task of a version: what counts for executions of another version.

    ``code`` is the fingerprint of its body, None if its source could not be found. ``rule`` is JSON.
    """

    id: str
    dependencies: tuple[str, ...] = ()
    rule: dict[str, Any] | None = None
    optional: bool = False
    recovers: bool = False
    code: str | None = None


class _Stored(msgspec.Struct):
    name: str
    tasks: tuple[TaskOutline, ...]


class Outline:
    """The tasks of one version in canonical order, by their ids."""

    def __init__(self, name: str, version: str, tasks: tuple[TaskOutline, ...]) -> None:
        self.name = name
        self.version = version
        self.tasks: Mapping[str, TaskOutline] = {task.id: task for task in tasks}

    @classmethod
    def of(cls, workflow: Workflow) -> Outline:
        """The outline of a workflow of this process; freezes."""
        made = cls.read(workflow.version, workflow.to_json())
        made.dag = workflow.dag
        return made

    @classmethod
    def read(cls, version: str, text: str) -> Outline:
        """The outline of a version that the store holds as ``text``. Raises `WorkflowError` if it is damaged."""
        try:
            stored = msgspec.json.decode(text, type=_Stored)
        except (msgspec.DecodeError, UnicodeError) as error:
            raise WorkflowError(
                f"what is stored of version {short(version)} cannot be read: {error}"
            ) from error
        return cls(stored.name, version, stored.tasks)

    @cached_property
    def dag(self) -> Dag:
        """The DAG, whose tasks cannot be run unless they are this process's own.

        Raises `WorkflowError` if what is stored is none.
        """
        try:
            return Dag(self.name, [_task(task) for task in self.tasks.values()])
        except CloacinaError as error:
            raise WorkflowError(
                f"what is stored of version {short(self.version)} cannot be understood: {error}"
            ) from error

    def difference(self, task: str, other: Outline) -> str | None:
        """How ``other`` differs from this version in what decides whether a task runs; None if it does not."""
        mine, theirs = self.tasks.get(task), other.tasks.get(task)
        if mine is None:
            return f"{task} is not known"
        if theirs is None:
            return f"{task} is gone"
        if sorted(mine.dependencies) != sorted(theirs.dependencies):
            before, after = (", ".join(sorted(one.dependencies)) or "nothing" for one in (mine, theirs))
            return f"{task} depends on {after} instead of {before}"
        if not same(cast(JSON, mine.rule), cast(JSON, theirs.rule)):
            return f"{task} has another rule"
        return None

    def same_code(self, task: str, other: Outline) -> bool:
        """True if the body of a task is surely the same in both versions."""
        if self.version == other.version:
            return True
        mine, theirs = self.tasks.get(task), other.tasks.get(task)
        return mine is not None and theirs is not None and mine.code is not None and mine.code == theirs.code


def short(version: str) -> str:
    """The beginning of a version, enough to tell it from others."""
    kind, dash, digits = version.rpartition("-")
    return f"{kind}{dash}{digits[:12]}"


def _task(outline: TaskOutline) -> Task:
    rule = None if outline.rule is None else condition_from_json(outline.rule)
    flags = {"optional": outline.optional, "recovers": outline.recovers}
    options: dict[str, Any] = {"id": outline.id, "dependencies": outline.dependencies, **flags}
    return Task(_elsewhere, **options) if rule is None else Task(_elsewhere, trigger_rules=rule, **options)


def _elsewhere(ctx: Context) -> None:
    """The body of a task whose code this process does not have."""
    raise WorkflowError("the code of this task is in another version of its workflow")
