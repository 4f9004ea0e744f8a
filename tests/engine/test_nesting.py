"""Executions inside bodies: a waiting body gives up its slot, and has one again before it goes on."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from cloacina.errors import ResultTimeout
from cloacina.model.context.context import Context
from cloacina.model.status import ExecutionStatus
from cloacina.model.task import task
from cloacina.model.workflow import Workflow
from cloacina.runner import Runner
from support.clock import HandClock, turn
from support.runners import Gate, crashing, in_memory, runner_on

COMPLETED, FAILED = ExecutionStatus.COMPLETED, ExecutionStatus.FAILED
TIGHT: dict[str, Any] = {"async_slots": 1, "thread_slots": 1, "window": 1}


def leaf(name: str = "leaf", kind: str = "async") -> Workflow:
    def body(ctx: Context) -> None:
        ctx["sum"] = sum(ctx["numbers"])

    async def async_body(ctx: Context) -> None:
        body(ctx)

    return Workflow(name, [task(async_body if kind == "async" else body, id="it")])


def parent(runner: list[Runner], child: Workflow, kind: str, name: str = "parent") -> Workflow:
    async def async_body(ctx: Context) -> None:
        result = await runner[0].execute(child, {"numbers": ctx["numbers"]}, timeout=20)
        ctx["sum"] = result.context["sum"]

    def body(ctx: Context) -> None:
        result = runner[0].blocking.execute(child, {"numbers": ctx["numbers"]}, timeout=20)
        ctx["sum"] = result.context["sum"]

    return Workflow(name, [task(async_body if kind == "async" else body, id="it")])


@pytest.mark.parametrize("inner", ["async", "def"])
@pytest.mark.parametrize("outer", ["async", "def"])
async def test_a_body_waits_for_a_child_with_one_slot_and_a_window_of_one(outer: str, inner: str) -> None:
    runners: list[Runner] = []
    async with in_memory(**TIGHT) as runner:
        runners.append(runner)
        result = await runner.execute(
            parent(runners, leaf(kind=inner), outer), {"numbers": [1, 2, 3]}, timeout=20
        )
        assert not any(one.running for one in runner.metrics().values())
    assert (result.status, result.context["sum"]) == (COMPLETED, 6)


@pytest.mark.parametrize("kind", ["async", "def"])
async def test_children_have_children(kind: str) -> None:
    runners: list[Runner] = []
    workflow = leaf()
    for depth in range(8):
        workflow = parent(runners, workflow, kind, f"depth{depth}")
    async with in_memory(**TIGHT) as runner:
        runners.append(runner)
        result = await runner.execute(workflow, {"numbers": [5]}, timeout=20)
    assert result.context["sum"] == 5


@pytest.mark.parametrize("settings", [TIGHT, {"async_slots": 2, "window": 2}, {}])
async def test_one_body_waits_for_several_children_at_once(settings: dict[str, Any]) -> None:
    runners: list[Runner] = []
    child = leaf()

    async def fan(ctx: Context) -> None:
        async def one(n: int) -> int:
            result = await runners[0].execute(child, {"numbers": [n]})
            return int(result.context["sum"])

        ctx["sums"] = await asyncio.gather(*(one(n) for n in range(10)))

    async with in_memory(**settings) as runner:
        runners.append(runner)
        result = await runner.execute(Workflow("fan", [task(fan, retry=False)]), timeout=20)
    assert result.context["sums"] == list(range(10))


async def test_many_parents_at_once_do_not_starve_each_other() -> None:
    runners: list[Runner] = []
    async with in_memory(**TIGHT) as runner:
        runners.append(runner)
        workflow = parent(runners, leaf(), "async")
        results = await asyncio.gather(
            *(runner.execute(workflow, {"numbers": [n]}, timeout=20) for n in range(30))
        )
    assert [result.context["sum"] for result in results] == list(range(30))


async def test_a_body_goes_on_only_with_a_slot() -> None:
    """While the child ends, somebody else has taken the slot: the parent waits for it."""
    runners, gate, after = list[Runner](), Gate(), list[str]()
    child = leaf()

    async def body(ctx: Context) -> None:
        await runners[0].execute(child, {"numbers": []})
        after.append("parent")

    async with in_memory(async_slots=1) as runner:
        runners.append(runner)
        other = Workflow("other", [task(gate.pass_through, id="it")])
        waiting = Workflow("parent", [task(body, id="it")])
        handle = await runner.submit(waiting)
        busy = await runner.submit(other, priority=100)
        await gate.reached()
        await turn(50)
        assert after in ([], ["parent"])
        assert runner.metrics()["loop"].running <= 2
        gate.open()
        assert (await handle.result(timeout=20)).status is COMPLETED
        assert (await busy.result(timeout=20)).status is COMPLETED
    assert after == ["parent"]


class Slots:
    """Bodies that wait for children, and count how many of them really run."""

    def __init__(self, runners: list[Runner], child: Workflow) -> None:
        self.runners, self.child = runners, child
        self.running = self.most = 0

    async def body(self, ctx: Context) -> None:
        for _ in range(3):
            await self._work()
            await self.runners[0].execute(self.child, {"numbers": [1]})
        await self._work()

    async def _work(self) -> None:
        self.running += 1
        self.most = max(self.most, self.running)
        for _ in range(3):
            await asyncio.sleep(0)
        self.running -= 1


@pytest.mark.parametrize("slots", [1, 2])
async def test_bodies_that_come_back_do_not_exceed_the_slots(slots: int) -> None:
    runners: list[Runner] = []
    busy = Slots(runners, leaf())
    async with in_memory(async_slots=slots) as runner:
        runners.append(runner)
        workflow = Workflow("busy", [task(busy.body, id="it", retry=False)])
        results = await asyncio.gather(*(runner.execute(workflow, timeout=20) for _ in range(20)))
        assert not any(one.running for one in runner.metrics().values())
    assert {result.status for result in results} == {COMPLETED}
    assert busy.most <= slots


async def test_a_second_child_that_starts_while_the_first_comes_back_leaves_the_slots_right() -> None:
    """Two waits of one body overlap in every order; afterwards all slots are there again."""
    runners: list[Runner] = []
    child = leaf()

    async def body(ctx: Context) -> None:
        async def later(n: int) -> None:
            for _ in range(n):
                await asyncio.sleep(0)
            await runners[0].execute(child, {"numbers": [n]})

        async with asyncio.TaskGroup() as group:
            for n in range(40):
                group.create_task(later(n))

    async with in_memory(async_slots=2) as runner:
        runners.append(runner)
        workflow = Workflow("overlapping", [task(body, id="it", retry=False)])
        results = await asyncio.gather(*(runner.execute(workflow, timeout=20) for _ in range(5)))
        assert {result.status for result in results} == {COMPLETED}
        await until_free(runner, 2)


async def until_free(runner: Runner, slots: int) -> None:
    """All slots can be taken at once."""
    gate = Gate()
    wide = Workflow("wide", [task(gate.pass_through, id=f"t{n}") for n in range(slots + 1)])
    handle = await runner.submit(wide)
    await gate.reached(slots)
    await turn(50)
    assert gate.entered == slots
    gate.open()
    assert (await handle.result(timeout=20)).status is COMPLETED


@pytest.mark.parametrize("how", ["cancel", "timeout"])
@pytest.mark.parametrize("kind", ["async", "def"])
async def test_a_parent_that_is_cut_while_it_waits_leaves_its_slot(how: str, kind: str) -> None:
    runners, gate, clock = list[Runner](), Gate(), HandClock()
    child = Workflow("child", [task(gate.pass_through, id="it")])

    async def async_body(ctx: Context) -> None:
        await runners[0].execute(child)

    def body(ctx: Context) -> None:
        runners[0].blocking.execute(child)

    chosen = async_body if kind == "async" else body
    workflow = Workflow("parent", [task(chosen, id="it", timeout=10, retry=False)])
    async with in_memory(clock=clock, async_slots=2, thread_slots=1) as runner:
        runners.append(runner)
        handle = await runner.submit(workflow)
        await gate.reached()
        if how == "cancel":
            assert await handle.cancel() is ExecutionStatus.CANCELLED
        else:
            clock.advance(10)
            assert (await handle.result(timeout=20)).status is FAILED
        gate.open()
        (info,) = await runner.list(workflow="child")
        assert (await runner.result(info.id, timeout=20)).status is COMPLETED
        await until_free(runner, 2)


@pytest.mark.parametrize("how", ["cancel", "timeout"])
async def test_a_parent_that_is_cut_while_it_waits_for_its_slot_leaves_no_gap(how: str) -> None:
    """The child has ended, another body has the only slot, and the parent is cut before it gets it back."""
    runners, gate, clock = list[Runner](), Gate(), HandClock()
    child, began = leaf(), asyncio.Event()

    async def body(ctx: Context) -> None:
        began.set()
        await runners[0].execute(child, {"numbers": []}, priority=100)

    async with in_memory(clock=clock, async_slots=1) as runner:
        runners.append(runner)
        other = Workflow("other", [task(gate.pass_through, id="it")])
        handle = await runner.submit(Workflow("parent", [task(body, id="it", timeout=10, retry=False)]))
        await began.wait()
        busy = await runner.submit(other)
        await turn(50)
        if how == "cancel":
            await handle.cancel()
        else:
            clock.advance(10)
            await handle.result(timeout=20)
        gate.open()
        assert (await busy.result(timeout=20)).status is COMPLETED
        await until_free(runner, 1)


async def test_a_timeout_of_a_wait_inside_a_body_gives_back_the_slot() -> None:
    runners, gate = list[Runner](), Gate()
    child = Workflow("child", [task(gate.pass_through, id="it")])

    async def body(ctx: Context) -> None:
        for attempt in range(3):
            try:
                if attempt == 0:
                    await runners[0].execute(child, key="same", timeout=0)
                elif attempt == 1:
                    await runners[0].execute(child, key="same", timeout=0.01)
                else:
                    await asyncio.wait_for(runners[0].execute(child, key="same"), 0.01)
            except (ResultTimeout, TimeoutError):
                ctx[f"late {attempt}"] = True
        gate.open()
        await runners[0].execute(child, key="same")

    async with in_memory(async_slots=2) as runner:
        runners.append(runner)
        result = await runner.execute(Workflow("parent", [task(body, id="it", retry=False)]), timeout=20)
        assert result.context == {"late 0": True, "late 1": True, "late 2": True}
        assert len(await runner.list(workflow="child")) == 1
        await until_free(runner, 2)


async def test_waiting_for_the_result_of_a_handle_gives_up_the_slot() -> None:
    runners: list[Runner] = []
    child = leaf()

    async def body(ctx: Context) -> None:
        handles = await runners[0].submit_many(child, [{"numbers": [n]} for n in range(5)])
        ctx["sums"] = [(await handle.result()).context["sum"] for handle in handles]

    async with in_memory(**TIGHT) as runner:
        runners.append(runner)
        result = await runner.execute(Workflow("parent", [task(body, id="it")]), timeout=20)
    assert result.context["sums"] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("keyed", [True, False])
async def test_a_repeated_body_starts_its_child_again_unless_it_gives_a_key(
    keyed: bool, tmp_path: Path
) -> None:
    runners, gate = list[Runner](), Gate()
    child = leaf()

    @task
    async def it(ctx: Context) -> None:
        options: dict[str, Any] = {"key": "child of it"} if keyed else {}
        result = await runners[-1].execute(child, {"numbers": [1]}, **options)
        ctx["child"] = result.id
        await gate.pass_through(ctx)

    workflow = Workflow("parent", [it])
    async with crashing(runner_on(tmp_path / "c.db")) as runner:
        runners.append(runner)
        handle = await runner.submit(workflow)
        await gate.reached()
    gate.open()
    async with runner_on(tmp_path / "c.db", workflow, child) as runner:
        runners.append(runner)
        result = await runner.result(handle.id, timeout=20)
        children = [info.id for info in await runner.list(workflow="leaf")]
    assert len(children) == (1 if keyed else 2)
    assert result.context["child"] == children[0]


async def test_a_failed_child_is_a_result() -> None:
    runners: list[Runner] = []

    async def fail(ctx: Context) -> None:
        raise ValueError("child")

    child = Workflow("child", [task(fail, retry=False)])

    async def body(ctx: Context) -> None:
        ctx["child"] = (await runners[0].execute(child)).status

    async with in_memory(**TIGHT) as runner:
        runners.append(runner)
        result = await runner.execute(Workflow("parent", [task(body, id="it")]), timeout=20)
    assert (result.status, result.context["child"]) == (COMPLETED, "failed")


async def test_a_body_may_cancel_its_own_execution() -> None:
    runners: list[Runner] = []

    async def body(ctx: Context) -> None:
        await runners[0].cancel(ctx["id"])

    workflow = Workflow("self", [task(body, id="it")])
    gate = Gate()

    @task
    async def first(ctx: Context) -> None:
        await gate.pass_through(ctx)
        (info,) = await runners[0].list(workflow="self")
        await runners[0].cancel(info.id)

    workflow = Workflow("self", [first])
    async with in_memory(**TIGHT) as runner:
        runners.append(runner)
        handle = await runner.submit(workflow)
        gate.open()
        assert (await handle.result(timeout=20)).status is ExecutionStatus.CANCELLED
        await until_free(runner, 1)
