"""What callers ask of an engine: submit, wait, cancel, look."""

from __future__ import annotations

import asyncio
import builtins
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import cast

from cloacina.engine.driving.records import info_of, result_of
from cloacina.engine.engine import Engine
from cloacina.engine.executors.attempt import Attempt
from cloacina.engine.hub import Told
from cloacina.engine.incarnation import Incarnation
from cloacina.errors import (
    ContextError,
    ExecutionNotFound,
    ExecutionParked,
    IdempotencyConflict,
    NotTheOwner,
    ResultTimeout,
    StoreRefused,
    ValidationError,
)
from cloacina.model.context import Context
from cloacina.model.ids import new_id
from cloacina.model.json.values import JSON, Limits, decode, encode, to_json
from cloacina.model.names import check_name
from cloacina.model.result import ExecutionInfo, ExecutionResult
from cloacina.model.status import ExecutionStatus, Reason
from cloacina.model.workflow import Workflow
from cloacina.observe.logs import running
from cloacina.store.rows import ExecutionFilter, NewExecution, StoredExecution

MOST_AT_ONCE = 10_000
LONGEST_KEY = 200


@dataclass(frozen=True, slots=True)
class SubmitOptions:
    """How an execution is to be stored: idempotency key, priority (higher first), tags."""

    key: str | None = None
    priority: int = 0
    tags: tuple[str, ...] = ()

    @classmethod
    def checked(cls, key: object, priority: object, tags: Iterable[object]) -> SubmitOptions:
        """The options, if they are valid. Raises `ValidationError`."""
        if key is None and priority == 0 and not tags:
            return _PLAIN
        if key is not None and not (
            isinstance(key, str) and 0 < len(key) <= LONGEST_KEY and key.isprintable()
        ):
            raise ValidationError(
                f"idempotency key {key!r:.80} must be printable text of 1 to {LONGEST_KEY} characters"
            )
        if isinstance(priority, bool) or not isinstance(priority, int) or abs(priority) > 1_000_000:
            raise ValidationError(
                f"priority {priority!r:.80} must be a whole number between -1000000 and 1000000"
            )
        if isinstance(tags, str) or not isinstance(tags, Iterable):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ValidationError(f"tags must be a list of names, not {tags!r:.80}")
        return cls(key, priority, tuple(check_name("tag", tag) for tag in tags))


_PLAIN = SubmitOptions()


def checked_filter(
    workflow: object, status: object, tag: object, before: object, limit: object
) -> ExecutionFilter:
    """Which executions to list, if it can be told from this. Raises `ValidationError`."""
    name = workflow.name if isinstance(workflow, Workflow) else workflow
    for what, value in (("workflow", name), ("tag", tag), ("before", before)):
        if value is not None and not isinstance(value, str):
            raise ValidationError(f"{what}={value!r:.80} must be a string")
    if isinstance(limit, bool) or not isinstance(limit, int) or not 1 <= limit <= MOST_AT_ONCE:
        raise ValidationError(f"limit={limit!r:.80} must be a whole number between 1 and {MOST_AT_ONCE}")
    listed = not isinstance(status, str) and isinstance(status, Iterable)
    try:
        states = tuple(map(ExecutionStatus, cast("Iterable[str]", status if listed else [status])))
    except ValueError as error:
        known = ", ".join(ExecutionStatus)
        raise ValidationError(f"{error}: a status is one of {known}") from None
    return ExecutionFilter(
        cast("str | None", name), states, cast("str | None", tag), cast("str | None", before), limit
    )


def check_seconds(name: str, value: object) -> None:
    """Raise `ValidationError` unless ``value`` is a number of seconds, or None."""
    if value is not None and (
        isinstance(value, bool) or not isinstance(value, (int, float)) or value != value
    ):
        raise ValidationError(f"{name}={value!r:.80} must be a number of seconds")


