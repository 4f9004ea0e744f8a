"""The blocking runner and client: what the others offer, for scripts, Flask, Django, notebooks and threads.

Written by ``tools/generate_blocking.py`` from the asynchronous sources: change those, not this file.
"""

from __future__ import annotations

import asyncio
import builtins
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Any

from cloacina.client import Client
from cloacina.clock import Clock, Randomness
from cloacina.desk import ENDED, Desk
from cloacina.engine.executors.around import AroundBody
from cloacina.engine.executors.protocol import ExecutorFactory, ExecutorMetrics
from cloacina.model.result import ExecutionInfo, ExecutionResult, Explanation, ForkResult
from cloacina.model.routing.routing import RoutingRule
from cloacina.model.status import ExecutionStatus
from cloacina.model.task import Task
from cloacina.model.workflow import Workflow
from cloacina.portal import OwnLoop, Portal
from cloacina.runner import Runner
from cloacina.settings import Settings
from cloacina.store.location import DEFAULT_URL
from cloacina.store.payloads.payloads import Payloads
from cloacina.store.postgres.joining.connections import Joinable


class BlockingExecutionHandle:
    """One stored execution: ask how it stands, wait for it, command it, do it again."""

    __slots__ = ("_desk", "id")

    def __init__(self, desk: BlockingDesk, id: str) -> None:
        self._desk = desk
        self.id = id

    def status(self) -> ExecutionStatus:
        """Where the execution stands."""
        return self._desk.status(self.id)

    def result(self, timeout: float | None = None) -> ExecutionResult:
        """Wait for the end, ``timeout`` seconds at most.

        Raises `ResultTimeout` if it has not ended by then; it goes on.
        """
        return self._desk.result(self.id, timeout=timeout)

    def get(self) -> ExecutionResult:
        """The execution as it is stored now, ended or not."""
        return self._desk.get(self.id)

    def explain(self) -> Explanation:
        """Why the execution is where it is: see `BlockingDesk.explain`."""
        return self._desk.explain(self.id)

    def cancel(self) -> ExecutionStatus:
        """End the execution as cancelled unless it has ended: see `BlockingDesk.cancel`."""
        return self._desk.cancel(self.id)

    def pause(self) -> ExecutionStatus:
        """Let no task of the execution start any more: see `BlockingDesk.pause`."""
        return self._desk.pause(self.id)

    def resume(self) -> ExecutionStatus:
        """Let the tasks of the execution start again: see `BlockingDesk.resume`."""
        return self._desk.resume(self.id)

    def retry(self) -> BlockingExecutionHandle:
        """Do again what failed, as a new execution: see `BlockingDesk.retry`."""
        return self._desk.retry(self.id)

    def fork(
        self,
        *,
        from_task: str | Task | Iterable[str | Task] | None = None,
        replace: Mapping[str, Any] | None = None,
    ) -> BlockingExecutionHandle:
        """Do it again from some of its tasks on, as a new execution: see `BlockingDesk.fork`."""
        return self._desk.fork(self.id, from_task=from_task, replace=replace)

    def __repr__(self) -> str:
        return f"BlockingExecutionHandle({self.id!r})"


