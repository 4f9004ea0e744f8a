"""Idle runners: nothing is written where nothing happens, however many there are; nothing is kept of the gone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cloacina.logic.execution import ExecutionState
from cloacina.model.context import Context
from cloacina.model.status import TaskState
from cloacina.model.task import task
from cloacina.model.values import DEFAULT_LIMITS
from cloacina.model.workflow import Workflow
from cloacina.runner import Runner
from support.clock import HandClock, turn, until
from support.runners import runner_on
from support.stores import interfere


def echo() -> Workflow:
    workflow = Workflow("echo")

    @workflow.task
    async def it(ctx: Context) -> None: ...

    return workflow


async def looked(runner: Runner, clock: HandClock) -> None:
    """One look around of a runner, and all that follows from it."""
    sweep: Any = runner._engine._sweep
    clock.advance(runner._engine.settings.poll_interval)
    await until(lambda: sweep._task is None, "the end of the look")
    await runner._engine.means.writer.run(lambda store: None)
    await turn()
    await runner._engine.means.writer.run(lambda store: None)
    await turn()


async def test_two_idle_runners_do_not_keep_each_other_awake(tmp_path: Path) -> None:
    clocks = HandClock(), HandClock()
    async with (
        runner_on(tmp_path / "db", echo(), clock=clocks[0]) as one,
        runner_on(tmp_path / "db", echo(), clock=clocks[1]) as other,
    ):
        await one.execute("echo")
        stores = interfere(one), interfere(other)
        for _ in range(10):
            await looked(one, clocks[0])
            await looked(other, clocks[1])
        assert len(stores[0].groups) + len(stores[1].groups) <= 4


async def test_nothing_is_remembered_of_runners_that_are_gone(tmp_path: Path) -> None:
    clock = HandClock()
    async with runner_on(tmp_path / "db", echo(), clock=clock) as one:
        for _ in range(3):
            async with runner_on(tmp_path / "db", echo()):
                await looked(one, clock)
        await looked(one, clock)
        recovery: Any = one._engine._recovery
        assert not recovery._observer._seen


def test_tasks_with_the_same_ancestors_share_one_view() -> None:
    def write(ctx: Context) -> None: ...

    first = [task(write, id=f"a{n}") for n in range(3)]
    second = [task(write, id=f"b{n}", dependencies=first) for n in range(3)]
    state = ExecutionState(Workflow("layers", [*first, *second]), DEFAULT_LIMITS)
    found = state.begin()
    for index in found.ready[:]:
        state.start(index)
        state.end(index, TaskState.COMPLETED, found, {"set": {f"k{index}": index}})
    views = [state.view(index) for index in range(3, 6)]
    assert views[0] == {"k0": 0, "k1": 1, "k2": 2}
    assert views[1] is views[0] and views[2] is views[0]
