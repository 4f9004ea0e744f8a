"""Retention: old executions go by themselves, in small batches, and whatever lives stays."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cloacina.engine.upkeep import retention
from cloacina.errors import PermanentError, StoreBusy, StoreError
from cloacina.model import ids
from cloacina.model.context.context import Context
from cloacina.model.status import ExecutionStatus
from cloacina.model.workflow import Workflow
from cloacina.runner import Runner
from support.clock import HandClock, turn, until
from support.runners import Gate, in_memory, runner_on
from support.stores import Call, interfere

DAY = 86_400.0
HOUR = 3_600.0
KEEP: dict[str, Any] = {"keep_completed_days": 30.0, "keep_failed_days": 90.0}


@pytest.fixture(autouse=True)
def fresh_ids(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Ids follow the hand-driven clocks here, and not what other tests have made; rests take no time."""
    monkeypatch.setattr(retention, "LEAST_REST", 0.0)
    ids._forget()
    yield
    ids._forget()


def workflow(gate: Gate | None = None) -> Workflow:
    workflow = Workflow("work")

    @workflow.task(retry=1)
    async def it(ctx: Context) -> None:
        if ctx.get("fails"):
            raise PermanentError("as it was told to")
        if gate is not None and ctx.get("waits"):
            await gate.pass_through(ctx)

    return workflow


def long_ago(days: float) -> HandClock:
    clock = HandClock()
    clock._start = clock._now = clock._now - round(days * DAY * 1e6)
    return clock


async def swept(runner: Runner) -> None:
    """Wait for the end of a sweep that was begun."""
    service: Any = runner._engine.upkeep.retention._service
    await until(lambda: service._task is None, "the end of the sweep")


async def later(runner: Runner, clock: HandClock, days: float) -> list[str]:
    """Let so much time pass; return what is still there."""
    clock.advance(days * DAY)
    await swept(runner)
    return sorted(info.id for info in await runner.list())


async def test_each_outcome_has_its_age_and_what_lives_has_none() -> None:
    clock, gate = HandClock(), Gate()
    async with in_memory(workflow(gate), clock=clock, **KEEP) as runner:
        completed = await runner.execute("work", key="k")
        failed = await runner.execute("work", {"fails": True})
        running = await runner.submit("work", {"waits": True})
        cancelled = await runner.submit("work", {"waits": True})
        await gate.reached(2)
        await cancelled.cancel()
        paused = await runner.submit("work", {"waits": True})
        await gate.reached(3)
        await paused.pause()
        everything = sorted((completed.id, failed.id, running.id, cancelled.id, paused.id))
        assert await later(runner, clock, 29) == everything
        assert await later(runner, clock, 2) == sorted({*everything} - {completed.id})
        assert (await runner.submit("work", key="k")).id != completed.id
        assert {*everything} - {completed.id} <= {*await later(runner, clock, 58)}
        kept = await later(runner, clock, 3)
        assert {running.id, paused.id} <= {*kept} and not {failed.id, cancelled.id} & {*kept}
        assert await running.status() is ExecutionStatus.RUNNING
        assert sorted((running.id, paused.id)) == await later(runner, clock, 1000)
        gate.open()
        assert (await running.result()).status is ExecutionStatus.COMPLETED


async def test_age_counts_from_the_end() -> None:
    clock, gate = HandClock(), Gate()
    async with in_memory(workflow(gate), clock=clock, **KEEP) as runner:
        handle = await runner.submit("work", {"waits": True})
        await gate.reached()
        clock.advance(100 * DAY)
        gate.open()
        await handle.result()
        assert await later(runner, clock, 29) == [handle.id]
        assert await later(runner, clock, 2) == []


async def test_for_ever_is_for_ever_and_sets_no_timer() -> None:
    clock = HandClock()
    async with in_memory(workflow(), clock=clock, keep_completed_days=0, keep_failed_days=0) as runner:
        await runner.execute("work")
        assert clock.pending == []
        clock.advance(10_000 * DAY)
        assert await runner.prune() == 0
        assert len(await runner.list()) == 1


async def test_only_failures_are_kept_for_ever() -> None:
    clock = HandClock()
    async with in_memory(workflow(), clock=clock, keep_completed_days=1, keep_failed_days=0) as runner:
        await runner.execute("work")
        failed = await runner.execute("work", {"fails": True})
        assert await later(runner, clock, 10_000) == [failed.id]


async def test_a_runner_that_lives_a_moment_takes_its_part(tmp_path: Path) -> None:
    async with runner_on(tmp_path / "db", workflow(), clock=long_ago(40)) as runner:
        for _ in range(3):
            await runner.execute("work")
    async with runner_on(tmp_path / "db", workflow(), clock=HandClock(), **KEEP) as runner:
        await swept(runner)
        assert await runner.list() == []


