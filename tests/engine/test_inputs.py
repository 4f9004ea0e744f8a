"""Typed inputs: checked before they are stored, checked again at the first claim, and read in bodies; `writes=`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypedDict

import msgspec
import pydantic
import pytest

from cloacina.engine.asking.submission import SubmitOptions, new_row
from cloacina.errors import ContextError, IdempotencyConflict, InputError
from cloacina.model.context.context import Context
from cloacina.model.json.values import encode
from cloacina.model.result import ExecutionResult
from cloacina.model.rules import context_value
from cloacina.model.status import AttemptState, ExecutionStatus, Reason, TaskState
from cloacina.model.workflow import Workflow
from cloacina.runner import Runner
from support.clock import HandClock, until
from support.runners import Gate, crash, in_memory, runner_on

COMPLETED, FAILED = ExecutionStatus.COMPLETED, ExecutionStatus.FAILED


@dataclass
class Order:
    id: int
    lines: list[str] = field(default_factory=list)
    note: str = "none"


class Typed(TypedDict):
    id: int


class Struct(msgspec.Struct):
    id: int
    note: str = "none"


class Model(pydantic.BaseModel):
    id: int
    note: str = "none"


def orders(model: Any = Order, **options: Any) -> Workflow:
    workflow = Workflow("orders", inputs=model, **options)

    @workflow.task
    async def change(ctx: Context) -> None:
        ctx["id"] = "changed"

    @workflow.task(dependencies=[change])
    def read(ctx: Context) -> None:
        ctx["read"] = ctx.input(model)

    return workflow


async def smuggle(runner: Runner, workflow: Workflow, input: dict[str, Any], **options: Any) -> str:
    """Store an execution as somebody does who does not have the workflow's code."""
    if runner._engine.registry.find(workflow.name) is None:
        await runner.register(workflow)
    now = runner._engine.clock.now()
    row = new_row(workflow.name, workflow.version, encode(input), SubmitOptions(**options), now)
    await runner._engine.access.intake.add(row)
    return row.id


@pytest.mark.parametrize("model", [Order, Typed, Struct, Model], ids=lambda model: model.__name__)
async def test_a_body_reads_the_input_as_it_was_submitted(model: Any) -> None:
    async with in_memory() as runner:
        result = await runner.execute(orders(model), {"id": 7})
    assert (result.status, result.context["id"], result.context["read"]["id"]) == (COMPLETED, "changed", 7)
    assert result.context.input(model) == (model(id=7))


async def test_what_is_stored_has_conversions_and_defaults() -> None:
    async with in_memory() as runner:
        result = await runner.execute(orders(Model), Model(id=7))
        again = await runner.execute(orders(Model), {"id": "7"})
    assert result.context["note"] == again.context["note"] == "none"
    assert again.context.input(Model).id == 7


async def test_what_does_not_fit_is_refused_and_nothing_is_stored() -> None:
    workflow = orders()
    async with in_memory(workflow) as runner:
        for submit in (runner.submit, runner.execute):
            with pytest.raises(
                InputError, match="input of workflow 'orders' does not fit Order: id: it is"
            ) as no:
                await submit("orders", {"note": "x"})
            assert no.value.paths == ("id",)
        with pytest.raises(InputError) as many:
            await runner.submit_many(workflow, [{"id": 1}, {"id": 2, "lines": [3]}])
        assert many.value.paths == ("lines[0]",)
        assert many.value.__notes__ == ["inputs[1] of submit_many; nothing was stored"]
        with pytest.raises(ContextError, match="surrogate"):
            await runner.submit(workflow, {"id": 1, "note": "\ud800"})
        assert await runner.list() == []


async def test_a_key_belongs_to_the_converted_input() -> None:
    workflow = orders(Model)
    async with in_memory(workflow) as runner:
        first = await runner.submit(workflow, {"id": "7"}, key="k")
        assert (await runner.submit(workflow, Model(id=7), key="k")).id == first.id
        with pytest.raises(IdempotencyConflict):
            await runner.submit(workflow, {"id": 8}, key="k")


async def test_an_input_that_was_stored_unchecked_is_fitted_at_the_claim() -> None:
    workflow = orders(Model)
    async with in_memory(workflow) as runner:
        result = await runner.result(await smuggle(runner, workflow, {"id": "7"}))
    assert (result.status, result.context["note"], result.context["read"]["id"]) == (COMPLETED, "none", 7)


def ends_unfit(result: ExecutionResult, input: dict[str, Any]) -> None:
    assert result.status is FAILED
    assert "the input of workflow 'orders' does not fit Order: id: it is missing" in str(result.error)
    assert result.context.to_dict() == input
    for task in result.tasks.values():
        [row] = task.history
        assert (task.state, row.number, row.state) == (TaskState.SKIPPED, 0, AttemptState.SKIPPED)
        assert row.reason is Reason.INVALID_INPUT


