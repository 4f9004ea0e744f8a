"""The fence: a runner that was declared dead writes nothing more, starts anew, and nobody waits in vain."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from cloacina.errors import StoreCorrupt
from cloacina.model.context.context import Context
from cloacina.model.retry import RetryPolicy
from cloacina.model.status import AttemptState, ExecutionStatus, Reason, TaskState
from cloacina.model.task import task
from cloacina.model.workflow import Workflow
from cloacina.runner import Runner
from support.clock import HandClock, turn, until
from support.runners import Gate, in_memory, lose, outside, runner_on, through
from support.stores import fails, interfere

COMPLETED, RUNNING = ExecutionStatus.COMPLETED, ExecutionStatus.RUNNING


class Lives:
    """Bodies whose n-th start holds until its gate opens; later ones pass."""

    def __init__(self, holds: int = 1) -> None:
        self.starts = 0
        self.ends = 0
        self.gates = [Gate() for _ in range(holds)]

    async def body(self, ctx: Context) -> None:
        self.starts += 1
        mine = self.starts
        if mine <= len(self.gates):
            await self.gates[mine - 1].pass_through(ctx)
        ctx["life"] = mine
        self.ends += 1

    def on_thread(self, ctx: Context) -> None:
        self.starts += 1
        mine = self.starts
        if mine <= len(self.gates):
            self.gates[mine - 1].pass_on_thread(ctx)
        ctx["life"] = mine
        self.ends += 1


def one(body: Any, name: str = "one", **options: Any) -> Workflow:
    return Workflow(name, [task(body, id="it", **options)])


async def declare_dead(runner: Runner, path: Path | None, reason: Reason = Reason.LOST_LEASE) -> str:
    """Let another process bury a runner; return its id."""
    id = runner.id
    if path is None:
        await through(runner, lambda store: store.recover(id, reason, 1))
    else:
        outside(path, lambda store: store.recover(id, reason, 1))
    return id


@pytest.mark.parametrize("database", ["memory", "file"])
@pytest.mark.parametrize("kind", ["async", "def"])
async def test_a_result_that_comes_after_death_is_refused(database: str, kind: str, tmp_path: Path) -> None:
    lives = Lives()
    path = None if database == "memory" else tmp_path / "c.db"
    async with runner_on(path or "sqlite://:memory:") as runner:
        handle = await runner.submit(one(lives.body if kind == "async" else lives.on_thread))
        await lives.gates[0].reached()
        dead = await declare_dead(runner, path)
        lives.gates[0].open()
        result = await handle.result(timeout=20)
        assert runner.id != dead
    assert (result.status, result.context["life"]) == (COMPLETED, 2)
    assert [(attempt.number, attempt.state, attempt.reason) for attempt in result.tasks["it"].history] == [
        (1, AttemptState.INTERRUPTED, Reason.LOST_LEASE),
        (2, AttemptState.COMPLETED, None),
    ]


async def test_a_failure_that_comes_after_death_counts_for_nothing(tmp_path: Path) -> None:
    lives, clock = Lives(), HandClock()

    async def fails_at_first(ctx: Context) -> None:
        await lives.body(ctx)
        if ctx["life"] == 1:
            raise ValueError("of a zombie")

    async with runner_on(tmp_path / "c.db", clock=clock) as runner:
        handle = await runner.submit(one(fails_at_first, retry=RetryPolicy(max_attempts=1)))
        await lives.gates[0].reached()
        await declare_dead(runner, tmp_path / "c.db")
        lives.gates[0].open()
        result = await handle.result(timeout=20)
    assert (result.status, result.tasks["it"].attempts, lives.starts) == (COMPLETED, 2, 2)
    assert result.tasks["it"].error is None


async def test_a_zombie_of_the_same_process_does_not_settle_the_attempt_of_its_successor() -> None:
    """The first body goes on while the second one runs: each speaks for its own attempt only."""
    lives = Lives(holds=2)
    async with in_memory() as runner:
        handle = await runner.submit(one(lives.on_thread))
        await lives.gates[0].reached()
        await declare_dead(runner, None)
        lose(runner, "the test says so")
        await lives.gates[1].reached()
        lives.gates[0].open()
        await until(lambda: lives.ends == 1)
        await turn(50)
        assert await handle.status() is RUNNING
        lives.gates[1].open()
        result = await handle.result(timeout=20)
    assert result.context["life"] == 2


@pytest.mark.parametrize("how", ["timeout", "cancel"])
async def test_nothing_that_a_zombie_decides_takes_effect(how: str) -> None:
    lives, clock = Lives(), HandClock()
    workflow = Workflow("limited", [task(lives.body, id="it")], timeout=60)
    async with in_memory(clock=clock) as runner:
        handle = await runner.submit(workflow)
        await lives.gates[0].reached()
        dead = await declare_dead(runner, None)
        if how == "cancel":
            assert await handle.cancel() is ExecutionStatus.CANCELLED
        else:
            clock.advance(60)
        result = await handle.result(timeout=20)
        await until(lambda: runner.id != dead)
        assert await runner.get(handle.id) == result
    assert result.status is (ExecutionStatus.CANCELLED if how == "cancel" else ExecutionStatus.FAILED)
    assert result.tasks["it"].history[0].state is AttemptState.INTERRUPTED


async def test_everything_in_the_process_goes_on_under_the_new_id(tmp_path: Path, backend: str) -> None:
    clock, lives, waits = HandClock(), Lives(), list[int]()

    async def waits_once(ctx: Context) -> None:
        waits.append(1)
        if len(waits) == 1:
            raise ValueError

    again = RetryPolicy(initial_delay=50, max_delay=50, jitter=0)
    async with runner_on(tmp_path / "c.db", clock=clock, async_slots=1) as runner:
        waiting = await runner.submit(one(waits_once, "waiting", retry=again))
        await until(lambda: 50 in clock.pending)
        running = await runner.submit(one(lives.body))
        await lives.gates[0].reached()
        queued = await runner.submit(one(lives.body))
        results = [asyncio.ensure_future(handle.result(timeout=20)) for handle in (waiting, running, queued)]
        dead = await declare_dead(runner, tmp_path / "c.db")
        lives.gates[0].open()
        await until(lambda: runner.id != dead)
        await until(lambda: any(wait == pytest.approx(50) for wait in clock.pending))
        assert len(waits) == 1
        clock.advance(50)
        assert {(await result).status for result in results} == {COMPLETED}
        assert (await runner.execute(one(lives.body))).status is COMPLETED
        (alive,) = await runner._engine.means.reader.run(lambda store: store.runners())
        assert alive.id == runner.id
        leases = [file.name for file in tmp_path.glob("c.db-runners/*")]
        assert leases == ([runner.id] if backend == "sqlite" else [])


async def test_a_submit_that_was_not_acknowledged_is_not_lost() -> None:
    lives = Lives(holds=0)
    async with in_memory() as runner:
        await runner.execute(one(lives.body))
        await declare_dead(runner, None)
        handles = await asyncio.gather(*(runner.submit("one", {"n": n}) for n in range(5)))
        results = [await handle.result(timeout=20) for handle in handles]
        late = await runner.execute("one", {"n": 5}, timeout=20)
        assert len(await runner.list()) == 7
    assert [result.context["n"] for result in [*results, late]] == list(range(6))


async def test_a_submit_whose_group_was_applied_before_death_is_stored_once(tmp_path: Path) -> None:
    lives, path = Lives(holds=0), tmp_path / "c.db"
    async with runner_on(path) as runner:
        await runner.execute(one(lives.body))
        hold = interfere(runner).hold("commit")
        submitting = asyncio.ensure_future(runner.submit("one", {"n": 1}))
        await hold.reached()
        lose(runner, "the test says so")
        await turn()
        hold.release()
        result = await (await submitting).result(timeout=20)
        assert len(await runner.list()) == 2
    assert result.status is COMPLETED


async def test_bodies_of_the_old_life_are_told_to_stop() -> None:
    told = asyncio.Event()
    lives = Lives()

    async def body(ctx: Context) -> None:
        try:
            await lives.body(ctx)
        except asyncio.CancelledError:
            told.set()
            raise

    async with in_memory() as runner:
        handle = await runner.submit(one(body))
        await lives.gates[0].reached()
        await declare_dead(runner, None)
        other = await runner.submit(one(lives.body, "other"))
        await asyncio.wait_for(told.wait(), 20)
        assert (await handle.result(timeout=20)).status is COMPLETED
        assert (await other.result(timeout=20)).status is COMPLETED


async def test_a_child_goes_on_and_so_does_its_parent_in_the_next_life() -> None:
    lives, runners = Lives(), list[Runner]()
    child = one(lives.body, "child")

    async def parent(ctx: Context) -> None:
        result = await runners[0].execute(child, key="child")
        ctx["child"] = result.context["life"]

    async with in_memory(async_slots=1, window=1) as runner:
        runners.append(runner)
        handle = await runner.submit(one(parent, "parent"))
        await lives.gates[0].reached()
        await declare_dead(runner, None)
        lives.gates[0].open()
        result = await handle.result(timeout=20)
    assert (result.status, result.context["child"]) == (COMPLETED, 2)


@pytest.mark.parametrize("times", [2, 5])
async def test_a_runner_may_be_declared_dead_again_and_again(times: int) -> None:
    lives, ids = Lives(holds=times), set[str]()
    async with in_memory() as runner:
        handle = await runner.submit(one(lives.body, retry=1))
        for gate in lives.gates:
            await gate.reached()
            ids.add(await declare_dead(runner, None))
            gate.open()
        result = await handle.result(timeout=20)
        ids.add(runner.id)
    assert (result.status, len(ids)) == (COMPLETED, times + 1)
    assert {attempt.reason for attempt in result.tasks["it"].history[:-1]} == {Reason.LOST_LEASE}


@pytest.mark.parametrize("method", ["register_runner", "register_versions"])
async def test_a_life_that_is_lost_while_it_begins_is_followed_by_another(method: str) -> None:
    lives = Lives()
    async with in_memory() as runner:
        handle = await runner.submit(one(lives.body))
        await lives.gates[0].reached()
        first = runner.id
        hold = interfere(runner).hold(method)
        lose(runner, "the first time")
        await hold.reached()
        second = runner.id
        outside_of(runner, second)
        hold.release()
        lives.gates[0].open()
        assert (await handle.result(timeout=20)).status is COMPLETED
        assert runner.id not in (first, second)


def outside_of(runner: Runner, id: str) -> None:
    """Bury the life ``id`` as soon as its row is there."""
    runner._engine.means.writer.call(lambda store: store.recover(id, Reason.LOST_LEASE, 1), lambda *_: None)


@pytest.mark.parametrize("method", ["recover", "register_runner", "register_versions"])
async def test_a_rebirth_that_fails_for_good_is_told_to_everybody(method: str) -> None:
    lives = Lives()
    async with in_memory() as runner:
        await runner.register(one(lives.body), one(lives.body, "late"))
        handle = await runner.submit("one")
        await lives.gates[0].reached()
        store = interfere(runner)
        waiting = asyncio.ensure_future(handle.result())
        hold = store.hold("commit")
        submitting = asyncio.ensure_future(runner.submit("late"))
        await hold.reached()
        store.plan("commit", None)
        store.plan(method, fails(StoreCorrupt("damaged meanwhile")))
        lose(runner, "the test says so")
        hold.release()
        for coming in (waiting, submitting):
            with pytest.raises(StoreCorrupt, match="damaged meanwhile"):
                await asyncio.wait_for(coming, 20)
        with pytest.raises(StoreCorrupt):
            await runner.submit("one")


async def test_an_interrupted_execution_tells_so() -> None:
    lives = Lives(holds=2)
    async with in_memory() as runner:
        handle = await runner.submit(one(lives.body))
        await lives.gates[0].reached()
        await declare_dead(runner, None)
        lose(runner, "the test says so")
        await lives.gates[1].reached()
        seen = await runner.get(handle.id)
        lives.gates[1].open()
        await handle.result(timeout=20)
    assert seen.tasks["it"].state is TaskState.RUNNING
    assert [attempt.state for attempt in seen.tasks["it"].history] == [
        AttemptState.INTERRUPTED,
        AttemptState.RUNNING,
    ]
