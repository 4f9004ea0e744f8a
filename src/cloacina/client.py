"""The client: submits, watches and commands executions without having the code of their workflows."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from os import PathLike
from types import TracebackType

from cloacina.desk import Desk, ExecutionHandle, expect_completed
from cloacina.engine.asking.access import Access
from cloacina.engine.asking.submission import (
    SubmitOptions,
    check_same,
    check_seconds,
    new_row,
    read_input,
    read_many,
)
from cloacina.engine.liveness.presence import Presence, presence_of
from cloacina.engine.machine import Machine
from cloacina.engine.storage.storage import Storage
from cloacina.errors import ForkedProcess, RunnerClosed, UnknownWorkflow, ValidationError, WrongThread
from cloacina.model.definition.hints import listing
from cloacina.model.json.values import Limits, encode
from cloacina.model.result import ExecutionResult
from cloacina.settings import Settings
from cloacina.store.location import DEFAULT_URL, shown_url
from cloacina.store.payloads.payloads import Payloads
from cloacina.store.postgres.joining.connections import Joinable
from cloacina.store.rows import NewExecution


class Client(Desk):
    """Submits, watches and commands executions that are driven in other processes.

    ``url`` and ``schema`` name a database as for `Runner`; one in memory belongs to one runner alone. Workflows
    are named: a runner must have registered them with the database, and an input is checked against a
    workflow's model by the runner that claims the execution. ``settings`` default to `Settings.from_environment`;
    ``payloads`` are those of the runners.

    Raises `ValidationError` for bad arguments, and on entering `StoreError` for a database that cannot be opened, or
    that is not there: a runner makes it, a client never does.
    """

    def __init__(
        self,
        url: str | PathLike[str] = DEFAULT_URL,
        *,
        schema: str | None = None,
        settings: Settings | None = None,
        payloads: Payloads | None = None,
    ) -> None:
        self._settings = Settings.from_environment() if settings is None else settings
        self._limits = Limits(self._settings.max_value_bytes, self._settings.max_context_bytes)
        self._machine = Machine()
        self._url = url
        self._schema = schema
        self._payloads = payloads
        self._storage: Storage | None = None
        self._presence: Presence | None = None
        self._access: Access | None = None
        self._home = (0, 0)

    async def __aenter__(self) -> Client:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.shutdown()

    async def start(self) -> None:
        """Open the database; what ``async with`` does."""
        if self._home[0]:
            raise RunnerClosed("a client starts once: make a new Client")
        unsafe = self._settings.allow_unsafe_server
        storage = Storage(
            self._url, self._payloads, self._schema, allow_unsafe=unsafe, make=False, machine=self._machine
        )
        if not storage.shared:
            raise ValidationError("a database in memory belongs to its runner alone: give a client a file")
        self._home = (os.getpid(), threading.get_ident())
        await storage.open(self._settings.start_patience)
        self._storage = storage
        presence = presence_of(storage, self._settings, self._changed)
        try:
            await presence.open()
        except BaseException:
            await storage.close()
            raise
        self._presence = presence
        self._access = Access(storage, self._settings, self._machine.clock, presence.bell, stored=_nothing)
        presence.bell.start()

    async def shutdown(self) -> None:
        """Close the database; executions go on where they run."""
        access, self._access = self._access, None
        if access is not None and self._storage is not None and self._presence is not None:
            access.reader.give_up()
            await access.bell.stop()
            await self._presence.close()
            await self._storage.close()
            access.hub.fail(RunnerClosed("the client was shut down; the execution goes on"))

    async def submit(
        self,
        workflow: str,
        input: object = None,
        *,
        key: str | None = None,
        priority: int = 0,
        tags: Sequence[str] = (),
        connection: Joinable | None = None,
    ) -> ExecutionHandle:
        """Store a new execution of a workflow that is known by name: see `Runner.submit`.

        Raises `UnknownWorkflow` if no runner has ever registered one of that name.
        """
        options = SubmitOptions.checked(key, priority, tags)
        joint = None if connection is None else await self._asked().join(connection)
        row = self._row(workflow, await self._version(workflow), input, options)
        holder = await self._asked().intake.add(row, joint)
        if holder is None:
            return ExecutionHandle(self, row.id)
        check_same(holder, row)
        return ExecutionHandle(self, holder.id)

    async def submit_many(
        self,
        workflow: str,
        inputs: Sequence[object],
        *,
        priority: int = 0,
        tags: Sequence[str] = (),
        connection: Joinable | None = None,
    ) -> list[ExecutionHandle]:
        """Store one execution per input in one transaction: all of them or none. At most 10,000.

        ``connection`` is as for `Runner.submit`.
        """
        options = SubmitOptions.checked(None, priority, tags)
        joint = None if connection is None else await self._asked().join(connection)
        version = await self._version(workflow)
        rows = read_many(inputs, lambda input: self._row(workflow, version, input, options))
        if rows:
            await self._asked().intake.add_all(rows, joint)
        return [ExecutionHandle(self, row.id) for row in rows]

    async def execute(
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
        check_seconds("timeout", timeout)
        handle = await self.submit(workflow, input, key=key, priority=priority, tags=tags)
        result = await handle.result(timeout)
        return expect_completed(result) if raise_on_failure else result

    async def _version(self, workflow: object) -> str:
        access = self._asked()
        if not isinstance(workflow, str):
            raise ValidationError(f"{workflow!r:.80} is no name: a client knows workflows by their names")
        found = await access.reader.run(lambda store: store.dag(workflow, None))
        if found is None:
            known = await access.reader.run(lambda store: store.workflows())
            raise UnknownWorkflow(
                f"no runner has ever registered a workflow named {workflow!r:.80} with database "
                f"{shown_url(self._url)} (known: {listing(known) or 'none'}): start one that has it, or correct the "
                "name or the database"
            )
        return found[0]

    def _row(self, workflow: str, version: str, input: object, options: SubmitOptions) -> NewExecution:
        text = encode(read_input(input, self._limits))
        return new_row(workflow, version, text, options, self._machine.clock.now())

    async def _changed(self) -> None:
        if self._access is not None and (awaited := self._access.hub.awaited()):
            await self._access.tell(awaited)

    def _asked(self) -> Access:
        if self._home[0] not in (0, os.getpid()):
            raise ForkedProcess(
                "this client was started before a fork, and its threads are not in the child: start one after the fork"
            )
        if self._access is None:
            raise RunnerClosed("the client is not open: use it inside `async with Client(...)`")
        if self._home[1] != threading.get_ident():
            raise WrongThread("this client belongs to the event loop it was entered on: make one per loop")
        return self._access

    def __repr__(self) -> str:
        return f"Client({shown_url(self._url)!r})"


def _nothing() -> None:
    return None
