"""Idle runners: nothing is written where nothing happens, however many there are; nothing is kept of the gone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cloacina.engine.liveness.files.observer import FileObserver
from cloacina.model.context.context import Context
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
    engine: Any = runner._engine
    clock.advance(engine.settings.poll_interval)
    waits = [(service, "_task") for service in engine._services] + [(engine.access.bell, "_answering")]
    await until(lambda: all(getattr(of, name) is None for of, name in waits), "the end of the look")
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
        observer: Any = one._engine._presence.observer
        if isinstance(observer, FileObserver):
            assert not observer._files._seen
        else:
            assert observer._watch is None or not observer._watch.last.signs
        assert observer.alive <= {one.id}