class Requests:
    """The requests of one engine's callers, all on its event loop."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def submit(self, workflow: Workflow | str, input: object, options: SubmitOptions) -> str:
        """Store a new execution and return its id once it is durable."""
        row, known, data = await self._prepare(workflow, input, options)
        return await self._store(row, known, data)

    async def execute(
        self, workflow: Workflow | str, input: object, options: SubmitOptions, timeout: float | None
    ) -> ExecutionResult:
        """Store a new execution and wait for its end."""
        check_seconds("timeout", timeout)
        row, known, data = await self._prepare(workflow, input, options)
        hub, life = self._engine.hub, self._engine.life
        future = hub.wait(row.id)
        try:
            async with _WithoutSlot(life):
                if row.key is None and life.room():
                    life.adopt(row, known, data, partial(_fail, future))
                    return (await future)() if timeout is None else await self._await(row.id, future, timeout)
                execution = await self._store(row, known, data)
                if execution != row.id:
                    return await self.result(execution, timeout)
                return await self._await(execution, future, timeout)
        finally:
            hub.leave(row.id, future)

    async def submit_many(
        self, workflow: Workflow | str, inputs: Sequence[object], options: SubmitOptions
    ) -> builtins.list[str]:
        """Store one execution per input, all or none; ids in the order of the inputs."""
        if isinstance(inputs, str | Mapping) or not isinstance(inputs, Sequence):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ValidationError(
                f"the inputs of submit_many must be a list with one input per execution, not {type(inputs).__name__}"
            )
        if len(inputs) > MOST_AT_ONCE:
            raise ValidationError(
                f"submit_many takes {MOST_AT_ONCE} inputs at most, not {len(inputs)}: split them"
            )
        rows: builtins.list[NewExecution] = []
        known = await self._known(workflow)
        for position, input in enumerate(inputs):
            try:
                rows.append(self._row(known, encode(self._input(input)), options))
            except Exception as error:
                error.add_note(f"inputs[{position}] of submit_many; nothing was stored")
                raise
        if rows:
            await self._engine.intake.add_all(rows)
        return [row.id for row in rows]

    async def result(self, execution: str, timeout: float | None) -> ExecutionResult:
        """Wait for an execution to end, whoever runs it."""
        check_seconds("timeout", timeout)
        self._engine.check()
        hub = self._engine.hub
        future = hub.wait(execution)
        try:
            if execution not in self._engine.life.drivers:
                stored = await self.stored(execution)
                if stored.status.terminal:
                    return self._told(stored)
                if stored.status is ExecutionStatus.PARKED:
                    raise ExecutionParked(f"execution {execution} was set aside: {stored.error}")
            async with _WithoutSlot(self._engine.life):
                return await self._await(execution, future, timeout)
        finally:
            hub.leave(execution, future)

    async def status(self, execution: str) -> ExecutionStatus:
        """Where an execution stands."""
        driver = self._engine.life.drivers.get(execution)
        if driver is None or driver.unstored or driver.status.terminal:
            return (await self.stored(execution)).status
        return driver.status

    async def get(self, execution: str) -> ExecutionResult:
        """An execution as it is stored now, ended or not."""
        return self._told(await self.stored(execution))

    async def cancel(self, execution: str) -> ExecutionStatus:
        """End an execution as cancelled, unless it has ended; return how it ended."""
        while True:
            self._engine.check()
            life = self._engine.life
            driver = life.drivers.get(execution)
            if driver is not None:
                driver.stop(Reason.CANCELLED)
                async with _WithoutSlot(life):
                    await asyncio.shield(self._engine.hub.parting(execution))
                continue
            status = await self._cancel_unowned(execution)
            if status.terminal:
                return status
            await self._check_owner(execution)

    async def _cancel_unowned(self, execution: str) -> ExecutionStatus:
        _check_id(execution)
        now = self._engine.clock.now()
        status = await self._engine.means.writer.run(lambda store: store.cancel_unowned(execution, now))
        if status is None:
            raise _unknown(execution)
        if status.terminal:
            await self._engine.tell_stored([execution])
        return status

    async def _check_owner(self, execution: str) -> None:
        stored = await self.stored(execution)
        if stored.owner not in (None, self._engine.life.runner):
            raise NotTheOwner(
                f"execution {execution} is driven by runner {stored.owner} in another process: cancel it there"
            )
        why = self._engine.life.refusals.given_up.get(execution)
        if why is not None:
            raise StoreRefused(why)
        await asyncio.sleep(0)

    async def _prepare(
        self, workflow: Workflow | str, input: object, options: SubmitOptions
    ) -> tuple[NewExecution, Workflow, dict[str, JSON]]:
        known = await self._known(workflow)
        data = self._input(input)
        return self._row(known, encode(data), options), known, data

    async def _known(self, workflow: Workflow | str) -> Workflow:
        self._check_open()
        engine = self._engine
        if isinstance(workflow, str):
            return engine.registry.get(workflow)
        if not isinstance(workflow, Workflow):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ValidationError(f"{workflow!r:.80} is not a workflow: give a Workflow or the name of one")
        if engine.registry.find(workflow.name) is not workflow:
            await engine.register(workflow)
        return workflow

    def _check_open(self) -> None:
        self._engine.check(leaving=running.get() is not None)

    def _input(self, input: object) -> dict[str, JSON]:
        if input is None:
            return {}
        source = input.to_dict() if isinstance(input, Context) else input
        limits = self._engine.means.limits
        try:
            data = to_json(source, limits=limits)
        except ContextError:
            data = _large(source, limits)
        if not isinstance(data, dict):
            raise ValidationError(
                f"the input of an execution must be a mapping, a context or a model, not {type(input).__name__}"
            )
        return data

    def _row(self, workflow: Workflow, text: str, options: SubmitOptions) -> NewExecution:
        now = self._engine.clock.now()
        return NewExecution(
            new_id(now), workflow.name, workflow.version, ExecutionStatus.PENDING, text, options.key,
            options.priority, encode([*options.tags]) if options.tags else "[]", None, now, None,
        )  # fmt: skip

    async def _store(self, row: NewExecution, workflow: Workflow, data: dict[str, JSON]) -> str:
        life = self._engine.life
        if row.key is None and life.room():
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

            life.adopt(row, workflow, data, partial(_answer, future))
            await future
            return row.id
        holder = await self._engine.intake.add(row)
        return row.id if holder is None else self._same(holder, row)

    def _same(self, holder: StoredExecution, row: NewExecution) -> str:
        if holder.workflow != row.workflow or decode(holder.input) != decode(row.input):
            raise IdempotencyConflict(
                f"idempotency key {row.key!r} belongs to execution {holder.id} of workflow {holder.workflow!r}, "
                "which has another workflow or input: use another key"
            )
        return holder.id

    async def _await(
        self, execution: str, future: asyncio.Future[Told], timeout: float | None
    ) -> ExecutionResult:
        if timeout is None:
            return (await future)()
        try:
            async with asyncio.timeout(timeout):
                return (await future)()
        except TimeoutError:
            raise ResultTimeout(
                f"execution {execution} had not ended after {timeout}s; it goes on, ask again with result()"
            ) from None

    async def list(self, filter: ExecutionFilter) -> builtins.list[ExecutionInfo]:
        """Executions that match, newest first, without their tasks."""
        self._engine.check()
        rows = await self._engine.means.reader.run(lambda store: store.executions(filter))
        return [info_of(row) for row in rows]

    async def stored(self, execution: str) -> StoredExecution:
        """An execution as it is stored now. Raises `ExecutionNotFound`."""
        self._engine.check()
        _check_id(execution)
        stored = await self._engine.stored(execution)
        if stored is None:
            raise _unknown(execution)
        return stored

    def _told(self, stored: StoredExecution) -> ExecutionResult:
        return result_of(stored, self._engine.task_ids(stored.workflow, stored.version))


def _large(source: object, limits: Limits) -> JSON:
    """The input as JSON though it is larger than one value may be, or the error that is the matter with it."""
    whole = Limits(max(limits.value_bytes, limits.context_bytes), limits.context_bytes, limits.depth)
    data = to_json(source, limits=whole)
    return Context(data, limits=limits).to_dict() if isinstance(data, dict) else data


def _check_id(execution: object) -> None:
    if not isinstance(execution, str) or not execution.isascii():
        raise _unknown(execution)


def _unknown(execution: object) -> ExecutionNotFound:
    return ExecutionNotFound(f"no execution has the id {execution!r:.80} in this database")


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