async def test_rows_of_runners_go_when_nothing_names_them_any_more(tmp_path: Path) -> None:
    for days in (100, 80):
        async with runner_on(tmp_path / "db", workflow(), clock=long_ago(days)) as runner:
            await runner.execute("work", {"fails": True})
    async with runner_on(tmp_path / "db", workflow(), clock=HandClock(), **KEEP) as runner:
        await swept(runner)
        left = await runner._engine.means.writer.run(
            lambda store: store._connection.value("SELECT count(*) FROM runners")  # type: ignore[attr-defined]
        )
        assert (left, len(await runner.list())) == (2, 1)


async def test_batches_are_small_and_rests_lie_between_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "BATCH_ROWS", 4)
    clock = HandClock()
    async with in_memory(workflow(), clock=clock, **KEEP) as runner:
        for _ in range(7):
            await runner.execute("work")
        clock.advance(29 * DAY)
        await swept(runner)
        store = interfere(runner)
        sizes: list[int] = []

        def count(call: Call) -> Any:
            removed = call()
            sizes.append(len(removed))
            clock.advance(0.5)  # so long does it take
            return removed

        store.plan("prune", *[count] * 10)
        clock.advance(2 * DAY)
        for number, rest in enumerate([retention.REST * 0.5] * 3, 1):
            await until(lambda number=number: len(sizes) == number)  # type: ignore[misc]
            await until(lambda rest=rest: rest in clock.pending)  # type: ignore[misc]
            clock.advance(rest - 0.01)
            await turn()
            assert len(sizes) == number
            clock.advance(0.01)
        await swept(runner)
        assert sizes == [2, 2, 2, 1]


async def test_a_shutdown_does_not_wait_for_a_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "BATCH_ROWS", 2)
    monkeypatch.setattr(retention, "LEAST_REST", 7.0)
    clock = HandClock()
    async with in_memory(workflow(), clock=clock, **KEEP) as runner:
        for _ in range(3):
            await runner.execute("work")
        clock.advance(40 * DAY)
        await until(lambda: 7.0 in clock.pending)


@pytest.mark.parametrize("look", [1, 2, 1000])
async def test_by_hand_it_tells_how_many_went(monkeypatch: pytest.MonkeyPatch, look: int) -> None:
    monkeypatch.setattr(retention, "LOOK_ROWS", look)
    clock = HandClock()
    async with in_memory(workflow(), clock=clock, prune_interval=1e9, **KEEP) as runner:
        for number in range(5):
            await runner.execute("work", {"fails": number == 2})
        assert await runner.prune() == 0
        clock.advance(31 * DAY)
        assert await runner.prune() == 4
        clock.advance(60 * DAY)
        assert [await runner.prune(), await runner.prune()] == [1, 0]
        assert await runner.list() == []


async def test_what_was_passed_while_it_lived_is_looked_at_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sweep goes on where the last one ended, and begins at the front again once in a while."""
    monkeypatch.setattr(retention, "LOOK_ROWS", 1)
    monkeypatch.setattr(retention, "FROM_THE_FRONT", 3)
    clock, gate = HandClock(), Gate()
    async with in_memory(workflow(gate), clock=clock, **KEEP) as runner:
        handle = await runner.submit("work", {"waits": True})
        await gate.reached()
        await swept(runner)
        runner._engine.upkeep.retention._sweeps = 0  # there was one at the start if others may have been here
        assert await later(runner, clock, 40) == [handle.id]
        gate.open()
        await handle.result()
        assert await later(runner, clock, 40) == [handle.id], "not looked at"
        assert await later(runner, clock, 0.1) == [handle.id], "not looked at"
        assert await later(runner, clock, 0.1) == []


async def test_a_database_that_fails_is_tried_again_at_the_next_sweep(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """And not at once, on the writer's thread, where commits would wait for it."""
    clock = HandClock()
    async with in_memory(workflow(), clock=clock, **KEEP) as runner:
        await runner.execute("work")
        store = interfere(runner)

        def fail(call: Call) -> Any:
            raise StoreBusy("it is locked, says the test")

        store.plan("prune", fail, fail)
        assert len(await later(runner, clock, 31)) == 1
        assert "put off: it is locked" in caplog.text
        with pytest.raises(StoreError, match="it is locked"):
            await runner.prune()
        assert await later(runner, clock, 1) == []


async def test_two_at_once_remove_everything_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "BATCH_ROWS", 4)
    async with runner_on(tmp_path / "db", workflow(), clock=long_ago(40)) as runner:
        for _ in range(20):
            await runner.execute("work")
    quiet: dict[str, Any] = {"keep_completed_days": 1.0, "prune_interval": 1e9}
    monkeypatch.setattr(retention.Retention, "start", lambda self, at_once: None)
    async with (
        runner_on(tmp_path / "db", workflow(), clock=HandClock(), **quiet) as one,
        runner_on(tmp_path / "db", workflow(), clock=HandClock(), **quiet) as other,
    ):
        removed = await asyncio.gather(one.prune(), other.prune())
        assert sum(removed) == 20
        assert await one.list() == []
