"""What callers ask of a runner: submit, wait, command, look."""

from __future__ import annotations

import asyncio
import builtins
from functools import partial

from cloacina.engine.asking.access import check_id, told
from cloacina.engine.asking.explain import explain
from cloacina.engine.asking.forks import Forks
from cloacina.engine.asking.hub import Told
from cloacina.engine.asking.joining import Joint
from cloacina.engine.asking.submission import (
    SubmitOptions,
    check_same,
    check_seconds,
    new_row,
    read_input,
    read_many,
)
from cloacina.engine.driving.driver import Driver
from cloacina.engine.driving.orders import Order
from cloacina.engine.engine import Engine
from cloacina.engine.executors.attempt import Attempt
from cloacina.engine.incarnation import Incarnation
from cloacina.errors import StoreRefused, ValidationError
from cloacina.model.json.values import JSON, encode
from cloacina.model.result import ExecutionInfo, ExecutionResult, Explanation
from cloacina.model.status import CommandKind, ExecutionStatus
from cloacina.model.workflow import Workflow
from cloacina.observe.logs import running
from cloacina.store.rows import ExecutionFilter, NewExecution


class Requests:
    """The requests of one engine's callers, all on its event loop."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    # Submitting.

    async def submit(
        self, workflow: Workflow | str, input: object, options: SubmitOptions, connection: object = None
    ) -> str:
        """Store a new execution and return its id once it is durable, or in the caller's transaction."""
        joint = None if connection is None else await self._join(connection)
        row, known, data = await self._prepare(workflow, input, options)
        return await self._store(row, known, data, joint)

    async def execute(
        self, workflow: Workflow | str, input: object, options: SubmitOptions, timeout: float | None
    ) -> ExecutionResult:
        """Store a new execution and wait for its end."""
        check_seconds("timeout", timeout)
        row, known, data = await self._prepare(workflow, input, options)
        hub, life = self._engine.access.hub, self._engine.life
        future = hub.wait(row.id)
        try:
            async with _WithoutSlot(life):
                if row.key is None and life.room():
                    life.adopt(row, known, data, partial(_fail, future))
                    return (await future)() if timeout is None else await told(row.id, future, timeout)
                execution = await self._store(row, known, data)
                if execution != row.id:
                    return await self.result(execution, timeout)
                return await told(execution, future, timeout)
        finally:
            hub.leave(row.id, future)

    async def submit_many(
        self, workflow: Workflow | str, inputs: object, options: SubmitOptions, connection: object = None
    ) -> builtins.list[str]:
        """Store one execution per input, all or none; ids in the order of the inputs."""
        joint = None if connection is None else await self._join(connection)
        known = await self._known(workflow)
        rows = read_many(inputs, lambda input: self._row(known, encode(self._input(known, input)), options))
        if rows:
            await self._engine.access.intake.add_all(rows, joint)
        return [row.id for row in rows]

    async def _prepare(
        self, workflow: Workflow | str, input: object, options: SubmitOptions
    ) -> tuple[NewExecution, Workflow, dict[str, JSON]]:
        known = await self._known(workflow)
        data = self._input(known, input)
        return self._row(known, encode(data), options), known, data

    async def _known(self, workflow: Workflow | str) -> Workflow:
        engine = self._engine
        engine.check(leaving=running.get() is not None)
        if isinstance(workflow, str):
            return engine.registry.get(workflow)
        if not isinstance(workflow, Workflow):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ValidationError(f"{workflow!r:.80} is not a workflow: give a Workflow or the name of one")
        if engine.registry.find(workflow.name) is not workflow:
            await engine.register(workflow)
        return workflow

    def _input(self, workflow: Workflow, input: object) -> dict[str, JSON]:
        limits, model = self._engine.means.limits, workflow.inputs
        if model is None:
            return read_input(input, limits)
        given = read_input(model.opened(input), limits)
        return read_input(model.fit(given, f"the input of workflow {workflow.name!r}"), limits)

    def _row(self, workflow: Workflow, text: str, options: SubmitOptions) -> NewExecution:
        return new_row(workflow.name, workflow.version, text, options, self._engine.clock.now())

    async def _join(self, connection: object) -> Joint:
        self._engine.check(leaving=running.get() is not None)
        return await self._engine.access.join(connection)

    async def _store(
        self, row: NewExecution, workflow: Workflow, data: dict[str, JSON], joint: Joint | None = None
    ) -> str:
        life = self._engine.life
        if joint is None and row.key is None and life.room():
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

            life.adopt(row, workflow, data, partial(_answer, future))
            await future
            return row.id
        holder = await self._engine.access.intake.add(row, joint)
        if holder is None:
            return row.id
        check_same(holder, row)
        return holder.id

    @property
    def forks(self) -> Forks:
        """Who makes forks."""
        self._engine.check(leaving=running.get() is not None)
        return self._engine.access.forks

    # Waiting.

    async def result(self, execution: str, timeout: float | None) -> ExecutionResult:
        """Wait for an execution to end, whoever runs it."""
        check_seconds("timeout", timeout)
        self._engine.check()
        access = self._engine.access
        async with _WithoutSlot(self._engine.life):
            if self._driver(execution) is None:
                return await access.result(execution, timeout)
            future = access.hub.wait(execution)
            try:
                return await told(execution, future, timeout)
            finally:
                access.hub.leave(execution, future)

    # Commands.

    async def command(self, kind: CommandKind, execution: str) -> ExecutionStatus:
        """Have an execution cancelled, paused or resumed; return its status afterwards."""
        while True:
            self._engine.check()
            life = self._engine.life
            driver = self._driver(execution)
            async with _WithoutSlot(life):
                if driver is None:
                    why = life.refusals.given_up.get(execution)
                    if why is not None:
                        raise StoreRefused(why)
                    return await self._engine.access.command(kind, execution)
                obeyed: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
                driver.obey(Order(kind, done=partial(_set, obeyed)))
                if await obeyed:
                    return await self.status(execution)

    # Looking.

    async def status(self, execution: str) -> ExecutionStatus:
        """Where an execution stands."""
        self._engine.check()
        driver = self._driver(execution)
        if driver is None or driver.unstored or driver.status.terminal:
            return await self._engine.access.status(execution)
        return driver.status

    async def get(self, execution: str) -> ExecutionResult:
        """An execution as it is stored now, ended or not."""
        self._engine.check()
        return await self._engine.access.get(execution)

    async def list(self, filter: ExecutionFilter) -> builtins.list[ExecutionInfo]:
        """Executions that match, newest first, without their tasks."""
        self._engine.check()
        return await self._engine.access.list(filter)

    async def explain(self, execution: str) -> Explanation:
        """Why an execution is where it is."""
        self._engine.check()
        stored = await self._engine.access.stored(execution)
        return await explain(self._engine.access, stored, self._engine)

    def _driver(self, execution: str) -> Driver | None:
        check_id(execution)
        return self._engine.life.drivers.get(execution)


def _set(future: asyncio.Future[bool], value: bool) -> None:
    if not future.done():
        future.set_result(value)


def _answer(future: asyncio.Future[None], error: BaseException | None) -> None:
    if not future.done():
        if error is None:
            future.set_result(None)
        else:
            future.set_exception(error)


def _fail(future: asyncio.Future[Told], error: BaseException | None) -> None:
    if error is not None and not future.done():
        future.set_exception(error)


class _WithoutSlot:
    """Inside a body: gives up the body's slot, so that what it waits for can run. Elsewhere nothing."""

    __slots__ = ("_attempt", "_life")

    def __init__(self, life: Incarnation) -> None:
        attempt = running.get()
        self._attempt = attempt if isinstance(attempt, Attempt) and life.runs(attempt) else None
        self._life = life

    async def __aenter__(self) -> None:
        if self._attempt is not None:
            self._life.give_up_slot(self._attempt)

    async def __aexit__(self, *error: object) -> None:
        if self._attempt is not None:
            await self._life.take_back_slot(self._attempt)
