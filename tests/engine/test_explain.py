"""Explanations: one current reason for every execution and every task that has not ended."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from cloacina.client import Client
from cloacina.clock import SystemClock
from cloacina.errors import StoreRefused
from cloacina.model.context.context import Context
from cloacina.model.result import moment
from cloacina.model.retry import RetryPolicy
from cloacina.model.status import ExecutionStatus
from cloacina.model.task import task
from cloacina.model.workflow import Workflow
from cloacina.runner import Runner
from support.clock import HandClock, until
from support.runners import Gate, in_memory, outside, runner_on
from support.stores import interfere

AGAIN = RetryPolicy(initial_delay=100, max_delay=100, jitter=0)


async def fail(ctx: Context) -> None:
    raise ValueError("once")


def one(body: Any, name: str = "one", **options: Any) -> Workflow:
    return Workflow(name, [task(body, id="it", **options)])


async def test_running_waiting_and_unstarted_tasks() -> None:
    gate, clock = Gate(), HandClock()
    workflow = Workflow(
        "mixed",
        [
            task(gate.pass_through, id="runs"),
            task(fail, id="waits", retry=AGAIN),
            task(gate.pass_through, id="later", dependencies=["runs", "waits"]),
            task(gate.pass_through, id="last", dependencies=["later"]),
        ],
    )
    start = moment(clock.now())
    async with in_memory(clock=clock) as runner:
        handle = await runner.submit(workflow)
        await gate.reached()
        await until(lambda: 100 in clock.pending)
        told = await runner.explain(handle.id)
        assert (told.execution, told.status) == (handle.id, ExecutionStatus.RUNNING)
        assert told.reason == f"driven by this process, runner {runner.id}"
        assert dict(told.tasks) == {
            "runs": f"attempt 1 has run since {start}",
            "waits": f"attempt 1 failed (ValueError: once); its retry is due at {moment(clock.now() + 100_000_000)}",
            "later": "waits for runs, waits",
            "last": "waits for later",
        }
        assert str(told).splitlines()[0] == f"{handle.id} is running: {told.reason}"
        assert "  last: waits for later" in str(told).splitlines()
        gate.open()
        await handle.cancel()


async def test_a_task_that_waits_for_a_slot() -> None:
    gate = Gate()
    async with in_memory(async_slots=1) as runner:
        await runner.submit(one(gate.pass_through))
        await gate.reached()
        handle = await runner.submit("one")
        assert (await runner.explain(handle.id)).tasks == {"it": "ready; waits for a free slot"}
        gate.open()


async def test_a_body_that_waits_for_another_execution() -> None:
    gate, runners = Gate(), list[Runner]()

    async def parent(ctx: Context) -> None:
        await runners[0].execute(child)

    child = one(gate.pass_through, "child")
    async with in_memory() as runner:
        runners.append(runner)
        handle = await runner.submit(one(parent, "parent"))
        await gate.reached()
        told = await runner.explain(handle.id)
        assert told.tasks["it"].endswith(", and waits for another execution")
        gate.open()
        await handle.result(timeout=20)


async def test_ended_executions() -> None:
    gate = Gate()
    gate.open()
    async with in_memory() as runner:
        fine = await runner.execute(one(gate.pass_through))
        bad = await runner.execute(one(fail, "bad", retry=False))
        assert (await runner.explain(fine.id)).reason == "it has ended"
        told = await runner.explain(bad.id)
    assert (told.status, told.reason, told.tasks) == (ExecutionStatus.FAILED, "it: ValueError: once", {})


async def test_an_execution_that_is_stored_until_there_is_room() -> None:
    gate = Gate()
    async with in_memory(window=1) as runner:
        await runner.submit(one(gate.pass_through))
        await gate.reached()
        handle = await runner.submit("one")
        told = await runner.explain(handle.id)
        assert told.status is ExecutionStatus.PENDING
        assert told.reason == "stored, and waiting for a runner with room to claim it"
        assert told.tasks == {"it": "ready; nobody drives the execution"}
        gate.open()


async def test_an_execution_that_was_stored_away() -> None:
    clock = HandClock()
    async with in_memory(clock=clock, max_waiting=0) as runner:
        handle = await runner.submit(one(fail, retry=AGAIN))
        await until(lambda: clock.pending == [100] and not runner._engine.life.drivers)
        told = await runner.explain(handle.id)
        due = moment(clock.now() + 100_000_000)
        assert told.reason == f"stored away until something is due, at {due}"
        assert told.tasks == {"it": f"attempt 1 failed (ValueError: once); its retry is due at {due}"}
        await handle.cancel()


async def test_an_execution_of_another_runner(tmp_path: Path) -> None:
    gate = Gate()
    workflow = one(gate.pass_through)
    async with runner_on(tmp_path / "c.db") as owner, runner_on(tmp_path / "c.db") as other:
        handle = await owner.submit(workflow)
        await gate.reached()
        told = await other.explain(handle.id)
        assert told.reason == f"driven by runner {owner.id}"
        assert list(told.tasks) == ["it"]
        gate.open()


async def test_a_workflow_that_nobody_has(tmp_path: Path) -> None:
    gate = Gate()
    async with runner_on(tmp_path / "c.db", shutdown_grace=0) as runner:
        handle = await runner.submit(one(gate.pass_through))
        await gate.reached()
    async with runner_on(tmp_path / "c.db") as runner:
        told = await runner.explain(handle.id)
        assert told.reason == "no live runner has workflow 'one': start one that does"
        assert told.tasks == {"it": "ready; nobody drives the execution"}


async def test_a_client_sees_what_tasks_wait_for(tmp_path: Path) -> None:
    gate = Gate()
    second = task(gate.pass_through, id="second", dependencies=["first"])
    workflow = Workflow("w", [task(gate.pass_through, id="first"), second])
    owner = runner_on(tmp_path / "c.db", clock=SystemClock())
    async with owner as runner, Client(tmp_path / "c.db") as client:
        handle = client.handle((await runner.submit(workflow)).id)
        await gate.reached()
        told = await handle.explain()
        assert told.tasks["first"].startswith("attempt 1 has run since")
        assert told.tasks["second"] == "waits for first"
        await handle.pause()
        gate.open()
        while "first" in (await handle.explain()).tasks:
            await asyncio.sleep(0.001)
        assert (await handle.explain()).tasks == {"second": "ready; its execution is paused"}
        assert str(await handle.explain()).startswith(f"{handle.id} is paused: nothing starts until resume()")
        await handle.resume()
        assert (await handle.result()).status is ExecutionStatus.COMPLETED


async def test_a_version_that_nobody_has(tmp_path: Path) -> None:
    gate = Gate()
    old = one(gate.pass_through)
    new = Workflow("one", [task(gate.pass_through, id="it"), task(fail, id="more")], on_version="pin")
    async with runner_on(tmp_path / "c.db", shutdown_grace=0) as runner:
        handle = await runner.submit(old)
        await gate.reached()
    async with runner_on(tmp_path / "c.db", new) as runner:
        told = await runner.explain(handle.id)
        assert told.reason == (
            f"no live runner has version {old.version[:12]} of workflow 'one', and version {new.version[:12]} of this "
            'runner leaves it alone (on_version="pin"): start a runner that has the old version, or cancel it and do '
            "it again with fork()"
        )
        assert (await runner.status(handle.id)) is ExecutionStatus.RUNNING


async def test_an_execution_that_was_set_aside() -> None:
    gate = Gate()
    workflow = Workflow(
        "two", [task(gate.pass_through, id="it"), task(fail, id="after", dependencies=["it"])]
    )
    async with in_memory() as runner:
        handle = await runner.submit(workflow)
        await gate.reached()
        store = interfere(runner)
        store.refuses = lambda group: (
            StoreRefused("no room for it") if any(item.ends for item in group.items) else None
        )
        gate.open()
        while await runner.status(handle.id) is not ExecutionStatus.PARKED:
            await asyncio.sleep(0.001)
        await until(lambda: not runner._engine.life.drivers)
        told = await runner.explain(handle.id)
    assert told.reason == "the store refused what it wrote: no room for it"
    assert dict(told.tasks) == dict.fromkeys(("it", "after"), "its execution was set aside")


async def test_every_live_execution_has_a_reason(tmp_path: Path) -> None:
    """Whatever state a runner leaves behind, the next one can explain it."""
    gate, clock = Gate(), HandClock()
    workflows = [one(gate.pass_through, "runs"), one(fail, "waits", retry=AGAIN)]
    async with runner_on(tmp_path / "c.db", clock=clock, shutdown_grace=0, window=3) as runner:
        for workflow in workflows * 4:
            await runner.submit(workflow)
        await gate.reached()
        outside(tmp_path / "c.db", lambda store: store.free_orphans(1))
        for info in await runner.list():
            told = await runner.explain(info.id)
            assert told.reason and all(told.tasks.values()) and list(told.tasks) == ["it"]
    async with runner_on(tmp_path / "c.db") as runner:
        for info in await runner.list():
            told = await runner.explain(info.id)
            assert "no live runner has workflow" in told.reason
