"""The runner: what an application opens to run its workflows, and the handle of one execution."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterable, Sequence
from os import PathLike
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar, cast

from cloacina.clock import Clock, Randomness
from cloacina.engine.engine import Engine
from cloacina.engine.executors.local import ExecutorMetrics
from cloacina.engine.explain import Explanation, explain
from cloacina.engine.requests import Requests, SubmitOptions, check_seconds, checked_filter
from cloacina.errors import ExecutionFailed, RunnerClosed, ValidationError, WrongThread
from cloacina.model.result import ExecutionInfo, ExecutionResult
from cloacina.model.status import ExecutionStatus
from cloacina.model.workflow import Workflow
from cloacina.settings import Settings

if TYPE_CHECKING:
    from cloacina.blocking import BlockingRunner

DEFAULT_URL = "sqlite:///cloacina.db"
T = TypeVar("T")


class ExecutionHandle:
    """One stored execution: ask how it stands, wait for it, cancel it."""

    __slots__ = ("_runner", "id")

    def __init__(self, runner: Runner, id: str) -> None:
        self._runner = runner
        self.id = id

    async def status(self) -> ExecutionStatus:
        """Where the execution stands."""
        return await self._runner.status(self.id)

    async def result(self, timeout: float | None = None) -> ExecutionResult:
        """Wait for the end, ``timeout`` seconds at most.

        Raises `ResultTimeout` if it has not ended by then; it goes on.
        """
        return await self._runner.result(self.id, timeout=timeout)

    async def cancel(self) -> ExecutionStatus:
        """End the execution as cancelled unless it has ended; return how it ended.

        Raises `NotTheOwner` if a runner in another process drives it.
        """
        return await self._runner.cancel(self.id)

    def __repr__(self) -> str:
        return f"ExecutionHandle({self.id!r})"


class Runner:
    """Runs workflows on one database. Making it does no I/O; entering it opens the database and starts.

    ``url`` names an SQLite file (``sqlite:///relative.db``, ``sqlite:////absolute.db``, a path) or
    ``sqlite://:memory:``. ``workflows`` are registered at the start; others when they are first submitted.
    ``settings`` default to `Settings.from_environment`.

    Raises `ValidationError` for arguments of another kind; on entering also for a bad URL, `WorkflowError` for a
    workflow that is not valid, and `StoreError` for a database that cannot be opened.
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
        self._workflows = _listed(workflows)
        if settings is None:
            settings = Settings.from_environment()
        elif not isinstance(settings, Settings):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ValidationError(f"settings={settings!r:.80} are none: write settings=Settings(...)")
        self._engine = Engine(url, settings, clock, randomness)
        self._requests = Requests(self._engine)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = 0
        self._ending: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Runner:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.shutdown()

    async def start(self) -> None:
        """Open the database and start; what ``async with`` does."""
        if self._loop is not None:
            raise RunnerClosed("a runner starts once: make a new Runner")
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        try:
            await self._engine.start(self._workflows)
        except BaseException:
            self._loop = None
            raise
        if self._ending is not None:
            await self._engine.stop(0)
            raise RunnerClosed("the runner was shut down while it started")

    async def shutdown(self, grace: float | None = None) -> None:
        """Start nothing more, let bodies finish for ``grace`` seconds, give back the rest, close.

        ``grace`` defaults to ``Settings.shutdown_grace``. A second call meanwhile cuts the bodies at once.
        What was given back goes on with the next runner on this database.
        """
        check_seconds("grace", grace)
        if self._loop is None:
            return
        self._check_loop()
        if self._ending is not None:
            self._engine.hurry()
        else:
            seconds = self._engine.settings.shutdown_grace if grace is None else grace
            self._ending = self._loop.create_task(self._engine.stop(seconds))
        await asyncio.shield(self._ending)

    async def register(self, *workflows: Workflow) -> None:
        """Register workflows, which freezes them; stored executions of theirs are run from then on.

        Raises `WorkflowError` for one that is not valid, `RegistrationError` if its name stands for another.
        """
        self._check_loop()
        self._engine.check()
        for workflow in workflows:
            await self._engine.register(workflow)

    async def submit(
        self,
        workflow: Workflow | str,
        input: object = None,
        *,
        key: str | None = None,
        priority: int = 0,
        tags: Sequence[str] = (),
    ) -> ExecutionHandle:
        """Store a new execution; when this returns, it survives any crash.

        ``input`` is a mapping, a context, a model (dataclass, msgspec, pydantic) or nothing. A ``key`` used
        before with the same workflow and input gives the execution that it made; with others it raises
        `IdempotencyConflict`. Of two executions that wait, the one with the higher ``priority`` starts first.
        Raises `ContextError` for a bad value in the input, `QueueFull` at the configured bound.
        """
        self._check_loop()
        options = SubmitOptions.checked(key, priority, tags)
        return ExecutionHandle(self, await self._requests.submit(workflow, input, options))

    async def submit_many(
        self,
        workflow: Workflow | str,
        inputs: Sequence[object],
        *,
        priority: int = 0,
        tags: Sequence[str] = (),
    ) -> list[ExecutionHandle]:
        """Store one execution per input in one transaction: all of them or none. At most 10,000."""
        self._check_loop()
        options = SubmitOptions.checked(None, priority, tags)
        ids = await self._requests.submit_many(workflow, inputs, options)
        return [ExecutionHandle(self, id) for id in ids]

    async def execute(
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
        self._check_loop()
        options = SubmitOptions.checked(key, priority, tags)
        result = await self._requests.execute(workflow, input, options, timeout)
        if raise_on_failure and result.status is not ExecutionStatus.COMPLETED:
            raise ExecutionFailed(result.summary, result)
        return result

    async def result(self, id: str, timeout: float | None = None) -> ExecutionResult:
        """Wait for the execution ``id`` to end, ``timeout`` seconds at most."""
        self._check_loop()
        return await self._requests.result(id, timeout)

    async def status(self, id: str) -> ExecutionStatus:
        """Where the execution ``id`` stands. Raises `ExecutionNotFound`."""
        self._check_loop()
        return await self._requests.status(id)

    async def cancel(self, id: str) -> ExecutionStatus:
        """End the execution ``id`` as cancelled unless it has ended; return how it ended."""
        self._check_loop()
        return await self._requests.cancel(id)

    async def get(self, id: str) -> ExecutionResult:
        """The execution ``id`` as it is stored now, ended or not. Raises `ExecutionNotFound`."""
        self._check_loop()
        return await self._requests.get(id)

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
        self._check_loop()
        return await self._requests.list(checked_filter(workflow, status, tag, before, limit))

    async def explain(self, id: str) -> Explanation:
        """Why the execution ``id`` is where it is: one current reason per task that has not ended."""
        self._check_loop()
        self._engine.check()
        return await explain(self._engine, await self._requests.stored(id))

    def handle(self, id: str) -> ExecutionHandle:
        """The handle of an execution whose id is known; does not look whether it exists."""
        return ExecutionHandle(self, id)

    def metrics(self) -> ExecutorMetrics:
        """How busy the bodies' executor is."""
        self._engine.check()
        return self._engine.life.executor.metrics()

    @property
    def id(self) -> str:
        """The id of the live runner; new at every start."""
        self._engine.check()
        return self._engine.life.runner

    @property
    def blocking(self) -> BlockingRunner:
        """The same runner for ``def`` bodies and other threads; its calls raise on the loop's own thread."""
        from cloacina.blocking import BlockingRunner

        if self._loop is None:
            raise RunnerClosed("the runner is not running: use it inside `async with Runner(...)`")
        return BlockingRunner.beside(self, self._loop)

    def _check_loop(self) -> None:
        if self._loop is None:
            raise RunnerClosed("the runner is not running: use it inside `async with Runner(...)`")
        if threading.get_ident() != self._thread:
            raise WrongThread(
                "this runner belongs to the event loop it was entered on: from other threads use runner.blocking"
            )

    def __repr__(self) -> str:
        return f"Runner({self._engine.url!r})"


def _listed(workflows: object) -> tuple[Workflow, ...]:
    if isinstance(workflows, str | Workflow) or not isinstance(workflows, Iterable):
        raise ValidationError(f"workflows={workflows!r:.80} is no list: write workflows=[...]")
    listed = tuple(cast("Iterable[object]", workflows))
    for one in listed:
        if not isinstance(one, Workflow):
            raise ValidationError(f"{one!r:.80} in workflows= is no Workflow")
    return cast("tuple[Workflow, ...]", listed)


def run(
    workflow: Workflow,
    input: Any = None,
    *,
    url: str | PathLike[str] = DEFAULT_URL,
    raise_on_failure: bool = False,
) -> ExecutionResult:
    """Run one execution of ``workflow`` to its end on the file ``./cloacina.db``, and return its result.

    For scripts: it opens the database, waits, and closes it. Raises as `Runner.execute` does, and `WrongThread`
    inside a running event loop, where `Runner` is what to use. After Ctrl-C, bodies that run get
    ``Settings.shutdown_grace`` seconds to end; a second Ctrl-C does not wait. The next run on this file goes on
    with what was not finished, beside its own execution.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        pass
    else:
        raise WrongThread(
            "cloacina.run() blocks, and an event loop runs here: use `async with Runner(...)` instead"
        )

    async def main() -> ExecutionResult:
        async with Runner(url, workflows=[workflow]) as runner:
            return await runner.execute(workflow, input, raise_on_failure=raise_on_failure)

    return asyncio.run(main())
