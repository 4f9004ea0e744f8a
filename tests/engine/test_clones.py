"""A clone of a machine: the same files twice, and a runner on each that knows nothing of the other."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from cloacina.model.context.context import Context
from cloacina.model.status import AttemptState, ExecutionStatus
from cloacina.model.workflow import Workflow
from support.runners import Gate, crashing, runner_on


@pytest.mark.sqlite_only("the clone of a machine has no server of its own")
async def test_both_go_on_under_ids_of_their_own(tmp_path: Path) -> None:
    gate = Gate()
    workflow = Workflow("cloned")

    @workflow.task
    async def first(ctx: Context) -> None:
        ctx["first"] = True

    @workflow.task(dependencies=[first])
    async def second(ctx: Context) -> None:
        await gate.pass_through(ctx)

    origin, clone = tmp_path / "origin", tmp_path / "clone"
    origin.mkdir()
    async with crashing(runner_on(origin / "db", workflow)) as runner:
        before = runner.id
        handle = await runner.submit(workflow)
        await gate.reached()
    shutil.copytree(origin, clone)
    gate.open()
    async with (
        runner_on(origin / "db", workflow) as here,
        runner_on(clone / "db", workflow) as there,
    ):
        assert len({before, here.id, there.id}) == 3
        for one in (here, there):
            result = await one.result(handle.id)
            assert result.status is ExecutionStatus.COMPLETED
            states = [attempt.state for attempt in result.tasks["second"].history]
            assert states == [AttemptState.INTERRUPTED, AttemptState.COMPLETED]