class BlockingDesk:
    """What `BlockingRunner` and `BlockingClient` both answer, about executions of every process on their database."""

    _portal: Portal
    _desk: Desk

    def result(self, id: str, timeout: float | None = None) -> ExecutionResult:
        """Wait for the execution ``id`` to end, ``timeout`` seconds at most.

        Raises `ExecutionNotFound`, `ResultTimeout` if it has not ended by then, and `ExecutionParked` if it was
        set aside.
        """
        return self._portal.call(self._desk.result, id, timeout)

    def status(self, id: str) -> ExecutionStatus:
        """Where the execution ``id`` stands. Raises `ExecutionNotFound`."""
        return self._portal.call(self._desk.status, id)

    def cancel(self, id: str) -> ExecutionStatus:
        """End the execution ``id`` as cancelled unless it has ended; return how it ended.

        Raises `ExecutionNotFound`, and `CommandTimeout` if its owner in another process does not answer within
        ``Settings.command_timeout`` seconds; the command stays in force then.
        """
        return self._portal.call(self._desk.cancel, id)

    def pause(self, id: str) -> ExecutionStatus:
        """Let no task of the execution ``id`` start any more; return its status.

        Bodies that run may finish, and what they did is kept. A timeout of the workflow runs on. One that has
        ended is left as it is. Raises as `cancel` does.
        """
        return self._portal.call(self._desk.pause, id)

    def resume(self, id: str) -> ExecutionStatus:
        """Let the tasks of the execution ``id`` start again, if it was paused or parked; return its status.

        Raises as `cancel` does.
        """
        return self._portal.call(self._desk.resume, id)

    def get(self, id: str) -> ExecutionResult:
        """The execution ``id`` as it is stored now, ended or not. Raises `ExecutionNotFound`."""
        return self._portal.call(self._desk.get, id)

    def list(
        self,
        *,
        workflow: Workflow | str | None = None,
        status: ExecutionStatus | str | Sequence[ExecutionStatus | str] = (),
        tag: str | None = None,
        before: str | None = None,
        limit: int = 100,
    ) -> list[ExecutionInfo]:
        """Executions, newest first, that match all filters; for the next page give ``before`` the last id."""
        return self._portal.call(
            self._desk.list, workflow=workflow, status=status, tag=tag, before=before, limit=limit
        )

    def explain(self, id: str) -> Explanation:
        """Why the execution ``id`` is where it is: one current reason per task that has not ended."""
        return self._portal.call(self._desk.explain, id)

    def retry(self, id: str) -> BlockingExecutionHandle:
        """Do again what failed in the execution ``id``, which has ended, as a new execution; return its handle.

        Done again are the tasks that failed and were not made up for, those that were cancelled or cut short by
        the workflow's timeout, and all that depend on them; what the others did is copied. So are checkpoints of
        tasks that failed, where their code is the same. The old execution stays as it is; the new one is linked
        by ``forked_from`` and runs on the version that this runner has (a client: a live runner, else the last one).
        Called twice, it makes two.

        Raises `ExecutionNotFound`, and `ForkRefused` if it has not ended, there is nothing to do again, or the version
        cannot go on from what the old one did.
        """
        return BlockingExecutionHandle(self, self._portal.call(self._desk.retry, id).id)

    def fork(
        self,
        id: str,
        *,
        from_task: str | Task | Iterable[str | Task] | None = None,
        replace: Mapping[str, Any] | None = None,
    ) -> BlockingExecutionHandle:
        """Do the execution ``id``, which has ended, again from some of its tasks on, as a new execution.

        Done again are ``from_task`` (a task, an id, or several) and all that depend on them, and what was
        cancelled or cut short; without it, all tasks. What the others did is copied. ``replace`` has context keys
        with new values: they go into the input, and take the place of what the copied tasks had stored there.

        Raises as `retry` does, and for ``replace`` as a submit does for its input.
        """
        return BlockingExecutionHandle(
            self, self._portal.call(self._desk.fork, id, from_task=from_task, replace=replace).id
        )

    def retry_many(
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
        return self._portal.call(
            self._desk.retry_many,
            workflow=workflow,
            status=status,
            tag=tag,
            limit=limit,
            dry_run=dry_run,
            skip_forked=skip_forked,
        )

    def fork_many(
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
        return self._portal.call(
            self._desk.fork_many,
            workflow,
            from_task=from_task,
            replace=replace,
            status=status,
            tag=tag,
            limit=limit,
            dry_run=dry_run,
            skip_forked=skip_forked,
        )

    def handle(self, id: str) -> BlockingExecutionHandle:
        """The handle of an execution whose id is known; does not look whether it exists."""
        return BlockingExecutionHandle(self, self._portal.read(lambda: self._desk.handle(id)).id)


class BlockingRunner(BlockingDesk):
    """`Runner` for code that blocks: scripts, Flask, Django, notebooks.

    Runs workflows on one database. Making it does no I/O; entering it opens the database and starts.

    ``url`` names an SQLite file (``sqlite:///relative.db``, ``sqlite:////absolute.db``, a path),
    ``sqlite://:memory:``, or a PostgreSQL database (``postgresql://user:password@host/database``), in which
    ``schema`` is the tenant's, by default ``cloacina``; it is made if it is not there.
    ``workflows`` are registered at the start; others when they are first submitted.
    ``settings`` default to `Settings.from_environment`. ``payloads`` says how inputs, results and what tasks
    store are encoded in the database: compressed, encrypted, offloaded; see ``cloacina.store.payloads``.
    ``routing`` has rules that send tasks to executors, the first that matches counts; ``executors`` has more
    executors than the built-in ones, each by name with what makes it; see ``cloacina.engine.executors.protocol``.
    ``around_body`` takes a ``BodyInfo`` and returns a context manager, which is entered and left around each body in
    this process, on its thread: see ``cloacina.engine.executors.around``.

    Raises `ValidationError` for arguments of another kind; on entering also for a bad URL, `WorkflowError` for a
    workflow that is not valid, and `StoreError` for a database that cannot be opened.

    Its event loop runs on a thread of its own, so it may be used from any thread and inside a running loop, but
    not by ``async def`` bodies: every call on its own loop raises `WrongThread`. After a fork, make a new one.
    A call that is interrupted (Ctrl-C) returns at once, and the execution goes on.
    """

    def __init__(
        self,
        url: str | PathLike[str] = DEFAULT_URL,
        *,
        schema: str | None = None,
        workflows: Iterable[Workflow] = (),
        settings: Settings | None = None,
        clock: Clock | None = None,
        randomness: Randomness | None = None,
        payloads: Payloads | None = None,
        routing: Iterable[RoutingRule] = (),
        executors: Mapping[str, ExecutorFactory] | None = None,
        around_body: AroundBody | None = None,
    ) -> None:
        self._own = self._desk = Runner(
            url,
            schema=schema,
            workflows=workflows,
            settings=settings,
            clock=clock,
            randomness=randomness,
            payloads=payloads,
            routing=routing,
            executors=executors,
            around_body=around_body,
        )
        self._portal = OwnLoop(partial(self._own.shutdown, 0.0))

    @classmethod
    def beside(cls, runner: Runner, loop: asyncio.AbstractEventLoop) -> BlockingRunner:
        """The calls of ``runner``, which lives on ``loop``, for other threads: see `Runner.blocking`."""
        twin = cls.__new__(cls)
        twin._own = twin._desk = runner
        twin._portal = Portal(loop)
        return twin

    def __enter__(self) -> BlockingRunner:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._portal.leave(kind, self._own.shutdown)

    def __repr__(self) -> str:
        return f"Blocking{self._own!r}"

    def start(self) -> None:
        """Open the database and start; what ``with`` does."""
        self._portal.open(self._own.start)

    def shutdown(self, grace: float | None = None) -> None:
        """Start nothing more, let bodies finish for ``grace`` seconds, give back the rest, close.

        ``grace`` defaults to ``Settings.shutdown_grace``. A second call meanwhile cuts the bodies at once.
        What was given back goes on with the next runner on this database.
        """
        self._portal.close(self._own.shutdown, grace)

    def register(self, *workflows: Workflow) -> None:
        """Register workflows, which freezes them; stored executions of theirs are run from then on.

        Raises `WorkflowError` for one that is not valid, `RegistrationError` if its name stands for another.
        """
        self._portal.call(self._own.register, *workflows)

    def submit(
        self,
        workflow: Workflow | str,
        input: object = None,
        *,
        key: str | None = None,
        priority: int = 0,
        tags: Sequence[str] = (),
        connection: Joinable | None = None,
    ) -> BlockingExecutionHandle:
        """Store a new execution; when this returns, it survives any crash.

        ``input`` is a mapping, a context, a model (dataclass, msgspec, pydantic) or nothing. A ``key`` used
        before with the same workflow and input gives the execution that it made; with others it raises
        `IdempotencyConflict`. Of two executions that wait, the one with the higher ``priority`` starts first.
        Raises `ContextError` for a bad value in the input, `InputError` if it does not fit the workflow's model,
        `QueueFull` at the configured bound.

        With a ``connection`` to this PostgreSQL database, of SQLAlchemy, psycopg or, where calls are awaited, asyncpg,
        it is stored within the transaction that is open there: committed it is there and runs, rolled back it never
        was. Before the commit its handle raises `ExecutionNotFound`. Raises `ValidationError` for a connection that
        cannot be joined, `KeyBusy` if another open transaction has the key, and what the connection raises.
        """
        return BlockingExecutionHandle(
            self,
            self._portal.lend(
                connection, self._own.submit, workflow, input, key=key, priority=priority, tags=tags
            ).id,
        )

    def submit_many(
        self,
        workflow: Workflow | str,
        inputs: Sequence[object],
        *,
        priority: int = 0,
        tags: Sequence[str] = (),
        connection: Joinable | None = None,
    ) -> list[BlockingExecutionHandle]:
        """Store one execution per input in one transaction: all of them or none. At most 10,000.

        ``connection`` is as for `submit`.
        """
        handles = self._portal.lend(
            connection, self._own.submit_many, workflow, inputs, priority=priority, tags=tags
        )
        return [BlockingExecutionHandle(self, handle.id) for handle in handles]

    def execute(
        self,
        workflow: Workflow | str,
        input: object = None,
        *,
        key: str | None = None,
        priority: int = 0,
        tags: Sequence[str] = (),
        timeout: float | None = None,
        raise_on_failure: bool = False,
    ) -> ExecutionResult:
        """Submit and wait for the end, ``timeout`` seconds at most; see `submit`.

        A failed execution is a result like any other, unless ``raise_on_failure`` is set: then
        `ExecutionFailed` carries it. Inside a body this gives up the body's slot while it waits.
        """
        return self._portal.call(
            self._own.execute,
            workflow,
            input,
            key=key,
            priority=priority,
            tags=tags,
            timeout=timeout,
            raise_on_failure=raise_on_failure,
        )

    def backup(self, path: str | PathLike[str], *, overwrite: bool = False) -> Path:
        """Copy the database, as it is now, to the file ``path``, while everything goes on; return the path.

        The copy gets its name when it is whole, checked and on the disk; only its owner may read it. Payload files
        are copied beside it. `cloacina.backup.restore` puts it back. Raises `ValidationError` if there is such a
        file, unless ``overwrite`` is set, or no such folder, and for a database in memory; `StoreUnavailable` if
        the disk is full; `StoreCorrupt` if the database is damaged; `BlockingRunnerClosed` if the runner is shut down.
        """
        return self._portal.call(self._own.backup, path, overwrite=overwrite)

    def prune(self) -> int:
        """Remove now what is removed every ``Settings.prune_interval`` seconds: executions that ended long ago.

        Returns how many were removed, which is those that ended more than ``Settings.keep_completed_days`` or
        ``keep_failed_days`` ago; what is live is never removed. Raises `StoreError` if the database fails.
        """
        return self._portal.call(self._own.prune)

    def metrics(self) -> dict[str, ExecutorMetrics]:
        """How busy each executor is, by its name: ``loop``, ``threads``, ``process``, and your own."""
        return self._portal.read(lambda: self._own.metrics())

    @property
    def id(self) -> str:
        """The id of the live runner; new at every start."""
        return self._portal.read(lambda: self._own.id)


class BlockingClient(BlockingDesk):
    """`Client` for code that blocks: scripts, Flask, Django, notebooks.

    Submits, watches and commands executions that are driven in other processes.

    ``url`` and ``schema`` name a database as for `BlockingRunner`; one in memory belongs to one runner alone. Workflows
    are named: a runner must have registered them with the database, and an input is checked against a
    workflow's model by the runner that claims the execution. ``settings`` default to `Settings.from_environment`;
    ``payloads`` are those of the runners.

    Raises `ValidationError` for bad arguments, and on entering `StoreError` for a database that cannot be opened, or
    that is not there: a runner makes it, a client never does.

    Its event loop runs on a thread of its own, so it may be used from any thread and inside a running loop, but
    not by ``async def`` bodies: every call on its own loop raises `WrongThread`. After a fork, make a new one.
    A call that is interrupted (Ctrl-C) returns at once, and the execution goes on.
    """

    def __init__(
        self,
        url: str | PathLike[str] = DEFAULT_URL,
        *,
        schema: str | None = None,
        settings: Settings | None = None,
        payloads: Payloads | None = None,
    ) -> None:
        self._own = self._desk = Client(url, schema=schema, settings=settings, payloads=payloads)
        self._portal = OwnLoop(self._own.shutdown, "client")

    def __enter__(self) -> BlockingClient:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._portal.leave(kind, self._own.shutdown)

    def __repr__(self) -> str:
        return f"Blocking{self._own!r}"

    def start(self) -> None:
        """Open the database; what ``with`` does."""
        self._portal.open(self._own.start)

    def shutdown(self) -> None:
        """Close the database; executions go on where they run."""
        self._portal.close(self._own.shutdown)

    def submit(
        self,
        workflow: str,
        input: object = None,
        *,
        key: str | None = None,
        priority: int = 0,
        tags: Sequence[str] = (),
        connection: Joinable | None = None,
    ) -> BlockingExecutionHandle:
        """Store a new execution of a workflow that is known by name: see `BlockingRunner.submit`.

        Raises `UnknownWorkflow` if no runner has ever registered one of that name.
        """
        return BlockingExecutionHandle(
            self,
            self._portal.lend(
                connection, self._own.submit, workflow, input, key=key, priority=priority, tags=tags
            ).id,
        )

    def submit_many(
        self,
        workflow: str,
        inputs: Sequence[object],
        *,
        priority: int = 0,
        tags: Sequence[str] = (),
        connection: Joinable | None = None,
    ) -> list[BlockingExecutionHandle]:
        """Store one execution per input in one transaction: all of them or none. At most 10,000.

        ``connection`` is as for `BlockingRunner.submit`.
        """
        handles = self._portal.lend(
            connection, self._own.submit_many, workflow, inputs, priority=priority, tags=tags
        )
        return [BlockingExecutionHandle(self, handle.id) for handle in handles]

    def execute(
        self,
        workflow: str,
        input: object = None,
        *,
        key: str | None = None,
        priority: int = 0,
        tags: Sequence[str] = (),
        timeout: float | None = None,
        raise_on_failure: bool = False,
    ) -> ExecutionResult:
        """Submit and wait for the end, ``timeout`` seconds at most; see `submit` and `result`.

        A failed execution is a result like any other, unless ``raise_on_failure`` is set: then
        `ExecutionFailed` carries it.
        """
        return self._portal.call(
            self._own.execute,
            workflow,
            input,
            key=key,
            priority=priority,
            tags=tags,
            timeout=timeout,
            raise_on_failure=raise_on_failure,
        )
