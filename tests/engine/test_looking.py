"""Looking at executions: status, get, list with filters and pages, handles, unknown ids."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from cloacina.errors import ExecutionNotFound, ResultTimeout, ValidationError
from cloacina.model.context.context import Context
from cloacina.model.status import ExecutionStatus, TaskState
from cloacina.model.task import task
from cloacina.model.workflow import Workflow
from support.clock import until
from support.runners import Gate, in_memory, runner_on
from support.stores import interfere

PENDING, RUNNING = ExecutionStatus.PENDING, ExecutionStatus.RUNNING
COMPLETED, FAILED = ExecutionStatus.COMPLETED, ExecutionStatus.FAILED
UNKNOWN = "00000000-0000-7000-8000-000000000000"


def two_steps(gate: Gate) -> Workflow:
    workflow = Workflow("steps")

    @workflow.task
    async def first(ctx: Context) -> None:
        ctx["first"] = True

    workflow.task(gate.pass_through, id="second", dependencies=[first])
    return workflow


def either(name: str = "either") -> Workflow:
    """Completes, or fails if the input says so."""
    workflow = Workflow(name, retry=1)

    @workflow.task
    async def it(ctx: Context) -> None:
        if ctx.get("fail"):
            raise ValueError("as asked")

    return workflow


@pytest.mark.parametrize("database", ["memory", "file"])
async def test_an_execution_is_seen_at_every_stage(database: str, tmp_path: Path) -> None:
    gate = Gate()
    url = "sqlite://:memory:" if database == "memory" else tmp_path / "c.db"
    async with runner_on(url) as runner:
        handle = await runner.submit(two_steps(gate), {"a": 1})
        await gate.reached()
        assert await handle.status() is RUNNING
        seen = await runner.get(handle.id)
        assert (seen.status, seen.context.to_dict()) == (RUNNING, {"a": 1})
        assert seen.finished is None is seen.duration
        assert {task.id: task.state for task in seen.tasks.values()} == {
            "first": TaskState.COMPLETED,
            "second": TaskState.RUNNING,
        }
        assert seen.tasks["second"].finished is None
        gate.open()
        result = await handle.result()
        assert await handle.status() is COMPLETED
        assert await runner.get(handle.id) == result == await handle.result()


async def test_a_stored_execution_is_pending() -> None:
    gate = Gate()
    async with in_memory(window=1) as runner:
        await runner.submit(two_steps(gate))
        await gate.reached()
        handle = await runner.submit("steps")
        seen = await runner.get(handle.id)
        assert (await handle.status(), seen.status, seen.started) == (PENDING, PENDING, None)
        assert {task.state for task in seen.tasks.values()} == {TaskState.PENDING}
        assert seen.summary == "steps pending (0 completed, 0 failed, 0 skipped, 2 pending)"
        gate.open()


async def test_an_end_is_not_told_before_it_is_durable() -> None:
    gate = Gate()
    async with in_memory() as runner:
        handle = await runner.submit(two_steps(gate))
        await gate.reached()
        hold = interfere(runner).hold("commit")
        gate.open()
        await hold.reached()
        asking = asyncio.ensure_future(handle.status())
        done, _ = await asyncio.wait({asking}, timeout=0)
        assert not done or asking.result() is RUNNING
        hold.release()
        await handle.result()
        await asking


async def test_list_pages_newest_first() -> None:
    async with in_memory() as runner:
        ids = [(await runner.execute(either(), {"n": n})).id for n in range(25)]
        pages = []
        before = None
        while page := await runner.list(limit=10, before=before):
            pages.append([info.id for info in page])
            before = page[-1].id
    assert [len(page) for page in pages] == [10, 10, 5]
    assert sum(pages, []) == ids[::-1]


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({}, "abcdef"),
        ({"workflow": "other"}, "f"),
        ({"workflow": "none such"}, ""),
        ({"status": COMPLETED}, "acef"),
        ({"status": "failed"}, "bd"),
        ({"status": ["failed", COMPLETED]}, "abcdef"),
        ({"status": "pending"}, ""),
        ({"tag": "red"}, "cde"),
        ({"tag": "blue"}, "e"),
        ({"tag": "re"}, ""),
        ({"tag": "red", "status": "failed", "workflow": "either"}, "d"),
        ({"tag": "red", "limit": 2}, "de"),
    ],
)
async def test_list_filters(filters: dict[str, object], expected: str) -> None:
    plan = {
        "a": (either(), False, []),
        "b": (either(), True, []),
        "c": (either(), False, ["red"]),
        "d": (either(), True, ["red"]),
        "e": (either(), False, ["red", "blue"]),
        "f": (either("other"), False, []),
    }
    names: dict[str, str] = {}
    async with in_memory() as runner:
        for name, (workflow, fail, tags) in plan.items():
            names[(await runner.execute(workflow, {"fail": fail}, tags=tags)).id] = name
        found = await runner.list(**filters)  # type: ignore[arg-type]
    assert [names[info.id] for info in found] == sorted(expected, reverse=True)


async def test_a_list_tells_what_an_execution_is() -> None:
    workflow = either()
    async with in_memory() as runner:
        result = await runner.execute(workflow, {"fail": True}, key="k1", priority=4, tags=["red"])
        (info,) = await runner.list()
    assert (info.id, info.workflow, info.version, info.status) == (
        result.id,
        "either",
        workflow.version,
        FAILED,
    )
    assert (info.priority, info.tags, info.key, info.owner) == (4, ("red",), "k1", None)
    assert (info.created, info.started, info.finished) == (result.created, result.started, result.finished)
    assert info.error == result.error == "it: ValueError: as asked"


async def test_the_owner_of_a_running_execution_is_the_runner() -> None:
    gate = Gate()
    async with in_memory() as runner:
        await runner.submit(two_steps(gate))
        await gate.reached()
        (info,) = await runner.list(status=[RUNNING])
        assert info.owner == runner.id
        gate.open()


@pytest.mark.parametrize("limit", [0, -1, 10_001])
async def test_a_bad_limit_is_refused(limit: int) -> None:
    async with in_memory() as runner:
        with pytest.raises(ValidationError, match=f"limit={limit}"):
            await runner.list(limit=limit)


async def test_a_bad_status_is_refused() -> None:
    async with in_memory() as runner:
        with pytest.raises(ValidationError, match="'done'.*a status is one of pending, running"):
            await runner.list(status="done")


@pytest.mark.parametrize("id", [UNKNOWN, "", "nonsense", "x\0y", "\ud800", "é" * 500])
@pytest.mark.parametrize("call", ["get", "status", "result", "cancel", "explain"])
async def test_an_unknown_id_is_refused(call: str, id: str) -> None:
    async with in_memory() as runner:
        with pytest.raises(ExecutionNotFound, match="no execution has the id"):
            await getattr(runner, call)(id)


@pytest.mark.parametrize("call", ["status", "result", "cancel"])
async def test_a_handle_of_an_unknown_id_is_refused_when_it_is_used(call: str) -> None:
    async with in_memory() as runner:
        handle = runner.handle(UNKNOWN)
        assert UNKNOWN in repr(handle)
        with pytest.raises(ExecutionNotFound):
            await getattr(handle, call)()


async def test_a_result_that_comes_too_late_leaves_the_execution_running() -> None:
    gate = Gate()
    async with in_memory() as runner:
        handle = await runner.submit(two_steps(gate))
        await gate.reached()
        for wait in (handle.result, lambda timeout: runner.execute("steps", timeout=timeout)):
            with pytest.raises(ResultTimeout, match="had not ended after 0s; it goes on"):
                await wait(timeout=0)
        assert await handle.status() is RUNNING
        gate.open()
        assert (await handle.result(timeout=20)).status is COMPLETED
        await until(lambda: gate.left == 2)


async def test_a_waiter_that_is_cancelled_leaves_the_execution_running() -> None:
    gate = Gate()
    async with in_memory() as runner:
        waiting = asyncio.ensure_future(runner.execute(two_steps(gate)))
        await gate.reached()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        (info,) = await runner.list()
        assert info.status is RUNNING
        gate.open()
        assert (await runner.result(info.id)).status is COMPLETED


async def test_many_may_wait_for_one_execution() -> None:
    gate = Gate()
    async with in_memory() as runner:
        handle = await runner.submit(two_steps(gate))
        waiters = [asyncio.ensure_future(handle.result()) for _ in range(20)]
        await gate.reached()
        gate.open()
        results = await asyncio.gather(*waiters)
    assert len({result.id for result in results}) == 1


async def test_metrics_count_attempts() -> None:
    gate = Gate()
    async with in_memory(async_slots=3, thread_slots=2) as runner:
        await runner.execute(either())
        await runner.submit(two_steps(gate))
        await gate.reached()
        busy = runner.metrics()
        gate.open()
    loop = busy["loop"]
    assert (loop.slots, loop.running, loop.waiting, loop.started, loop.ended) == (3, 1, 0, 3, 2)
    assert (busy["threads"].slots, busy["threads"].started) == (2, 0)


@pytest.mark.parametrize("seconds", [-1, float("nan"), True, "1"])
async def test_what_is_no_time_to_wait_is_refused_before_anything_is_stored(seconds: Any) -> None:
    async with in_memory() as runner:
        with pytest.raises(ValidationError, match="must be a number of seconds, 0 or more"):
            await runner.execute(Workflow("any", [task(Gate().pass_through, id="it")]), timeout=seconds)
        with pytest.raises(ValidationError, match="grace="):
            await runner.shutdown(grace=seconds)
        assert await runner.list() == []