async def test_one_that_does_not_fit_fails_at_the_claim_and_nothing_runs() -> None:
    told: list[ExecutionStatus] = []
    workflow = orders(on_failure=lambda ctx, info: told.append(info.status))
    async with in_memory(workflow) as runner:
        id = await smuggle(runner, workflow, {"note": "x"})
        ends_unfit(await runner.result(id), {"note": "x"})
        ends_unfit(await runner.get(id), {"note": "x"})
        await until(lambda: told)
    assert told == [FAILED]


async def test_one_that_did_not_fit_is_done_again_by_a_retry_or_with_another_input() -> None:
    workflow = orders()
    async with in_memory(workflow) as runner:
        id = await smuggle(runner, workflow, {"note": "x"})
        await runner.result(id)
        ends_unfit(await (await runner.retry(id)).result(), {"note": "x"})
        mended = await (await runner.fork(id, replace={"id": 3})).result()
        assert (mended.status, mended.context["read"]["id"]) == (COMPLETED, 3)
        with pytest.raises(InputError, match="id: expected `int`"):
            await runner.fork(id, replace={"id": "x"})


async def test_one_that_does_not_fit_fails_even_if_no_task_would_have_run() -> None:
    workflow = Workflow("orders", inputs=Order)

    @workflow.task(trigger_rules=context_value("id", ">", 0))
    def never(ctx: Context) -> None: ...

    async with in_memory(workflow) as runner:
        ends_unfit(await runner.result(await smuggle(runner, workflow, {})), {})


class New(pydantic.BaseModel):
    name: str


def read_new(ctx: Context) -> None:
    ctx.input(New)


async def test_one_that_has_begun_goes_on_with_the_input_that_it_has(tmp_path: Path) -> None:
    """The model was changed while the execution ran."""
    gate, clock = Gate(), HandClock()

    def version(model: Any) -> Workflow:
        workflow = Workflow("orders", inputs=model)
        workflow.task(gate.pass_through, id="first", retry=3)
        workflow.task(read_new, dependencies=["first"], retry=False)
        return workflow

    old, new = version(Typed), version(New)
    assert old.version == new.version
    runner = runner_on(tmp_path / "c.db", old, clock=clock)
    await runner.start()
    id = (await runner.submit(old, {"id": 1})).id
    await gate.reached()
    await crash(runner)
    gate.open()
    async with runner_on(tmp_path / "c.db", new, clock=clock) as runner:
        result = await runner.result(id)
    assert result.status is FAILED
    assert result.tasks["first"].state is TaskState.COMPLETED
    assert "does not fit New: name: field required" in str(result.tasks["read_new"].error)


async def test_callbacks_read_the_input_too() -> None:
    read: list[int] = []

    def note(ctx: Context, info: object) -> None:
        read.append(ctx.input(Order).id)

    workflow = orders(on_success=note)
    workflow.task(lambda_free, id="last", dependencies=["change"], on_success=note)
    async with in_memory() as runner:
        await runner.execute(workflow, {"id": 7})
        await until(lambda: len(read) == 2)
    assert read == [7, 7]


async def lambda_free(ctx: Context) -> None: ...


BODIES: list[tuple[str, list[str]]] = [
    ("ctx['total'] = 1", []),
    ("ctx['orders'].append(1)", ["'orders'"]),
    ("ctx['deep']['x'] = 1", ["'deep'"]),
    ("del ctx['deep']; ctx['new'] = 1; ctx['total'] = 2", ["'deep', 'new'"]),
    ("ctx['orders']; ctx.get('deep')", []),
]


@pytest.mark.parametrize("is_async", [True, False])
@pytest.mark.parametrize(("body", "said"), BODIES)
async def test_a_body_changes_only_what_it_says(body: str, said: list[str], is_async: bool) -> None:
    workflow, scope = Workflow("strict"), dict[str, Any]()
    exec(f"{'async ' if is_async else ''}def step(ctx): {body}", scope)
    workflow.task(scope["step"], writes=["total"], retry=3)
    async with in_memory() as runner:
        result = await runner.execute(workflow, {"orders": [], "deep": {}})
    step = result.tasks["step"]
    assert (result.status is COMPLETED) is (not said)
    assert step.attempts == 1
    if said:
        assert step.error is not None
        assert f"task 'step' of workflow 'strict' changed {said[0]}, which its writes=" in step.error.message
        assert result.context.to_dict() == {"orders": [], "deep": {}}


async def test_a_task_may_say_that_it_changes_nothing() -> None:
    workflow = Workflow("strict")

    @workflow.task(writes=[], retry=3)
    def step(ctx: Context) -> None:
        ctx["x"] = 1

    async with in_memory() as runner:
        result = await runner.execute(workflow)
    assert (result.status, result.tasks["step"].attempts) == (FAILED, 1)
