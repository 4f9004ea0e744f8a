"""Cancelling an execution in every state, and against everything else that may happen to it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from cloacina.engine.executors.threads import BodyThreads
from cloacina.model.context.context import Context
from cloacina.model.retry import RetryPolicy
from cloacina.model.status import AttemptState, ExecutionStatus, Reason, RunnerState, TaskState
from cloacina.model.task import task
from cloacina.model.workflow import Workflow
from cloacina.runner import Runner
from cloacina.store.rows import RunnerRow
from support.clock import HandClock, turn, until
from support.runners import Gate, in_memory, lose, runner_on, through
from support.stores import interfere

CANCELLED, COMPLETED, RUNNING = ExecutionStatus.CANCELLED, ExecutionStatus.COMPLETED, ExecutionStatus.RUNNING
LONG_WAIT = RetryPolicy(initial_delay=100, max_delay=100, jitter=0)


def steps(gate: Gate, name: str = "steps", kind: str = "async") -> Workflow:
    workflow = Workflow(name)

    @workflow.task
    async def first(ctx: Context) -> None:
        ctx["first"] = True

    body = gate.pass_through if kind == "async" else gate.pass_on_thread
    workflow.task(body, id="second", dependencies=["first"])
    workflow.task(body, id="third", dependencies=["second"])
    return workflow


def failing(name: str = "failing") -> Workflow:
    workflow = Workflow(name)

    @workflow.task(retry=LONG_WAIT)
    async def it(ctx: Context) -> None:
        raise ValueError("once")

    workflow.task(it.fn, id="after", dependencies=[it])
    return workflow


@pytest.mark.parametrize("kind", ["async", "def"])
async def test_a_running_execution(kind: str) -> None:
    gate = Gate()
    async with in_memory() as runner:
        handle = await runner.submit(steps(gate, kind=kind), {"a": 1})
        await gate.reached()
        assert await handle.cancel() is CANCELLED
        result = await handle.result()
        gate.open()
        if kind == "def":
            await until(lambda: gate.left)
        await turn()
        assert await runner.get(handle.id) == result
    assert (result.status, result.error) == (CANCELLED, None)
    assert result.context == {"a": 1, "first": True}
    assert {task.id: (task.state, task.reason) for task in result.tasks.values()} == {
        "first": (TaskState.COMPLETED, None),
        "second": (TaskState.CANCELLED, Reason.CANCELLED),
        "third": (TaskState.SKIPPED, Reason.CANCELLED),
    }
    assert result.tasks["second"].history[0].state is AttemptState.CANCELLED
    assert gate.left == (kind == "def")


async def test_an_async_body_is_told_after_the_commit() -> None:
    seen = list[ExecutionStatus]()
    entered = asyncio.Event()
    workflow = Workflow("told")

    @workflow.task
    async def it(ctx: Context) -> None:
        entered.set()
        try:
            await asyncio.Event().wait()
        finally:
            seen.append(await runner.status(handle.id))

    async with in_memory() as runner:
        handle = await runner.submit(workflow)
        await entered.wait()
        await handle.cancel()
        await until(lambda: seen)
    assert seen == [CANCELLED]


async def test_what_a_body_does_with_its_cancellation_changes_nothing() -> None:
    entered, left = asyncio.Event(), asyncio.Event()
    workflow = Workflow("stubborn")

    @workflow.task
    async def it(ctx: Context) -> None:
        entered.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ctx["late"] = True
            left.set()

    async with in_memory() as runner:
        handle = await runner.submit(workflow)
        await entered.wait()
        await handle.cancel()
        await left.wait()
        result = await handle.result()
    assert (result.status, result.context.to_dict()) == (CANCELLED, {})


async def test_an_execution_that_waits_for_a_retry() -> None:
    clock = HandClock()
    async with in_memory(clock=clock) as runner:
        handle = await runner.submit(failing())
        await until(lambda: clock.pending)
        assert await handle.cancel() is CANCELLED
        assert clock.pending == []
        result = await handle.result()
    history = result.tasks["it"].history
    assert [(attempt.number, attempt.state, attempt.started is None) for attempt in history] == [
        (1, AttemptState.FAILED, False),
        (2, AttemptState.CANCELLED, True),
    ]


async def test_a_task_that_is_queued_for_a_slot() -> None:
    blocker, gate = Gate(), Gate()
    async with in_memory(async_slots=1) as runner:
        await runner.submit(Workflow("blocker", [task(blocker.pass_through, id="it")]))
        await blocker.reached()
        handle = await runner.submit(Workflow("queued", [task(gate.pass_through, id="it")]))
        assert await handle.cancel() is CANCELLED
        blocker.open()
        gate.open()
        assert (await runner.execute("blocker")).status is COMPLETED
        result = await handle.result()
    assert (gate.entered, result.tasks["it"].state, result.started) == (0, TaskState.SKIPPED, None)


@pytest.mark.parametrize("database", ["memory", "file"])
async def test_an_execution_without_owner(database: str, tmp_path: Path) -> None:
    gate = Gate()
    url = "sqlite://:memory:" if database == "memory" else tmp_path / "c.db"
    async with runner_on(url, window=1) as runner:
        await runner.submit(steps(gate))
        await gate.reached()
        handle = await runner.submit("steps")
        waiting = asyncio.ensure_future(handle.result())
        await turn()
        assert await handle.cancel() is CANCELLED
        result = await waiting
        gate.open()
        assert await runner.get(handle.id) == result
    assert {(task.state, task.reason) for task in result.tasks.values()} == {
        (TaskState.SKIPPED, Reason.CANCELLED)
    }


async def test_an_execution_that_was_stored_away() -> None:
    clock = HandClock()
    async with in_memory(clock=clock, max_waiting=0) as runner:
        handle = await runner.submit(failing())
        await until(lambda: clock.pending == [100] and not runner._engine.life.drivers)
        assert await handle.cancel() is CANCELLED
        clock.advance(1000)
        await turn()
        result = await handle.result()
    assert [attempt.state for attempt in result.tasks["it"].history] == [
        AttemptState.FAILED,
        AttemptState.CANCELLED,
    ]


async def test_a_finished_execution_stays_as_it_is() -> None:
    async with in_memory() as runner:
        gate = Gate()
        gate.open()
        handle = await runner.submit(steps(gate))
        result = await handle.result()
        assert await handle.cancel() is COMPLETED
        assert await handle.result() == result
        cancelled = await runner.submit(steps(Gate(), "other"))
        assert [await cancelled.cancel() for _ in range(3)] == [CANCELLED] * 3


async def test_many_cancels_at_once_agree() -> None:
    gate = Gate()
    async with in_memory() as runner:
        handle = await runner.submit(steps(gate))
        await gate.reached()
        answers = await asyncio.gather(*(handle.cancel() for _ in range(20)))
    assert answers == [CANCELLED] * 20


async def cancel_while_held(runner: Runner, gate: Gate, open_first: bool) -> ExecutionStatus:
    """Cancel while the group in flight is held up; with ``open_first``, the body ends before that."""
    handle = await runner.submit(steps(gate))
    await gate.reached()
    hold = interfere(runner).hold("commit")
    if open_first:
        gate.open()
        await hold.reached()
        cancelling = asyncio.ensure_future(handle.cancel())
    else:
        cancelling = asyncio.ensure_future(handle.cancel())
        await hold.reached()
        gate.open()
    await turn()
    hold.release()
    return await cancelling


async def test_a_cancel_beats_a_completion_that_comes_after_it() -> None:
    gate = Gate()
    async with in_memory() as runner:
        assert await cancel_while_held(runner, gate, open_first=False) is CANCELLED
        assert gate.entered == 1


async def test_nothing_starts_after_a_cancel() -> None:
    gate = Gate()
    async with in_memory() as runner:
        assert await cancel_while_held(runner, gate, open_first=True) is CANCELLED
        (info,) = await runner.list()
        result = await runner.get(info.id)
    assert gate.entered == 1
    assert result.tasks["second"].state is TaskState.COMPLETED
    assert result.tasks["third"].state is TaskState.CANCELLED


async def test_a_cancel_while_the_end_is_being_stored_changes_nothing() -> None:
    gate = Gate()
    async with in_memory() as runner:
        handle = await runner.submit(Workflow("one", [task(gate.pass_through, id="it")]))
        await gate.reached()
        hold = interfere(runner).hold("commit")
        gate.open()
        await hold.reached()
        cancelling = asyncio.ensure_future(handle.cancel())
        await turn()
        hold.release()
        assert await cancelling is COMPLETED
        assert (await handle.result()).status is COMPLETED


async def test_a_cancel_while_the_execution_is_being_stored_away() -> None:
    clock, gate = HandClock(), Gate()
    workflow = Workflow("failing")

    @workflow.task(retry=LONG_WAIT)
    async def it(ctx: Context) -> None:
        await gate.pass_through(ctx)
        raise ValueError

    async with in_memory(clock=clock, max_waiting=0) as runner:
        handle = await runner.submit(workflow)
        await gate.reached()
        hold = interfere(runner).hold("commit")
        gate.open()
        await hold.reached()
        cancelling = asyncio.ensure_future(handle.cancel())
        await turn()
        hold.release()
        assert await asyncio.wait_for(cancelling, 20) is CANCELLED
        assert gate.entered == 1


async def test_a_cancel_is_not_forgotten_when_the_runner_starts_anew(tmp_path: Path) -> None:
    gate = Gate()
    async with runner_on(tmp_path / "c.db") as runner:
        handle = await runner.submit(steps(gate))
        await gate.reached()
        id = runner.id
        hold = interfere(runner).hold("commit")
        cancelling = asyncio.ensure_future(handle.cancel())
        await hold.reached()
        burying = asyncio.ensure_future(through(runner, lambda s: s.recover(id, Reason.LOST_LEASE, 1)))
        hold.release()
        lose(runner)
        assert await asyncio.wait_for(cancelling, 20) is CANCELLED
        await burying
        assert runner.id != id


@pytest.mark.parametrize("seed", range(5))
async def test_races_end_either_way_and_only_once(seed: int) -> None:
    random, started, late = Random(seed), dict[str, list[str]](), list[str]()
    workflow = Workflow("race")

    async def body(ctx: Context) -> None:
        for _ in range(random.randrange(4)):
            await asyncio.sleep(0)
        id = ctx["id"]
        if id in late:
            raise AssertionError("started after the cancel was acknowledged")
        started.setdefault(id, []).append("x")

    for name, after in {"a": [], "b": ["a"], "c": ["a"], "d": ["b", "c"]}.items():
        workflow.task(body, id=name, dependencies=after)

    async def one(n: int) -> ExecutionStatus:
        handle = await runner.submit(workflow, {"id": f"{n}"})
        for _ in range(random.randrange(30)):
            await asyncio.sleep(0)
        ended = await handle.cancel()
        if ended is CANCELLED:
            late.append(f"{n}")
        assert (await handle.result()).status is ended
        return ended

    async with in_memory(async_slots=8) as runner:
        ends = await asyncio.gather(*(one(n) for n in range(100)))
        await turn(50)
        infos = await runner.list(limit=1000)
        assert {info.status for info in infos} <= {CANCELLED, COMPLETED}
        assert sum(info.status is CANCELLED for info in infos) == ends.count(CANCELLED)
        assert {task.error for info in infos for task in (await runner.get(info.id)).tasks.values()} == {None}


async def test_an_execution_whose_owner_is_gone_is_not_cancelled_behind_its_back(tmp_path: Path) -> None:
    """An alive row without a lease file belongs to a dead runner, which the next start finds."""
    workflow = steps(Gate())
    async with runner_on(tmp_path / "c.db", workflow, window=1) as runner:
        row = RunnerRow("ghost", "host", 1, 1, RunnerState.ALIVE, 0)
        await through(runner, lambda store: store.register_runner(row))
        handle = await runner.submit(workflow)
        assert await handle.cancel() is CANCELLED


async def test_a_body_that_was_cancelled_before_its_thread_came_to_it_does_not_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    works: list[Callable[[], None]] = []
    monkeypatch.setattr(BodyThreads, "start", lambda self, work: works.append(work))
    started: list[str] = []

    def body(ctx: Context) -> None:
        started.append("it")

    async with in_memory() as runner:
        handle = await runner.submit(Workflow("late", [task(body, id="it")]))
        await until(lambda: works, "the body's turn")
        assert await handle.cancel() is CANCELLED
        works[0]()
        await turn()
    assert started == []
