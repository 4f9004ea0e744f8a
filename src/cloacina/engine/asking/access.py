"""Access: what every process that has the database open can do with it: look, wait, send commands.

A runner adds a life to it, in which executions are driven; a client has nothing else.
"""

from __future__ import annotations

import asyncio
import builtins
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, cast

from cloacina.clock import Clock
from cloacina.engine.asking.explain import explain
from cloacina.engine.asking.forks import Forks
from cloacina.engine.asking.hub import Hub, Told
from cloacina.engine.asking.intake import Intake
from cloacina.engine.asking.joining import Joint
from cloacina.engine.asking.submission import check_seconds
from cloacina.engine.driving.records import info_of, result_of
from cloacina.engine.liveness.doorbell import Doorbell
from cloacina.engine.storage.storage import Storage
from cloacina.errors import (
    CloacinaError,
    CommandTimeout,
    ExecutionNotFound,
    ExecutionParked,
    ResultTimeout,
)
from cloacina.model.ids import new_id
from cloacina.model.json.values import Limits, decode
from cloacina.model.result import ExecutionInfo, ExecutionResult, Explanation
from cloacina.model.status import CommandKind, ExecutionStatus
from cloacina.settings import Settings
from cloacina.store.rows import Command, ExecutionFilter, StoredExecution


