"""The window: how many executions a runner holds, and that what waits outside costs no memory."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from cloacina.model.context.context import Context
from cloacina.model.retry import RetryPolicy
from cloacina.model.status import ExecutionStatus
from cloacina.model.task import task
from cloacina.model.workflow import Workflow
from cloacina.runner import Runner
from support.clock import HandClock, turn, until
from support.runners import Gate, in_memory, runner_on

COMPLETED = ExecutionStatus.COMPLETED


def one(body: Any, name: str = "one", **options: Any) -> Workflow:
    return Workflow(name, [task(body, id="it", **options)])


def held(runner: Runner) -> int:
    return len(runner._engine.life.drivers)


async def fails_once(ctx: Context) -> None:
    if ctx["n"] not in FAILED:
        FAILED.add(ctx["n"])
        raise ValueError("once")


FAILED: set[int] = set()
WAITS = RetryPolicy(initial_delay=50, max_delay=50, jitter=0)


@pytest.mark.parametrize("database", ["memory", "file"])
async def test_what_is_over_the_window_is_stored_and_claimed_later(database: str, tmp_path: Path) -> None:
    gate, most = Gate(), 0
    url = "sqlite://:memory:" if database == "memory" else tmp_path / "c.db"
    async with runner_on(url, window=5) as runner:
        handles = [await runner.submit(one(gate.pass_through)) for _ in range(40)]
        await gate.reached(5)
        await turn()
        infos = await runner.list()
        assert sorted(info.owner or "" for info in infos) == [*[""] * 35, *[runner.id] * 5]
        assert held(runner) == 5
        gate.open()
        for handle in handles:
            most = max(most, held(runner))
            assert (await handle.result()).status is COMPLETED
    assert (gate.entered, most <= 5) == (40, True)


async def test_the_window_holds_at_every_moment() -> None:
    most = 0

    async def watch(ctx: Context) -> None:
        nonlocal most
        most = max(most, held(runner))
        await asyncio.sleep(0)

    async with in_memory(window=7) as runner:
        handles = await runner.submit_many(one(watch), [None] * 200)
        for handle in handles:
            await handle.result()
    assert 1 <= most <= 7


async def test_a_hundred_thousand_waiting_executions_are_not_in_memory() -> None:
    gate = Gate()
    async with in_memory(window=10) as runner:
        await runner.register(one(gate.pass_through))
        for _ in range(10):
            await runner.submit_many("one", [None] * 10_000)
        await gate.reached(10)
        await turn()
        assert held(runner) == 10
        assert gate.entered == 10
        await runner.shutdown(0)


async def test_waiting_executions_do_not_fill_the_window() -> None:
    clock, gate = HandClock(), Gate()
    gate.open()
    FAILED.clear()
    async with in_memory(clock=clock, window=2) as runner:
        workflow = one(fails_once, retry=WAITS)
        handles = [await runner.submit(workflow, {"n": n}) for n in range(20)]
        await until(lambda: len(FAILED) == 20)
        assert (await runner.execute(one(gate.pass_through, "other"))).status is COMPLETED
        clock.advance(50)
        results = [await handle.result() for handle in handles]
    assert {(result.status, result.tasks["it"].attempts) for result in results} == {(COMPLETED, 2)}


@pytest.mark.parametrize("database", ["memory", "file"])
@pytest.mark.parametrize("max_waiting", [0, 3])
async def test_what_waits_beyond_the_bound_is_stored_away_until_it_is_due(
    database: str, max_waiting: int, tmp_path: Path
) -> None:
    clock = HandClock()
    FAILED.clear()
    url = "sqlite://:memory:" if database == "memory" else tmp_path / "c.db"
    async with runner_on(url, clock=clock, max_waiting=max_waiting) as runner:
        workflow = one(fails_once, retry=WAITS)
        handles = [await runner.submit(workflow, {"n": n}) for n in range(20)]
        await until(lambda: len(FAILED) == 20 and held(runner) == max_waiting)
        stored = [await runner._engine.access.stored(handle.id) for handle in handles]
        away = [row for row in stored if row is not None and row.owner is None]
        assert len(away) == 20 - max_waiting
        assert {row.wake_at for row in away} == {clock.now() + 50_000_000}
        clock.advance(49.9)
        await turn()
        assert held(runner) == max_waiting
        clock.advance(0.1)
        results = [await handle.result(timeout=20) for handle in handles]
    assert {(result.status, result.tasks["it"].attempts) for result in results} == {(COMPLETED, 2)}


async def test_the_next_of_several_that_sleep_is_woken_in_its_turn() -> None:
    clock = HandClock()
    FAILED.clear()
    async with in_memory(clock=clock, max_waiting=0) as runner:
        handles = []
        for n in range(5):
            handles.append(await runner.submit(one(fails_once, retry=WAITS), {"n": n}))
            await until(lambda: held(runner) == 0 and len(FAILED) == len(handles))
            clock.advance(7)
        for handle in handles:
            await until(lambda: clock.pending)
            clock.advance(clock.pending[0])
            assert (await handle.result(timeout=20)).status is COMPLETED


async def test_what_sleeps_is_woken_by_the_next_runner_too(tmp_path: Path) -> None:
    clock = HandClock()
    FAILED.clear()
    workflow = one(fails_once, retry=WAITS)
    async with runner_on(tmp_path / "c.db", clock=clock, max_waiting=0) as runner:
        handle = await runner.submit(workflow, {"n": 0})
        await until(lambda: 50 in clock.pending and held(runner) == 0)
    async with runner_on(tmp_path / "c.db", workflow, clock=clock) as runner:
        await until(lambda: 50 in clock.pending)
        assert held(runner) == 0
        clock.advance(50)
        assert (await handle_of(runner, handle.id)).status is COMPLETED


async def test_what_sleeps_is_woken_though_its_workflow_was_registered_late(tmp_path: Path) -> None:
    clock, other = HandClock(), one(fails_once, name="other")
    FAILED.clear()
    workflow = one(fails_once, retry=WAITS)
    async with runner_on(tmp_path / "c.db", clock=clock, max_waiting=0) as runner:
        handle = await runner.submit(workflow, {"n": 0})
        await until(lambda: 50 in clock.pending and held(runner) == 0)
    async with runner_on(tmp_path / "c.db", other, clock=clock) as runner:
        claims = runner._engine.life.claims
        await until(lambda: not claims.unowned_work and not claims._sleepers)
        await runner.list()  # after the question that was asked of the same reader
        await runner._engine.register(workflow)
        await until(lambda: 50 in clock.pending)
        clock.advance(50)
        assert (await handle_of(runner, handle.id)).status is COMPLETED


async def handle_of(runner: Runner, id: str) -> Any:
    return await runner.result(id, timeout=20)


async def test_a_full_window_is_not_asked_again_and_again_what_sleeps() -> None:
    """An execution that is due while there is no room waits for room, and nothing spins meanwhile."""
    clock, gate = HandClock(), Gate()
    FAILED.clear()
    async with in_memory(clock=clock, max_waiting=0, window=1) as runner:
        sleeping = await runner.submit(one(fails_once, retry=WAITS), {"n": 0})
        await until(lambda: clock.pending == [50] and held(runner) == 0)
        busy = await runner.submit(one(gate.pass_through, "busy"))
        await gate.reached()
        clock.advance(50)
        await turn()
        assert 0 not in clock.pending
        gate.open()
        assert (await busy.result()).status is COMPLETED
        assert (await sleeping.result(timeout=20)).status is COMPLETED


async def test_a_stored_deadline_wakes_an_execution_that_sleeps() -> None:
    clock = HandClock()
    FAILED.clear()
    workflow = Workflow("limited", [task(fails_once, id="it", retry=WAITS)], timeout=20)
    async with in_memory(clock=clock, max_waiting=0) as runner:
        handle = await runner.submit(workflow, {"n": 0})
        await until(lambda: clock.pending == [20] and held(runner) == 0)
        clock.advance(20)
        result = await handle.result(timeout=20)
    assert result.error is not None and "timeout of 20" in result.error


async def test_what_sleeps_for_another_runner_is_looked_at_once_a_second(tmp_path: Path) -> None:
    """It is due, and the runner that offers it has no room: this one neither takes it nor spins."""
    clock, gate = HandClock(), Gate()
    FAILED.clear()
    mine, theirs = one(fails_once, "mine", retry=WAITS), one(fails_once, "theirs", retry=WAITS)
    path = tmp_path / "c.db"
    async with (
        runner_on(path, theirs, max_waiting=0, window=1, clock=clock) as other,
        runner_on(path, mine, max_waiting=0, clock=clock, poll_interval=1000.0) as runner,
    ):
        stays = await other.submit(theirs, {"n": 1})
        await until(lambda: 1 in FAILED and held(other) == 0)
        await other.submit(one(gate.pass_through, "busy"))
        await gate.reached()
        goes = await runner.submit(mine, {"n": 2})
        await until(lambda: 2 in FAILED and held(runner) == 0)
        clock.advance(50)
        assert (await goes.result(timeout=20)).status is COMPLETED
        assert 0 not in clock.pending
        assert (await stays.status()) is ExecutionStatus.RUNNING
        gate.open()
        assert (await stays.result(timeout=20)).status is COMPLETED
