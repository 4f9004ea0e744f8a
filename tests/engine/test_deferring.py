"""Deferred attempts: no slot, no running clock, no crash that counts; the body goes on where it was."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import pytest

from cloacina.errors import StoreRefused
from cloacina.model.context.context import Context
from cloacina.model.context.handle import TaskHandle
from cloacina.model.retry import RetryPolicy
from cloacina.model.status import AttemptState, ExecutionStatus, Reason, TaskState
from cloacina.model.task import task
from cloacina.model.workflow import Workflow
from cloacina.runner import Runner
from cloacina.store.rows import Group
from support.clock import HandClock, turn, until
from support.runners import Gate, crashing, in_memory, lose, outside, runner_on
from support.stores import Interference, interfere

COMPLETED, FAILED, CANCELLED = ExecutionStatus.COMPLETED, ExecutionStatus.FAILED, ExecutionStatus.CANCELLED
DEFERRED, RUNNING = AttemptState.DEFERRED, AttemptState.RUNNING
AT_ONCE = RetryPolicy(max_attempts=3, initial_delay=0, jitter=0)
KINDS = pytest.mark.parametrize("kind", ["async", "def"])
EVERY = 10


class Waiting:
    """Bodies that are deferred until the test says that it holds, with looks each 10 seconds."""

    def __init__(self, kind: str, **options: Any) -> None:
        self.kind = kind
        self.holds = False
        self.looks = self.starts = self.ends = 0
        self.error: Exception | None = None
        self.raised: list[type[BaseException]] = []
        body = self.body if kind == "async" else self.on_thread
        self.workflow = Workflow("waiting", [task(body, id="it", **options)])

    def look(self) -> bool:
        self.looks += 1
        error, self.error = self.error, None
        if error is not None:
            raise error
        return self.holds

    async def look_later(self) -> bool:
        await asyncio.sleep(0)
        return self.look()

    async def body(self, ctx: Context, handle: TaskHandle) -> None:
        self.starts += 1
        ctx["before"] = self.starts
        try:
            await handle.defer_until(self.look_later, EVERY)
        except BaseException as error:
            self.raised.append(type(error))
            raise
        ctx["after"] = handle.attempt
        self.ends += 1

    def on_thread(self, ctx: Context, handle: TaskHandle) -> None:
        self.starts += 1
        ctx["before"] = self.starts
        try:
            handle.defer_until(self.look, timedelta(seconds=EVERY))
        except BaseException as error:
            self.raised.append(type(error))
            raise
        ctx["after"] = handle.attempt
        self.ends += 1


async def state_of(runner: Runner, id: str, name: str = "it") -> AttemptState | None:
    """The stored state of the last attempt of a task."""
    history = (await runner.get(id)).tasks[name].history
    return history[-1].state if history else None


async def deferred(runner: Runner, id: str, *, every: float = EVERY, many: int = 1) -> None:
    """Wait until an attempt is stored as deferred, and the next looks of so many are set."""

    async def come() -> None:
        while await state_of(runner, id) is not DEFERRED:
            await asyncio.sleep(0.001)

    await asyncio.wait_for(come(), 20)
    clock = cast(HandClock, runner._engine.clock)
    await until(lambda: clock.pending.count(every) >= many, "the next look")


def shifts(store: Interference) -> list[str]:
    """Every shift that was sent."""
    return [str(row.state) for group in store.groups for item in group.items for row in item.shifts]


@KINDS
async def test_a_deferred_attempt_holds_no_slot_and_no_clock(kind: str) -> None:
    clock, waiting = HandClock(), Waiting(kind, timeout=30)
    other = Workflow("other", [task(nothing if kind == "async" else nothing_on_thread, id="it")])
    async with in_memory(clock=clock, async_slots=1, thread_slots=1) as runner:
        handle = await runner.submit(waiting.workflow)
        await deferred(runner, handle.id)
        assert (await runner.get(handle.id)).tasks["it"].state is TaskState.WAITING
        assert (await runner.execute(other, timeout=20)).status is COMPLETED
        for looks in range(2, 6):
            clock.advance(EVERY)
            await until(lambda looks=looks: waiting.looks == looks and EVERY in clock.pending)
        assert await state_of(runner, handle.id) is DEFERRED
        waiting.holds = True
        clock.advance(EVERY)
        result = await handle.result(timeout=20)
    assert (result.status, result.context) == (COMPLETED, {"before": 1, "after": 1})
    assert [(attempt.number, attempt.state) for attempt in result.tasks["it"].history] == [
        (1, AttemptState.COMPLETED)
    ]
    assert (waiting.starts, waiting.looks) == (1, 6)


async def nothing(ctx: Context) -> None: ...


def nothing_on_thread(ctx: Context) -> None: ...


@KINDS
async def test_a_condition_that_holds_defers_nothing(kind: str) -> None:
    waiting = Waiting(kind)
    waiting.holds = True
    async with in_memory() as runner:
        store = interfere(runner)
        result = await runner.execute(waiting.workflow, timeout=20)
    assert (result.status, waiting.looks, shifts(store)) == (COMPLETED, 1, [])


@KINDS
async def test_the_clock_counts_only_while_the_body_runs(kind: str) -> None:
    """6 seconds before, any number while deferred, 4 more after: that is the timeout of 10."""
    clock, first, second, holds = HandClock(), Gate(), Gate(), list[bool]()

    async def body(ctx: Context, handle: TaskHandle) -> None:
        await first.pass_through(ctx)
        await handle.defer_until(lambda: bool(holds), 1)
        await second.pass_through(ctx)

    def on_thread(ctx: Context, handle: TaskHandle) -> None:
        first.pass_on_thread(ctx)
        handle.defer_until(lambda: bool(holds), 1)
        second.pass_on_thread(ctx)

    chosen = body if kind == "async" else on_thread
    workflow = Workflow("clocked", [task(chosen, id="it", timeout=10, retry=1)])
    async with in_memory(clock=clock) as runner:
        handle = await runner.submit(workflow)
        await first.reached()
        clock.advance(6)
        first.open()
        await deferred(runner, handle.id, every=1)
        for _ in range(5):
            clock.advance(100)
            await until(lambda: 1 in clock.pending)
        holds.append(True)
        clock.advance(1)
        await second.reached()
        clock.advance(3.9)
        await turn()
        assert await state_of(runner, handle.id) is RUNNING
        clock.advance(0.2)
        result = await handle.result(timeout=20)
        second.open()
    assert result.tasks["it"].history[0].state is AttemptState.TIMED_OUT


@KINDS
async def test_a_body_goes_on_only_with_a_slot(kind: str) -> None:
    clock, waiting, gate = HandClock(), Waiting(kind), Gate()
    busy = Workflow("busy", [task(gate.pass_through if kind == "async" else gate.pass_on_thread, id="it")])
    async with in_memory(clock=clock, async_slots=1, thread_slots=1) as runner:
        handle = await runner.submit(waiting.workflow)
        await deferred(runner, handle.id)
        other = await runner.submit(busy)
        await gate.reached()
        waiting.holds = True
        clock.advance(EVERY)
        await until(lambda: waiting.looks == 2)
        await turn(50)
        assert (await state_of(runner, handle.id), waiting.ends) == (DEFERRED, 0)
        gate.open()
        assert (await handle.result(timeout=20)).status is COMPLETED
        assert (await other.result(timeout=20)).status is COMPLETED


async def test_deferred_executions_do_not_count_in_the_window() -> None:
    clock, waiting = HandClock(), Waiting("async")
    async with in_memory(clock=clock, async_slots=1, window=1) as runner:
        handles = await runner.submit_many(waiting.workflow, [{}] * 10)
        for many, handle in enumerate(handles, 1):
            await deferred(runner, handle.id, many=many)
        assert runner._engine.life._active == 0
        waiting.holds = True
        clock.advance(EVERY)
        results = [await handle.result(timeout=20) for handle in handles]
    assert {result.status for result in results} == {COMPLETED}
    assert waiting.starts == 10


# How a wait ends otherwise.


@KINDS
async def test_what_the_condition_raises_is_raised_in_a_body_that_runs_again(kind: str) -> None:
    clock, waiting = HandClock(), Waiting(kind, retry=AT_ONCE)
    async with in_memory(clock=clock) as runner:
        store = interfere(runner)
        handle = await runner.submit(waiting.workflow)
        await deferred(runner, handle.id)
        waiting.error, waiting.holds = ConnectionError("not there"), True
        clock.advance(EVERY)
        result = await handle.result(timeout=20)
    assert waiting.raised == [ConnectionError]
    assert shifts(store) == ["deferred", "running"]
    assert [(a.state, a.error and a.error.message) for a in result.tasks["it"].history] == [
        (AttemptState.FAILED, "not there"),
        (AttemptState.COMPLETED, None),
    ]


@pytest.mark.parametrize("while_storing", [True, False])
async def test_a_timeout_of_the_body_s_own_leaves_it_with_a_slot(while_storing: bool) -> None:
    """It is over while the deferral waits for its next look, or for its commit: the body runs again properly."""
    clock, seen, holds = HandClock(), list[str](), list[Any]()

    @task
    async def it(ctx: Context, handle: TaskHandle) -> None:
        if while_storing:
            holds.append(store.hold("commit"))
        waiting = asyncio.ensure_future(handle.defer_until(lambda: False, EVERY))
        if while_storing:
            await holds[0].reached()
        else:
            await deferred(runner, handle.execution)
        waiting.cancel()
        await turn()
        if while_storing:
            holds[0].release()
        await asyncio.wait({waiting})
        seen.append(str(await state_of(runner, handle.execution)))
        attempt = runner._engine.life.drivers[handle.execution].running[0]
        ctx["slot"] = attempt.slot
        assert waiting.cancelled()

    async with in_memory(clock=clock, async_slots=1) as runner:
        store = interfere(runner)
        result = await runner.execute(Workflow("impatient", [it]), timeout=20)
        assert (
            await runner.execute(Workflow("other", [task(nothing, id="it")]), timeout=20)
        ).status is COMPLETED
    assert (result.status, result.context, seen) == (COMPLETED, {"slot": True}, ["running"])
    assert shifts(store) == ["deferred", "running"]


async def test_asyncio_timeout_works_as_everywhere() -> None:
    @task
    async def it(ctx: Context, handle: TaskHandle) -> None:
        try:
            async with asyncio.timeout(0.01):
                await handle.defer_until(lambda: False, EVERY)
        except TimeoutError:
            ctx["late"] = True

    async with in_memory() as runner:
        store = interfere(runner)
        result = await runner.execute(Workflow("impatient", [it]), timeout=20)
    assert (result.context, shifts(store)) == ({"late": True}, ["deferred", "running"])


async def test_a_body_that_gives_up_while_it_waits_for_its_slot_gets_it_all_the_same() -> None:
    """Its own timeout cancels it for a second time; it must not go on beside the body that has the slot."""
    clock, gate, seen = HandClock(), Gate(), list[bool]()
    waits: list[asyncio.Future[None]] = []

    @task
    async def it(ctx: Context, handle: TaskHandle) -> None:
        waits.append(asyncio.ensure_future(handle.defer_until(lambda: False, EVERY)))
        await asyncio.wait(waits)
        seen.append(runner._engine.life.drivers[handle.execution].running[0].slot)

    async with in_memory(clock=clock, async_slots=1) as runner:
        handle = await runner.submit(Workflow("impatient", [it]))
        await deferred(runner, handle.id)
        other = await runner.submit(Workflow("busy", [task(gate.pass_through, id="it")]))
        await gate.reached()
        for _ in range(3):
            waits[0].cancel()
            await turn()
        assert not waits[0].done()
        gate.open()
        assert (await handle.result(timeout=20)).status is COMPLETED
        assert (await other.result(timeout=20)).status is COMPLETED
    assert seen == [True] and waits[0].cancelled()


@KINDS
@pytest.mark.parametrize("how", ["cancel", "execution timeout", "death", "shutdown"])
async def test_a_deferred_body_is_told_to_stop(kind: str, how: str, tmp_path: Path) -> None:
    path, clock, waiting = tmp_path / "c.db", HandClock(), Waiting(kind)
    limited = Workflow("limited", waiting.workflow.dag.tasks, timeout=1_000)
    async with runner_on(path, clock=clock, thread_slots=1, shutdown_grace=1_000) as runner:
        handle = await runner.submit(limited)
        await deferred(runner, handle.id)
        if how == "cancel":
            assert await handle.cancel() is CANCELLED
        elif how == "execution timeout":
            clock.advance(1_000)
            assert (await handle.result(timeout=20)).status is FAILED
        elif how == "death":
            outside(path, lambda store: store.recover(runner.id, Reason.LOST_LEASE, 1))
            lose(runner)
            await until(lambda: waiting.raised)
            waiting.holds = True
            assert (await handle.result(timeout=20)).status is COMPLETED
        else:
            await runner.shutdown()  # does not wait for the grace
        await until(lambda: waiting.raised)
        if how != "shutdown":
            again = Workflow("again", [task(nothing if kind == "async" else nothing_on_thread, id="it")])
            assert (await runner.execute(again, timeout=20)).status is COMPLETED, "no slot was lost"
            row = (await runner.get(handle.id)).tasks["it"].history[0]
            expected = {
                "cancel": (AttemptState.CANCELLED, Reason.CANCELLED),
                "execution timeout": (AttemptState.CANCELLED, Reason.EXECUTION_TIMEOUT),
                "death": (AttemptState.INTERRUPTED, Reason.DEFERRED),
            }
            assert (row.state, row.reason) == expected[how]
    assert waiting.raised == [asyncio.CancelledError]


async def test_a_stop_reaches_a_body_that_waits_for_its_slot() -> None:
    clock, waiting, gate = HandClock(), Waiting("async"), Gate()
    async with in_memory(clock=clock, async_slots=1) as runner:
        handle = await runner.submit(waiting.workflow)
        await deferred(runner, handle.id)
        other = await runner.submit(Workflow("busy", [task(gate.pass_through, id="it")]))
        await gate.reached()
        waiting.holds = True
        clock.advance(EVERY)
        await until(lambda: waiting.looks == 2)
        await turn(50)
        assert await handle.cancel() is CANCELLED
        await until(lambda: waiting.raised)
        gate.open()
        assert (await other.result(timeout=20)).status is COMPLETED
        assert (
            await runner.execute(Workflow("other", [task(nothing, id="it")]), timeout=20)
        ).status is COMPLETED


# Crashes and shutdowns.


@KINDS
async def test_deferrals_never_count_as_crashes(kind: str, tmp_path: Path) -> None:
    path, clock, waiting = tmp_path / "c.db", HandClock(), Waiting(kind, retry=1)
    async with crashing(runner_on(path, clock=clock)) as runner:
        id = (await runner.submit(waiting.workflow)).id
        await deferred(runner, id)
    for _ in range(5):
        async with crashing(runner_on(path, waiting.workflow, clock=clock)) as runner:
            await deferred(runner, id)
            driver = runner._engine.life.drivers[id]
            assert not driver.state.suspect(0)
    waiting.holds = True
    async with runner_on(path, waiting.workflow, clock=clock) as runner:
        result = await runner.result(id, timeout=20)
    assert (result.status, result.context) == (COMPLETED, {"before": 7, "after": 7})
    history = result.tasks["it"].history
    assert {(row.state, row.reason) for row in history[:-1]} == {(AttemptState.INTERRUPTED, Reason.DEFERRED)}


async def test_a_crash_after_the_deferral_counts(tmp_path: Path) -> None:
    path, clock, gate = tmp_path / "c.db", HandClock(), Gate()
    holds: list[bool] = []

    @task
    async def it(ctx: Context, handle: TaskHandle) -> None:
        await handle.defer_until(lambda: bool(holds), EVERY)
        await gate.pass_through(ctx)

    workflow = Workflow("crashes", [it])
    async with crashing(runner_on(path, clock=clock)) as runner:
        handle = await runner.submit(workflow)
        await deferred(runner, handle.id)
        holds.append(True)
        clock.advance(EVERY)
        await gate.reached()
    gate.open()
    async with runner_on(path, workflow, clock=clock) as runner:
        result = await runner.result(handle.id, timeout=20)
    assert [(row.state, row.reason) for row in result.tasks["it"].history] == [
        (AttemptState.INTERRUPTED, Reason.CRASH),
        (AttemptState.COMPLETED, None),
    ]


@KINDS
async def test_a_shutdown_hands_a_deferred_execution_over(kind: str, tmp_path: Path) -> None:
    path, clock, waiting = tmp_path / "c.db", HandClock(), Waiting(kind)
    async with runner_on(path, clock=clock, shutdown_grace=1_000) as runner:
        handle = await runner.submit(waiting.workflow)
        await deferred(runner, handle.id)
    await until(lambda: waiting.raised)
    waiting.holds = True
    async with runner_on(path, waiting.workflow, clock=clock) as runner:
        result = await runner.result(handle.id, timeout=20)
    assert [(row.state, row.reason) for row in result.tasks["it"].history] == [
        (AttemptState.INTERRUPTED, Reason.DEFERRED),
        (AttemptState.COMPLETED, None),
    ]
    assert waiting.starts == 2


# What the store refuses.


def refuse(state: AttemptState) -> Callable[[Group], Exception | None]:
    def refuses(group: Group) -> Exception | None:
        found = any(row.state is state for item in group.items for row in item.shifts)
        return StoreRefused(f"not {state}") if found else None

    return refuses


@KINDS
async def test_a_deferral_that_is_refused_fails_the_body(kind: str) -> None:
    clock, waiting = HandClock(), Waiting(kind)
    async with in_memory(clock=clock, async_slots=1, thread_slots=1) as runner:
        interfere(runner).refuses = refuse(DEFERRED)
        result = await runner.execute(waiting.workflow, timeout=20)
        other = Workflow("other", [task(nothing if kind == "async" else nothing_on_thread, id="it")])
        assert (await runner.execute(other, timeout=20)).status is COMPLETED, "its slot is free"
    assert (result.status, waiting.raised) == (FAILED, [StoreRefused])


@KINDS
async def test_a_body_that_cannot_be_stored_as_running_does_not_go_on(kind: str) -> None:
    clock, waiting = HandClock(), Waiting(kind)
    async with in_memory(clock=clock) as runner:
        store = interfere(runner)
        handle = await runner.submit(waiting.workflow)
        await deferred(runner, handle.id)
        first = refuse(RUNNING)
        refusals: list[Exception] = []

        def once(group: Group) -> Exception | None:
            error = first(group)
            if error is None or refusals:
                return None
            refusals.append(error)
            return error

        store.refuses = once
        waiting.holds = True
        clock.advance(EVERY)
        result = await handle.result(timeout=20)
    assert (result.status, waiting.raised, waiting.ends) == (FAILED, [StoreRefused], 0)


# Bodies that use it in other ways.


async def test_a_body_that_does_not_wait_for_its_deferral_completes() -> None:
    left: list[asyncio.Future[None]] = []

    @task
    async def it(ctx: Context, handle: TaskHandle) -> None:
        left.append(asyncio.ensure_future(handle.defer_until(lambda: False, EVERY)))
        await deferred(runner, handle.execution)

    async with in_memory(async_slots=1) as runner:
        store = interfere(runner)
        result = await runner.execute(Workflow("hasty", [it]), timeout=20)
        assert (
            await runner.execute(Workflow("other", [task(nothing, id="it")]), timeout=20)
        ).status is COMPLETED
        left[0].cancel()
        await asyncio.wait(left)
    assert (result.status, shifts(store)) == (COMPLETED, ["deferred", "running"])


async def test_one_body_waits_for_one_condition_at_a_time() -> None:
    clock = HandClock()

    @task(retry=AT_ONCE)
    async def it(ctx: Context, handle: TaskHandle) -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(2):
                group.create_task(wait(handle))

    async def wait(handle: TaskHandle) -> None:
        await handle.defer_until(lambda: False, EVERY)

    async with in_memory(clock=clock) as runner:
        result = await runner.execute(Workflow("two", [it]), timeout=20)
    assert result.status is FAILED
    error = result.tasks["it"].error
    assert error is not None and "task 'it' is deferred already" in error.traceback


async def test_a_body_may_be_deferred_again_and_again() -> None:
    clock, looks = HandClock(), list[int]()

    @task
    def it(ctx: Context, handle: TaskHandle) -> None:
        for round in range(3):
            answers = iter([False, True])
            handle.defer_until(lambda number=round, answers=answers: looks.append(number) or next(answers), 1)

    async with in_memory(clock=clock) as runner:
        store = interfere(runner)
        handle = await runner.submit(Workflow("rounds", [it]))
        waiting = asyncio.ensure_future(handle.result(timeout=20))
        while not waiting.done():
            clock.advance(1)
            await turn(5)
        assert (await waiting).status is COMPLETED
    assert (looks, shifts(store)) == ([0, 0, 1, 1, 2, 2], ["deferred", "running"] * 3)


async def test_checkpoints_and_deferrals_go_together() -> None:
    """The condition of the second attempt starts from what the first one stored."""
    clock, asked = HandClock(), list[str]()

    @task(retry=AT_ONCE)
    async def it(ctx: Context, handle: TaskHandle) -> None:
        async def ask() -> str:
            asked.append(f"{handle.execution}/{handle.task}")
            return "job 7"

        job = await ctx.checkpoint("job", ask)
        looks = iter([False, True])
        await handle.defer_until(lambda: next(looks), 1)
        if handle.attempt == 1:
            raise ConnectionError
        ctx["job"] = job

    async with in_memory(clock=clock) as runner:
        handle = await runner.submit(Workflow("both", [it]))
        waiting = asyncio.ensure_future(handle.result(timeout=20))
        while not waiting.done():
            clock.advance(1)
            await turn(5)
        result = await waiting
    assert (result.context, asked) == ({"job": "job 7"}, [f"{handle.id}/it"])


@pytest.mark.parametrize("named", [True, False], ids=["by name", "by annotation"])
async def test_a_handle_says_whose_it_is(named: bool) -> None:
    def body(ctx: Context, handle: Any) -> None:
        tell(ctx, handle)

    def annotated(ctx: Context, *, mine: TaskHandle) -> None:
        tell(ctx, mine)

    def tell(ctx: Context, handle: TaskHandle) -> None:
        ctx["told"] = [handle.execution, handle.workflow, handle.task, handle.attempt, repr(handle)]

    async with in_memory() as runner:
        result = await runner.execute(
            Workflow("who", [task(body if named else annotated, id="it")]), timeout=20
        )
    id = result.id
    told = f"<TaskHandle of task it, attempt 1, execution {id}>"
    assert result.context["told"] == [id, "who", "it", 1, told]


BAD = [
    (lambda: True, 0, "poll_interval=0 is out of range"),
    (lambda: True, "5", "poll_interval='5' is no length of time"),
    (True, 5, "condition=True cannot be called"),
]


@pytest.mark.parametrize(("condition", "interval", "told"), BAD)
@KINDS
async def test_bad_arguments_are_refused_at_once(kind: str, condition: Any, interval: Any, told: str) -> None:
    async def body(ctx: Context, handle: TaskHandle) -> None:
        await handle.defer_until(condition, interval)

    def on_thread(ctx: Context, handle: TaskHandle) -> None:
        handle.defer_until(condition, interval)

    chosen = body if kind == "async" else on_thread
    async with in_memory() as runner:
        result = await runner.execute(Workflow("bad", [task(chosen, id="it", retry=1)]), timeout=20)
    error = result.tasks["it"].error
    assert error is not None and told in error.message


async def test_the_call_of_a_def_body_may_be_awaited_too() -> None:
    """It is typed as awaitable, so it is one, and nothing is left to wait for."""
    calls: list[Awaitable[None]] = []

    @task
    def it(ctx: Context, handle: TaskHandle) -> None:
        calls.append(handle.defer_until(lambda: True, 1))

    async with in_memory() as runner:
        await runner.execute(Workflow("typed", [it]), timeout=20)
    await calls[0]


async def test_an_async_condition_of_a_def_body_runs_on_the_loop() -> None:
    threads: list[int] = []

    @task
    def it(ctx: Context, handle: TaskHandle) -> None:
        async def look() -> bool:
            threads.append(threading.get_ident())
            return True

        handle.defer_until(look, 1)

    async with in_memory() as runner:
        assert (await runner.execute(Workflow("mixed", [it]), timeout=20)).status is COMPLETED
    assert threads == [threading.get_ident()]


# What the reader is told, and pauses.


async def test_explain_says_what_a_deferred_task_waits_for() -> None:
    waiting = Waiting("async")
    async with in_memory() as runner:
        handle = await runner.submit(waiting.workflow)
        await deferred(runner, handle.id)
        explanation = await runner.explain(handle.id)
        assert explanation.tasks == {"it": "attempt 1 is deferred: its condition is looked at every 10s"}


async def test_nobody_looks_while_the_execution_is_paused() -> None:
    clock, waiting = HandClock(), Waiting("async")
    async with in_memory(clock=clock) as runner:
        handle = await runner.submit(waiting.workflow)
        await deferred(runner, handle.id)
        await runner.pause(handle.id)
        waiting.holds = True
        for _ in range(3):
            clock.advance(EVERY)
            await until(lambda: EVERY in clock.pending)
        assert (waiting.looks, await state_of(runner, handle.id)) == (1, DEFERRED)
        await runner.resume(handle.id)
        clock.advance(EVERY)
        assert (await handle.result(timeout=20)).status is COMPLETED
