"""Callers that are cancelled while the store does what they asked for: it is done, and somebody looks all the same."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from cloacina.model.context.context import Context
from cloacina.model.status import ExecutionStatus
from cloacina.model.task import task
from cloacina.model.workflow import Workflow
from cloacina.runner import Runner
from support.clock import until
from support.runners import Gate, runner_on
from support.stores import Late, interfere

COMPLETED = ExecutionStatus.COMPLETED
Ask = Callable[[], Coroutine[Any, Any, object]]


async def give_up(runner: Runner, method: str, ask: Ask) -> None:
    """Cancel who asks once the store has done it, and before he is told. No clock moves: nobody polls."""
    await until(lambda: not runner._engine.life.claims.unowned_work, "the end of the claims")
    late = Late()
    interfere(runner).plan(method, late)
    asking = asyncio.create_task(ask())
    await late.reached()
    asking.cancel()
    await asyncio.wait({asking})
    late.release()
    assert asking.cancelled()


@pytest.mark.parametrize("way", ["submit", "submit_many", "with a key", "fork"])
async def test_what_was_stored_is_driven(way: str, tmp_path: Path) -> None:
    ran: list[str] = []

    async def body(ctx: Context) -> None:
        ran.append(ctx["name"])

    workflow = Workflow("w", [task(body, id="it")])
    async with runner_on(tmp_path / "c.db", workflow) as runner:
        first = await runner.execute(workflow, {"name": "first"})
        new = {"name": "new"}
        ways: dict[str, tuple[str, Ask]] = {
            "submit": ("commit", lambda: runner.submit(workflow, new)),
            "submit_many": ("insert_unowned", lambda: runner.submit_many(workflow, [new] * 3)),
            "with a key": ("insert_unowned", lambda: runner.submit(workflow, new, key="k")),
            "fork": ("insert_forks", lambda: runner.fork(first.id, from_task="it", replace=new)),
        }
        await give_up(runner, *ways[way])
        await until(lambda: ran == ["first"] + ["new"] * (3 if way == "submit_many" else 1), "the bodies")


async def test_what_was_resumed_goes_on(tmp_path: Path) -> None:
    gate, ran = Gate(), list[str]()

    async def last(ctx: Context) -> None:
        ran.append("last")

    tasks = [task(gate.pass_through, id="first"), task(last, id="last", dependencies=["first"])]
    async with runner_on(tmp_path / "c.db", Workflow("w", tasks)) as runner:
        handle = await runner.submit("w")
        await gate.reached()
        await handle.pause()
        gate.open()
        await until(lambda: handle.id not in runner._engine.life.drivers, "the rest of the paused execution")
        await give_up(runner, "send", handle.resume)
        await until(lambda: ran, "the last task")
        assert (await handle.result(timeout=20)).status is COMPLETED
