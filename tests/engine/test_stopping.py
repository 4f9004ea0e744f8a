"""Stopping ends in time, and answers everybody, even if the database takes no part in it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from cloacina.errors import RunnerClosed, StoreUnavailable
from cloacina.model.context.context import Context
from cloacina.model.workflow import Workflow
from support.runners import in_memory, runner_on
from support.stores import fails, interfere


async def test_a_database_that_takes_no_writes_does_not_hold_up_the_end() -> None:
    runner = in_memory()
    await runner.start()
    interfere(runner).plan("recover", *[fails(StoreUnavailable("the disk is full, says the test"))] * 10_000)
    async with asyncio.timeout(20):
        await runner.shutdown(grace=0)


@pytest.mark.parametrize("turns", [0, 1, 2, 3, 5, 10, 20])
async def test_submits_in_flight_are_answered(tmp_path: Path, turns: int) -> None:
    workflow = Workflow("w")

    @workflow.task
    async def only(ctx: Context) -> None: ...

    runner = runner_on(tmp_path / "s.db", workflow, max_pending=1_000_000)
    await runner.start()
    plain = [asyncio.ensure_future(runner.submit(workflow)) for _ in range(500)]
    keyed = [asyncio.ensure_future(runner.submit(workflow, key=f"k{number}")) for number in range(500)]
    for _ in range(turns):
        await asyncio.sleep(0)
    await runner.shutdown()
    async with asyncio.timeout(20):
        answers = await asyncio.gather(*plain, *keyed, return_exceptions=True)
    assert {type(one) for one in answers if isinstance(one, BaseException)} <= {RunnerClosed}