class Access:
    """See the module's text.

    ``stored`` is called when there may be something new to claim.
    """

    def __init__(
        self,
        storage: Storage,
        settings: Settings,
        clock: Clock,
        bell: Doorbell,
        *,
        stored: Callable[[], None],
    ) -> None:
        self._storage = storage
        self.writer = storage.writer
        self.reader = storage.reader
        self.hub = Hub()
        self.bell = bell
        self.intake = Intake(storage, settings.max_pending, clock, self._stored_here)
        self.left: Callable[[], Awaitable[None]] | None = None
        """Called after a command was left for an owner, who may be in this process."""
        self._clock = clock
        self._stored = stored
        self._patience = settings.command_timeout
        self._tasks: dict[tuple[str, str], tuple[str, ...]] = {}
        self.forks = Forks(self, clock, Limits(settings.max_value_bytes, settings.max_context_bytes))

    # Looking.

    async def stored(self, execution: str) -> StoredExecution:
        """An execution as it is stored now. Raises `ExecutionNotFound`."""
        check_id(execution)
        stored = await self.reader.run(lambda store: store.execution(execution))
        if stored is None:
            raise unknown(execution, joins=self._storage.server is not None)
        return stored

    async def get(self, execution: str) -> ExecutionResult:
        """An execution as it is stored now, ended or not."""
        return await self.result_of(await self.stored(execution))

    async def status(self, execution: str) -> ExecutionStatus:
        """Where an execution stands."""
        return (await self.stored(execution)).status

    async def explain(self, execution: str) -> Explanation:
        """Why an execution is where it is, as far as the store tells."""
        return await explain(self, await self.stored(execution))

    async def list(self, filter: ExecutionFilter) -> builtins.list[ExecutionInfo]:
        """Executions that match, newest first, without their tasks."""
        rows = await self.reader.run(lambda store: store.executions(filter))
        return [info_of(row) for row in rows]

    async def result_of(self, stored: StoredExecution) -> ExecutionResult:
        """A stored execution, told."""
        return result_of(stored, await self.task_ids(stored.workflow, stored.version))

    async def task_ids(self, workflow: str, version: str) -> tuple[str, ...]:
        """The ids of a workflow's tasks in canonical order; empty if nobody has registered that version."""
        known = self._tasks.get((workflow, version))
        if known is None:
            found = await self.reader.run(lambda store: store.dag(workflow, version))
            if found is None:
                return ()
            dag = cast("dict[str, Any]", decode(found[1]))
            known = self._tasks[workflow, version] = tuple(task["id"] for task in dag["tasks"])
        return known

    # Joining.

    async def join(self, connection: object) -> Joint:
        """Where the transaction on ``connection`` is joined. Raises as `Joint.of` does."""
        return await Joint.of(self._storage, connection)

    # Waiting.

    async def result(self, execution: str, timeout: float | None) -> ExecutionResult:
        """Wait for an execution that is not driven in this process to end."""
        check_seconds("timeout", timeout)
        future = self.hub.wait(execution)
        try:
            stored = await self.stored(execution)
            if stored.status.terminal:
                return await self.result_of(stored)
            if stored.status is ExecutionStatus.PARKED:
                raise parked(stored)
            self.hub.stored.add(execution)
            return await told(execution, future, timeout)
        finally:
            self.hub.leave(execution, future)

    async def tell(self, ids: Sequence[str]) -> None:
        """Tell those who wait for executions which of them have ended, were parked or removed, as stored."""
        for execution in await self.reader.run(lambda store: store.ended(ids)):
            try:
                stored = await self.stored(execution)
                if stored.status.terminal:
                    self.hub.tell(execution, partial(_same, await self.result_of(stored)))
                elif stored.status is ExecutionStatus.PARKED:
                    self.hub.refuse(execution, parked(stored))
            except ExecutionNotFound as error:
                if execution in self.hub.stored:  # else it is about to be stored
                    self.hub.refuse(execution, error)
            except CloacinaError as error:
                # It cannot be read. The others who wait shall be told all the same.
                self.hub.refuse(execution, error)

    # Commands.

    async def command(self, kind: CommandKind, execution: str) -> ExecutionStatus:
        """Have a command carried out, by the owner if there is one; return the status afterwards.

        Raises `ExecutionNotFound`, and `CommandTimeout` if the owner does not answer in time.
        """
        check_id(execution)
        now = self._clock.now()
        command = Command(new_id(now), execution, kind, now)
        status, left = await self._deliver(command)
        if not left:
            return status
        try:
            async with asyncio.timeout(self._patience):
                return await self._obeyed(command)
        except TimeoutError:
            raise CommandTimeout(
                f"the owner of execution {execution} has not carried out {kind.value!r} in {self._patience}s; the "
                "command stays, and takes effect when the owner answers or another runner takes over: look again later"
            ) from None

    async def _obeyed(self, command: Command) -> ExecutionStatus:
        """Wait until a command that was left for an owner took effect, or until it can be carried out here."""
        while True:
            heard = self.bell.listen()
            if self.left is not None:
                await self.left()
            if not await self.reader.run(lambda store: store.outstanding(command.id)):
                return (await self.stored(command.execution)).status
            stored = await self.stored(command.execution)
            if stored.owner is None:
                status, left = await self._deliver(command, again=True)
                if not left:
                    return status
            await heard

    async def _deliver(self, command: Command, *, again: bool = False) -> tuple[ExecutionStatus, bool]:
        sent = await self.writer.run(lambda store: store.send(command, again=again), self._sent)
        if sent is None:
            raise unknown(command.execution, joins=self._storage.server is not None)
        if sent[0].terminal:
            await self.tell([command.execution])
        return sent

    def _sent(self, sent: tuple[ExecutionStatus, bool] | None) -> None:
        if sent is not None:
            self.bell.ring()
            if not sent[0].terminal and not sent[1]:
                self._stored()

    def _stored_here(self) -> None:
        self._stored()
        self.bell.ring()


def _same(result: ExecutionResult) -> ExecutionResult:
    return result


async def told(execution: str, future: asyncio.Future[Told], timeout: float | None) -> ExecutionResult:
    """Wait ``timeout`` seconds at most to be told of an execution's end."""
    if timeout is None:
        return (await future)()
    try:
        async with asyncio.timeout(timeout):
            return (await future)()
    except TimeoutError:
        raise ResultTimeout(
            f"execution {execution} had not ended after {timeout}s; it goes on, ask again with result()"
        ) from None


def parked(stored: StoredExecution) -> ExecutionParked:
    """The error for those who wait for an execution that was set aside."""
    return ExecutionParked(f"execution {stored.id} was set aside: {stored.error}")


def check_id(execution: object) -> None:
    """Raise `ExecutionNotFound` for what cannot be an id."""
    if not isinstance(execution, str) or not execution.isascii() or "\0" in execution:
        raise unknown(execution)


def unknown(execution: object, *, joins: bool = False) -> ExecutionNotFound:
    """The error about an id that no execution has; with ``joins``, one may yet be committed by somebody else."""
    hint = "; one that joined a transaction is there once that is committed" if joins else ""
    return ExecutionNotFound(f"no execution has the id {execution!r:.80} in this database{hint}")
