"""Priorities: of executions that wait, the higher one starts first; of equals, the older one."""

from __future__ import annotations

import pytest

from cloacina.model.context.context import Context
from cloacina.model.task import task
from cloacina.model.workflow import Workflow
from support.runners import Gate, in_memory

PRIORITIES = [0, 5, -3, 5, 9, 0]
STARTED = [9, 5, 5, 0, 0, -3]


def told(order: list[tuple[int, int]], kind: str) -> Workflow:
    def body(ctx: Context) -> None:
        order.append((ctx["priority"], ctx["n"]))

    async def async_body(ctx: Context) -> None:
        body(ctx)

    return Workflow("told", [task(body if kind == "def" else async_body, id="it")])


@pytest.mark.parametrize("kind", ["async", "def"])
@pytest.mark.parametrize("window", [1, 100], ids=["stored", "in memory"])
async def test_the_higher_priority_starts_first(window: int, kind: str) -> None:
    gate, order = Gate(), list[tuple[int, int]]()
    blocker = Workflow("blocker")
    blocker.task(gate.pass_through if kind == "async" else gate.pass_on_thread, id="block")
    async with in_memory(async_slots=1, thread_slots=1, window=window) as runner:
        await runner.submit(blocker)
        await gate.reached()
        workflow = told(order, kind)
        handles = [
            await runner.submit(workflow, {"priority": priority, "n": n}, priority=priority)
            for n, priority in enumerate(PRIORITIES)
        ]
        gate.open()
        for handle in handles:
            await handle.result()
    assert [priority for priority, _ in order] == STARTED
    assert order == sorted(order, key=lambda run: (-run[0], run[1]))


async def test_all_tasks_of_an_execution_have_its_priority() -> None:
    gate, order = Gate(), list[tuple[int, int]]()
    blocker = Workflow("blocker")
    blocker.task(gate.pass_through, id="block")
    workflow = Workflow("wide")
    for name in "abc":
        workflow.task(told(order, "async").tasks[0].fn, id=name)
    async with in_memory(async_slots=1) as runner:
        await runner.submit(blocker)
        await gate.reached()
        low = await runner.submit(workflow, {"priority": 0, "n": 0})
        high = await runner.submit(workflow, {"priority": 1, "n": 1}, priority=1)
        gate.open()
        await low.result()
        await high.result()
    assert [priority for priority, _ in order] == [1, 1, 1, 0, 0, 0]
