"""The blocking runner: what `Runner` offers, for scripts, Flask, Django, notebooks and threads.

Written by ``tools/generate_blocking.py`` from the asynchronous source: change that, not this file.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from functools import partial
from os import PathLike
from types import TracebackType

from cloacina.clock import Clock, Randomness
from cloacina.engine.executors.local import ExecutorMetrics
from cloacina.engine.explain import Explanation
from cloacina.model.result import ExecutionInfo, ExecutionResult
from cloacina.model.status import ExecutionStatus
from cloacina.model.workflow import Workflow
from cloacina.portal import OwnLoop, Portal
from cloacina.runner import DEFAULT_URL, Runner
from cloacina.settings import Settings


class BlockingExecutionHandle:
    """One stored execution: ask how it stands, wait for it, cancel it."""

    __slots__ = ("_runner", "id")

    def __init__(self, runner: BlockingRunner, id: str) -> None:
        self._runner = runner
        self.id = id

    def status(self) -> ExecutionStatus:
        """Where the execution stands."""
        return self._runner.status(self.id)

    def result(self, timeout: float | None = None) -> ExecutionResult:
        """Wait for the end, ``timeout`` seconds at most.

        Raises `ResultTimeout` if it has not ended by then; it goes on.
        """
        return self._runner.result(self.id, timeout=timeout)

    def cancel(self) -> ExecutionStatus:
        """End the execution as cancelled unless it has ended; return how it ended.

        Raises `NotTheOwner` if a runner in another process drives it.
        """
        return self._runner.cancel(self.id)

    def __repr__(self) -> str:
        return f"BlockingExecutionHandle({self.id!r})"


class BlockingRunner:
    """`Runner` for code that blocks: scripts, Flask, Django, notebooks.

    Runs workflows on one database. Making it does no I/O; entering it opens the database and starts.

    ``url`` names an SQLite file (``sqlite:///relative.db``, ``sqlite:////absolute.db``, a path) or
    ``sqlite://:memory:``. ``workflows`` are registered at the start; others when they are first submitted.
    ``settings`` default to `Settings.from_environment`.

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
        workflows: Iterable[Workflow] = (),
        settings: Settings | None = None,
        clock: Clock | None = None,
        randomness: Randomness | None = None,
    ) -> None:
        self._runner = Runner(url, workflows=workflows, settings=settings, clock=clock, randomness=randomness)
        self._portal: Portal = OwnLoop(partial(self._runner.shutdown, 0.0))

    @classmethod
    def beside(cls, runner: Runner, loop: asyncio.AbstractEventLoop) -> BlockingRunner:
        """The calls of ``runner``, which lives on ``loop``, for other threads: see `Runner.blocking`."""
        twin = cls.__new__(cls)
        twin._runner = runner
        twin._portal = Portal(loop)
        return twin

    def __enter__(self) -> BlockingRunner:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._portal.leave(kind, self._runner.shutdown)

    def __repr__(self) -> str:
        return f"Blocking{self._runner!r}"

    def start(self) -> None:
        """Open the database and start; what ``with`` does."""
        self._portal.open(self._runner.start)

    def shutdown(self, grace: float | None = None) -> None:
        """Start nothing more, let bodies finish for ``grace`` seconds, give back the rest, close.

        ``grace`` defaults to ``Settings.shutdown_grace``. A second call meanwhile cuts the bodies at once.
        What was given back goes on with the next runner on this database.
        """
        self._portal.close(self._runner.shutdown, grace)

    def register(self, *workflows: Workflow) -> None:
        """Register workflows, which freezes them; stored executions of theirs are run from then on.

        Raises `WorkflowError` for one that is not valid, `RegistrationError` if its name stands for another.
        """
        self._portal.call(self._runner.register, *workflows)

    def submit(
        self,
        workflow: Workflow | str,
        input: object = None,
        *,
        key: str | None = None,
        priority: int = 0,
        tags: Sequence[str] = (),
    ) -> BlockingExecutionHandle:
        """Store a new execution; when this returns, it survives any crash.

        ``input`` is a mapping, a context, a model (dataclass, msgspec, pydantic) or nothing. A ``key`` used
        before with the same workflow and input gives the execution that it made; with others it raises
        `IdempotencyConflict`. Of two executions that wait, the one with the higher ``priority`` starts first.
        Raises `ContextError` for a bad value in the input, `QueueFull` at the configured bound.
        """
        return BlockingExecutionHandle(
            self,
            self._portal.call(self._runner.submit, workflow, input, key=key, priority=priority, tags=tags).id,
        )

    def submit_many(
        self,
        workflow: Workflow | str,
        inputs: Sequence[object],
        *,
        priority: int = 0,
        tags: Sequence[str] = (),
    ) -> list[BlockingExecutionHandle]:
        """Store one execution per input in one transaction: all of them or none. At most 10,000."""
        handles = self._portal.call(self._runner.submit_many, workflow, inputs, priority=priority, tags=tags)
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
            self._runner.execute,
            workflow,
            input,
            key=key,
            priority=priority,
            tags=tags,
            timeout=timeout,
            raise_on_failure=raise_on_failure,
        )

    def result(self, id: str, timeout: float | None = None) -> ExecutionResult:
        """Wait for the execution ``id`` to end, ``timeout`` seconds at most."""
        return self._portal.call(self._runner.result, id, timeout)

    def status(self, id: str) -> ExecutionStatus:
        """Where the execution ``id`` stands. Raises `ExecutionNotFound`."""
        return self._portal.call(self._runner.status, id)

    def cancel(self, id: str) -> ExecutionStatus:
        """End the execution ``id`` as cancelled unless it has ended; return how it ended."""
        return self._portal.call(self._runner.cancel, id)

    def get(self, id: str) -> ExecutionResult:
        """The execution ``id`` as it is stored now, ended or not. Raises `ExecutionNotFound`."""
        return self._portal.call(self._runner.get, id)

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
            self._runner.list, workflow=workflow, status=status, tag=tag, before=before, limit=limit
        )

    def explain(self, id: str) -> Explanation:
        """Why the execution ``id`` is where it is: one current reason per task that has not ended."""
        return self._portal.call(self._runner.explain, id)

    def handle(self, id: str) -> BlockingExecutionHandle:
        """The handle of an execution whose id is known; does not look whether it exists."""
        return BlockingExecutionHandle(self, self._portal.read(lambda: self._runner.handle(id)).id)

    def metrics(self) -> ExecutorMetrics:
        """How busy the bodies' executor is."""
        return self._portal.read(lambda: self._runner.metrics())

    @property
    def id(self) -> str:
        """The id of the live runner; new at every start."""
        return self._portal.read(lambda: self._runner.id)
