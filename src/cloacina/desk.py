"""The desk: what a runner and a client have in common, which is to tell how executions stand and to command them."""

from __future__ import annotations

import builtins
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace as changed
from typing import Any, Protocol

from cloacina.engine.asking.forks import ForkPlan, Forks
from cloacina.engine.asking.submission import checked_filter
from cloacina.errors import ExecutionFailed
from cloacina.model.result import ExecutionInfo, ExecutionResult, Explanation, ForkResult
from cloacina.model.status import CommandKind, ExecutionStatus
from cloacina.model.task import Task
from cloacina.model.workflow import Workflow
from cloacina.store.rows import ExecutionFilter

ENDED = tuple(status for status in ExecutionStatus if status.terminal)
"""The states of executions that have ended."""


class ExecutionHandle:
    """One stored execution: ask how it stands, wait for it, command it, do it again."""

    __slots__ = ("_desk", "id")

    def __init__(self, desk: Desk, id: str) -> None:
        self._desk = desk
        self.id = id

    async def status(self) -> ExecutionStatus:
        """Where the execution stands."""
        return await self._desk.status(self.id)

    async def result(self, timeout: float | None = None) -> ExecutionResult:
        """Wait for the end, ``timeout`` seconds at most.

        Raises `ResultTimeout` if it has not ended by then; it goes on.
        """
        return await self._desk.result(self.id, timeout=timeout)

    async def get(self) -> ExecutionResult:
        """The execution as it is stored now, ended or not."""
        return await self._desk.get(self.id)

    async def explain(self) -> Explanation:
        """Why the execution is where it is: see `Desk.explain`."""
        return await self._desk.explain(self.id)

    async def cancel(self) -> ExecutionStatus:
        """End the execution as cancelled unless it has ended: see `Desk.cancel`."""
        return await self._desk.cancel(self.id)

    async def pause(self) -> ExecutionStatus:
        """Let no task of the execution start any more: see `Desk.pause`."""
        return await self._desk.pause(self.id)

    async def resume(self) -> ExecutionStatus:
        """Let the tasks of the execution start again: see `Desk.resume`."""
        return await self._desk.resume(self.id)

    async def retry(self) -> ExecutionHandle:
        """Do again what failed, as a new execution: see `Desk.retry`."""
        return await self._desk.retry(self.id)

    async def fork(
        self,
        *,
        from_task: str | Task | Iterable[str | Task] | None = None,
        replace: Mapping[str, Any] | None = None,
    ) -> ExecutionHandle:
        """Do it again from some of its tasks on, as a new execution: see `Desk.fork`."""
        return await self._desk.fork(self.id, from_task=from_task, replace=replace)

    def __repr__(self) -> str:
        return f"ExecutionHandle({self.id!r})"


class Asked(Protocol):
    """Who answers the questions that come to a desk."""

    async def result(self, execution: str, timeout: float | None) -> ExecutionResult:
        """Wait for an execution to end."""
        ...

    async def command(self, kind: CommandKind, execution: str) -> ExecutionStatus:
        """Have a command carried out; return the status afterwards."""
        ...

    async def status(self, execution: str) -> ExecutionStatus:
        """Where an execution stands."""
        ...

    async def get(self, execution: str) -> ExecutionResult:
        """An execution as it is stored now."""
        ...

    async def list(self, filter: ExecutionFilter) -> builtins.list[ExecutionInfo]:
        """Executions that match, newest first."""
        ...

    async def explain(self, execution: str) -> Explanation:
        """Why an execution is where it is."""
        ...

    @property
    def forks(self) -> Forks:
        """Who makes forks."""
        ...


