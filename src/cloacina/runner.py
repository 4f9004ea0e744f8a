"""The runner: what an application opens to run its workflows, and the handle of one execution."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Iterable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar, cast

from cloacina.clock import Clock, Randomness
from cloacina.desk import Desk, ExecutionHandle, expect_completed
from cloacina.engine.asking.requests import Requests
from cloacina.engine.asking.submission import SubmitOptions, check_seconds
from cloacina.engine.engine import Engine
from cloacina.engine.executors.around import AroundBody
from cloacina.engine.executors.protocol import ExecutorFactory, ExecutorMetrics
from cloacina.engine.executors.roster import Roster
from cloacina.engine.machine import Machine
from cloacina.errors import ForkedProcess, RunnerClosed, ValidationError, WrongThread
from cloacina.model.result import ExecutionResult
from cloacina.model.routing.routing import RoutingRule
from cloacina.model.workflow import Workflow
from cloacina.settings import Settings
from cloacina.store.location import DEFAULT_URL, shown_url
from cloacina.store.payloads.payloads import Payloads
from cloacina.store.postgres.joining.connections import Joinable

if TYPE_CHECKING:
    from cloacina.blocking import BlockingRunner

T = TypeVar("T")

_STOPPING = (signal.SIGTERM, signal.SIGINT)
"""By which systemd, Docker, Kubernetes and Ctrl-C stop a program."""


class Runner(Desk):
    """Runs workflows on one database. Making it does no I/O; entering it opens the database and starts.

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
        self._workflows = _listed(workflows)
        if settings is None:
            settings = Settings.from_environment()
        elif not isinstance(settings, Settings):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ValidationError(f"settings={settings!r:.80} are none: write settings=Settings(...)")
        if payloads is not None and not isinstance(payloads, Payloads):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ValidationError(f"payloads={payloads!r:.80} are none: write payloads=Payloads([...])")
        roster = Roster.of(executors, routing, around_body)
        self._engine = Engine(url, settings, Machine(clock, randomness), payloads, roster, schema)
        self._requests = Requests(self._engine)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = self._pid = 0
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
        self._thread, self._pid = threading.get_ident(), os.getpid()
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
        if self._loop is None or self._pid != os.getpid():
            return  # after a fork, it is the parent's to end
        self._check_loop()
        if self._ending is not None:
            self._engine.hurry()
        else:
            seconds = self._engine.settings.shutdown_grace if grace is None else grace
            self._ending = self._loop.create_task(self._engine.stop(seconds))
        await asyncio.shield(self._ending)

    async def serve(self) -> None:
        """Work until SIGTERM or SIGINT comes, then shut down as `shutdown` does; a second signal cuts the bodies.

        For a process that does nothing but work. Only a process's main thread hears of signals: elsewhere this
        raises `WrongThread`.
        """
        self._check_loop()
        self._engine.check()
        loop, signalled = asyncio.get_running_loop(), asyncio.Event()

        def hear() -> None:
            if signalled.is_set():
                self._engine.hurry()
            signalled.set()

        try:
            for number in _STOPPING:
                loop.add_signal_handler(number, hear)
        except (ValueError, RuntimeError) as error:
            raise WrongThread(f"serve() hears signals on the main thread only: {error}") from error
        try:
            await signalled.wait()
            await self.shutdown()
        finally:
            for number in _STOPPING:
                loop.remove_signal_handler(number)

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
        connection: Joinable | None = None,
    ) -> ExecutionHandle:
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
        self._check_loop()
        options = SubmitOptions.checked(key, priority, tags)
        return ExecutionHandle(self, await self._requests.submit(workflow, input, options, connection))

    async def submit_many(
        self,
        workflow: Workflow | str,
        inputs: Sequence[object],
        *,
        priority: int = 0,
        tags: Sequence[str] = (),
        connection: Joinable | None = None,
    ) -> list[ExecutionHandle]:
        """Store one execution per input in one transaction: all of them or none. At most 10,000.

        ``connection`` is as for `submit`.
        """
        self._check_loop()
        options = SubmitOptions.checked(None, priority, tags)
        ids = await self._requests.submit_many(workflow, inputs, options, connection)
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
        return expect_completed(result) if raise_on_failure else result

    async def backup(self, path: str | PathLike[str], *, overwrite: bool = False) -> Path:
        """Copy the database, as it is now, to the file ``path``, while everything goes on; return the path.

        The copy gets its name when it is whole, checked and on the disk; only its owner may read it. Payload files
        are copied beside it. `cloacina.backup.restore` puts it back. Raises `ValidationError` if there is such a
        file, unless ``overwrite`` is set, or no such folder, and for a database in memory; `StoreUnavailable` if
        the disk is full; `StoreCorrupt` if the database is damaged; `RunnerClosed` if the runner is shut down.
        """
        self._check_loop()
        self._engine.check()
        return await self._engine.upkeep.backups.make(path, overwrite=overwrite)

    async def prune(self) -> int:
        """Remove now what is removed every ``Settings.prune_interval`` seconds: executions that ended long ago.

        Returns how many were removed, which is those that ended more than ``Settings.keep_completed_days`` or
        ``keep_failed_days`` ago; what is live is never removed. Raises `StoreError` if the database fails.
        """
        self._check_loop()
        self._engine.check()
        return await self._engine.upkeep.retention.prune()

    def metrics(self) -> dict[str, ExecutorMetrics]:
        """How busy each executor is, by its name: ``loop``, ``threads``, ``process``, and your own."""
        self._engine.check()
        return self._engine.life.dispatcher.metrics()

    @property
    def id(self) -> str:
        """The id of the live runner; new at every start."""
        self._engine.check()
        return self._engine.life.runner

    @property
    def blocking(self) -> BlockingRunner:
        """The same runner for ``def`` bodies and other threads; its calls raise on the loop's own thread."""
        from cloacina.blocking import BlockingRunner

        return BlockingRunner.beside(self, self._live())

    def _asked(self) -> Requests:
        self._check_loop()
        return self._requests

    def _live(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            raise RunnerClosed("the runner is not running: use it inside `async with Runner(...)`")
        if self._pid != os.getpid():
            raise ForkedProcess(
                "this runner was started before a fork, and its threads are not in the child: start one after the fork"
            )
        return self._loop

    def _check_loop(self) -> None:
        self._live()
        if threading.get_ident() != self._thread:
            raise WrongThread(
                "this runner belongs to the event loop it was entered on: from other threads use runner.blocking"
            )

    def __repr__(self) -> str:
        return f"Runner({shown_url(self._engine.url)!r})"


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

    For scripts: it opens the database, waits, and closes it. ``url`` names another file, as for `Runner`. After
    Ctrl-C, bodies that run get ``Settings.shutdown_grace`` seconds to end; a second Ctrl-C does not wait. The next
    run on this file goes on with what was not finished, beside its own execution. Raises as `Runner.execute` does,
    and `WrongThread` inside a running event loop, where `Runner` is what to use.
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