class Desk(ABC):
    """What `Runner` and `Client` both answer, about executions of every process on their database."""

    async def result(self, id: str, timeout: float | None = None) -> ExecutionResult:
        """Wait for the execution ``id`` to end, ``timeout`` seconds at most.

        Raises `ExecutionNotFound`, `ResultTimeout` if it has not ended by then, and `ExecutionParked` if it was
        set aside.
        """
        return await self._asked().result(id, timeout)

    async def status(self, id: str) -> ExecutionStatus:
        """Where the execution ``id`` stands. Raises `ExecutionNotFound`."""
        return await self._asked().status(id)

    async def cancel(self, id: str) -> ExecutionStatus:
        """End the execution ``id`` as cancelled unless it has ended; return how it ended.

        Raises `ExecutionNotFound`, and `CommandTimeout` if its owner in another process does not answer within
        ``Settings.command_timeout`` seconds; the command stays in force then.
        """
        return await self._asked().command(CommandKind.CANCEL, id)

    async def pause(self, id: str) -> ExecutionStatus:
        """Let no task of the execution ``id`` start any more; return its status.

        Bodies that run may finish, and what they did is kept. A timeout of the workflow runs on. One that has
        ended is left as it is. Raises as `cancel` does.
        """
        return await self._asked().command(CommandKind.PAUSE, id)

    async def resume(self, id: str) -> ExecutionStatus:
        """Let the tasks of the execution ``id`` start again, if it was paused or parked; return its status.

        Raises as `cancel` does.
        """
        return await self._asked().command(CommandKind.RESUME, id)

    async def get(self, id: str) -> ExecutionResult:
        """The execution ``id`` as it is stored now, ended or not. Raises `ExecutionNotFound`."""
        return await self._asked().get(id)

    async def list(
        self,
        *,
        workflow: Workflow | str | None = None,
        status: ExecutionStatus | str | Sequence[ExecutionStatus | str] = (),
        tag: str | None = None,
        before: str | None = None,
        limit: int = 100,
    ) -> list[ExecutionInfo]:
        """Executions, newest first, that match all filters; for the next page give ``before`` the last id."""
        return await self._asked().list(checked_filter(workflow, status, tag, before, limit))

    async def explain(self, id: str) -> Explanation:
        """Why the execution ``id`` is where it is: one current reason per task that has not ended."""
        return await self._asked().explain(id)

    async def retry(self, id: str) -> ExecutionHandle:
        """Do again what failed in the execution ``id``, which has ended, as a new execution; return its handle.

        Done again are the tasks that failed and were not made up for, those that were cancelled or cut short by
        the workflow's timeout, and all that depend on them; what the others did is copied. So are checkpoints of
        tasks that failed, where their code is the same. The old execution stays as it is; the new one is linked
        by ``forked_from`` and runs on the version that this runner has (a client: a live runner, else the last one).
        Called twice, it makes two.

        Raises `ExecutionNotFound`, and `ForkRefused` if it has not ended, there is nothing to do again, or the version
        cannot go on from what the old one did.
        """
        return ExecutionHandle(self, await self._asked().forks.one(id, ForkPlan()))

    async def fork(
        self,
        id: str,
        *,
        from_task: str | Task | Iterable[str | Task] | None = None,
        replace: Mapping[str, Any] | None = None,
    ) -> ExecutionHandle:
        """Do the execution ``id``, which has ended, again from some of its tasks on, as a new execution.

        Done again are ``from_task`` (a task, an id, or several) and all that depend on them, and what was
        cancelled or cut short; without it, all tasks. What the others did is copied. ``replace`` has context keys
        with new values: they go into the input, and take the place of what the copied tasks had stored there.

        Raises as `retry` does, and for ``replace`` as a submit does for its input.
        """
        plan = ForkPlan.checked(from_task, replace)
        return ExecutionHandle(self, await self._asked().forks.one(id, plan))

    async def retry_many(
        self,
        *,
        workflow: Workflow | str | None = None,
        status: ExecutionStatus | str | Sequence[ExecutionStatus | str] = ExecutionStatus.FAILED,
        tag: str | None = None,
        limit: int | None = None,
        dry_run: bool = False,
        skip_forked: bool = True,
    ) -> builtins.list[ForkResult]:
        """`retry` every execution that matches all filters, newest first, ``limit`` at most; tell what was done.

        ``dry_run`` stores nothing and tells what would be done. ``skip_forked`` leaves out what has been forked
        before, so that a repeated call goes on where an error stopped it. They are stored batch by batch, each in
        one transaction. One that cannot be retried is told with the reason and stops nothing.
        """
        filter = _bulk_filter(workflow, status, tag, limit)
        return await self._asked().forks.many(filter, ForkPlan(), dry_run=dry_run, skip_forked=skip_forked)

    async def fork_many(
        self,
        workflow: Workflow | str,
        *,
        from_task: str | Task | Iterable[str | Task] | None = None,
        replace: Mapping[str, Any] | None = None,
        status: ExecutionStatus | str | Sequence[ExecutionStatus | str] = ENDED,
        tag: str | None = None,
        limit: int | None = None,
        dry_run: bool = False,
        skip_forked: bool = True,
    ) -> builtins.list[ForkResult]:
        """`fork` every execution of ``workflow`` that matches all filters: see `retry_many` and `fork`."""
        plan = ForkPlan.checked(from_task, replace)
        filter = _bulk_filter(workflow, status, tag, limit)
        return await self._asked().forks.many(filter, plan, dry_run=dry_run, skip_forked=skip_forked)

    def handle(self, id: str) -> ExecutionHandle:
        """The handle of an execution whose id is known; does not look whether it exists."""
        return ExecutionHandle(self, id)

    @abstractmethod
    def _asked(self) -> Asked:
        """Who answers. Raises if nobody can now."""


def expect_completed(result: ExecutionResult) -> ExecutionResult:
    """``result`` of an execution that has ended; raises `ExecutionFailed` with it unless it is completed."""
    if result.status is not ExecutionStatus.COMPLETED:
        raise ExecutionFailed(result.summary, result)
    return result


def _bulk_filter(workflow: object, status: object, tag: object, limit: int | None) -> ExecutionFilter:
    filter = checked_filter(workflow, status, tag, None, 1 if limit is None else limit)
    return changed(filter, limit=0) if limit is None else filter
