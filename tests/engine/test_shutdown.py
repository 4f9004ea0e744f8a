"""Shutting down: bodies finish, cut ones run again later, nothing is lost, and every later call says so."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from cloacina.errors import RunnerClosed, StoreUnavailable
from cloacina.model.context.context import Context
from cloacina.model.retry import RetryPolicy
from cloacina.model.status import AttemptState, ExecutionStatus, Reason
from cloacina.model.task import task
from cloacina.model.workflow import Workflow
from cloacina.runner import Runner
from cloacina.store.rows import ExecutionFilter
from support.clock import HandClock, turn, until
from support.runners import Gate, in_memory, outside, runner_on, seen_outside
from support.stores import fails, interfere

COMPLETED = ExecutionStatus.COMPLETED


def one(body: Any, name: str = "one", **options: Any) -> Workflow:
    return Workflow(name, [task(body, id="it", **options)])


def chain(gate: Gate, after: list[str]) -> Workflow:
    async def second(ctx: Context) -> None:
        after.append("second")

    return Workflow("chain", [task(gate.pass_through, id="first"), task(second, dependencies=["first"])])


@pytest.mark.parametrize("kind", ["async", "def"])
async def test_running_bodies_finish_and_nothing_else_starts(kind: str, tmp_path: Path) -> None:
    gate, after = Gate(), list[str]()
    workflow = chain(gate, after)
    if kind == "def":
        workflow = Workflow("chain", [task(gate.pass_on_thread, id="first"), workflow.tasks[1]])
    async with runner_on(tmp_path / "c.db", shutdown_grace=20) as runner:
        handle = await runner.submit(workflow)
        await gate.reached()
        stopping = asyncio.ensure_future(runner.shutdown())
        await turn()
        assert not stopping.done()
        gate.open()
        await stopping
    assert (gate.left, after) == (1, [])
    async with runner_on(tmp_path / "c.db", workflow) as runner:
        result = await runner.result(handle.id, timeout=20)
    assert (result.status, gate.entered, after) == (COMPLETED, 1, ["second"])
    assert [attempt.state for attempt in result.tasks["first"].history] == [AttemptState.COMPLETED]


@pytest.mark.parametrize("kind", ["async", "def"])
async def test_bodies_that_do_not_finish_are_cut_and_run_again_without_cost(
    kind: str, tmp_path: Path
) -> None:
    gate = Gate()
    workflow = one(gate.pass_through if kind == "async" else gate.pass_on_thread, retry=False)
    async with runner_on(tmp_path / "c.db", shutdown_grace=0) as runner:
        handle = await runner.submit(workflow)
        await gate.reached()
    gate.open()
    async with runner_on(tmp_path / "c.db", workflow) as runner:
        result = await runner.result(handle.id, timeout=20)
    assert (result.status, gate.entered) == (COMPLETED, 2)
    assert [(attempt.state, attempt.reason) for attempt in result.tasks["it"].history] == [
        (AttemptState.INTERRUPTED, Reason.SHUTDOWN),
        (AttemptState.COMPLETED, None),
    ]


async def test_a_second_call_cuts_the_bodies_at_once() -> None:
    gate = Gate()
    async with in_memory(shutdown_grace=1000) as runner:
        await runner.submit(one(gate.pass_through))
        await gate.reached()
        first = asyncio.ensure_future(runner.shutdown())
        await turn()
        assert not first.done()
        await asyncio.wait_for(runner.shutdown(), 20)
        await asyncio.wait_for(first, 20)
        await runner.shutdown()
    assert gate.left == 0


async def test_who_waits_for_a_shutdown_may_give_up_without_stopping_it() -> None:
    gate = Gate()
    async with in_memory(shutdown_grace=1000) as runner:
        await runner.submit(one(gate.pass_through))
        await gate.reached()
        first = asyncio.ensure_future(runner.shutdown())
        await turn()
        first.cancel()
        await turn()
        gate.open()
        await until(lambda: gate.left)
    with pytest.raises(RunnerClosed):
        await runner.list()


async def test_a_runner_that_never_started_shuts_down() -> None:
    await in_memory().shutdown()


async def test_who_waits_for_an_execution_is_told() -> None:
    gate = Gate()
    async with in_memory(shutdown_grace=0, window=1) as runner:
        running = asyncio.ensure_future(runner.execute(one(gate.pass_through)))
        await gate.reached()
        stored = asyncio.ensure_future(runner.execute("one"))
        while len(await runner.list()) < 2:
            pass
    for waiting in (running, stored):
        with pytest.raises(RunnerClosed, match="the next runner goes on with it"):
            await waiting


CALLS: dict[str, Any] = {
    "submit": lambda runner: runner.submit("one"),
    "submit_many": lambda runner: runner.submit_many("one", [None]),
    "execute": lambda runner: runner.execute("one"),
    "result": lambda runner: runner.result("x"),
    "status": lambda runner: runner.status("x"),
    "get": lambda runner: runner.get("x"),
    "cancel": lambda runner: runner.cancel("x"),
    "list": lambda runner: runner.list(),
    "explain": lambda runner: runner.explain("x"),
    "register": lambda runner: runner.register(),
    "start": lambda runner: runner.start(),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("when", ["before", "after"])
async def test_calls_outside_the_life_of_a_runner(when: str, call: str) -> None:
    runner = in_memory()
    if when == "after":
        async with runner:
            pass
    elif call == "start":
        await runner.start()
    with pytest.raises(RunnerClosed):
        await CALLS[call](runner)
    await runner.shutdown()


@pytest.mark.parametrize("get", [lambda r: r.id, lambda r: r.metrics(), lambda r: r.blocking], ids="imb")
async def test_attributes_outside_the_life_of_a_runner(get: Any) -> None:
    with pytest.raises(RunnerClosed):
        get(in_memory())


@pytest.mark.parametrize("grace", [0, 5])
async def test_a_shutdown_under_load_loses_nothing(grace: float, tmp_path: Path) -> None:
    starts = dict[int, int]()

    async def body(ctx: Context) -> None:
        starts[ctx["n"]] = starts.get(ctx["n"], 0) + 1
        await asyncio.sleep(0)

    def on_thread(ctx: Context) -> None: ...

    middle = task(on_thread, id="b", dependencies=["a"])
    workflow = Workflow("load", [task(body, id="a"), middle, task(body, id="c", dependencies=["b"])])
    accepted = list[str]()

    async def submitter(first: int) -> None:
        for n in range(first, 10_000, 10):
            try:
                key = f"k{n}" if n % 3 == 0 else None
                accepted.append((await runner.submit(workflow, {"n": n}, key=key)).id)
            except RunnerClosed:
                return

    async with runner_on(tmp_path / "c.db", async_slots=8, window=16) as runner:
        submitters = [asyncio.ensure_future(submitter(n)) for n in range(10)]
        await until(lambda: len(accepted) > 200)
        await runner.shutdown(grace)
        await asyncio.wait_for(asyncio.gather(*submitters), 20)
    async with runner_on(tmp_path / "c.db", workflow) as runner:
        stored = {info.id for info in await runner.list(limit=10_000)}
        assert set(accepted) <= stored
        results = [await runner.result(id, timeout=25) for id in stored]
    assert {result.status for result in results} == {COMPLETED}
    reasons = [
        attempt.reason for result in results for one in result.tasks.values() for attempt in one.history
    ]
    assert set(reasons) <= ({None} if grace else {None, Reason.SHUTDOWN})


async def test_what_waits_for_a_retry_is_given_back(tmp_path: Path) -> None:
    clock = HandClock()

    async def fail(ctx: Context) -> None:
        raise ValueError

    workflow = one(fail, retry=RetryPolicy(initial_delay=100, max_delay=100))
    async with runner_on(tmp_path / "c.db", clock=clock) as runner:
        handle = await runner.submit(workflow)
        await until(lambda: 100 in clock.pending)
    row = seen_outside(tmp_path / "c.db", lambda store: store.execution(handle.id))
    assert row is not None
    assert (row.owner, row.status, len(row.attempts)) == (None, ExecutionStatus.RUNNING, 1)
    assert seen_outside(tmp_path / "c.db", lambda store: store.runners()) == []


async def test_a_submit_inside_a_body_is_stored_while_the_runner_stops(tmp_path: Path) -> None:
    gate, runners = Gate(), list[Runner]()
    child = one(gate.pass_through, "child")

    async def body(ctx: Context) -> None:
        await gate.pass_through(ctx)
        ctx["child"] = (await runners[0].submit(child, {"from": "body"})).id

    async with runner_on(tmp_path / "c.db", child, shutdown_grace=20) as runner:
        runners.append(runner)
        handle = await runner.submit(one(body, "parent"))
        await gate.reached()
        stopping = asyncio.ensure_future(runner.shutdown())
        await turn()
        with pytest.raises(RunnerClosed):
            await runner.submit(child)
        gate.open()
        await stopping
    parent = seen_outside(tmp_path / "c.db", lambda store: store.execution(handle.id))
    assert parent is not None and parent.status is COMPLETED
    async with runner_on(tmp_path / "c.db", child) as runner:
        (info,) = await runner.list(workflow="child")
        assert (await runner.result(info.id, timeout=20)).context == {"from": "body"}


async def test_a_body_that_waits_for_a_child_goes_on_when_that_has_ended(tmp_path: Path) -> None:
    gate, runners = Gate(), list[Runner]()
    child = one(gate.pass_through, "child")

    async def body(ctx: Context) -> None:
        ctx["child"] = (await runners[0].execute(child)).status
        for _ in range(20):
            await asyncio.sleep(0)

    async with runner_on(tmp_path / "c.db", shutdown_grace=20) as runner:
        runners.append(runner)
        handle = await runner.submit(one(body, "parent", retry=False))
        await gate.reached()
        stopping = asyncio.ensure_future(runner.shutdown())
        await turn()
        gate.open()
        await stopping
    parent = seen_outside(tmp_path / "c.db", lambda store: store.execution(handle.id))
    assert parent is not None
    assert (parent.status, len(parent.attempts)) == (COMPLETED, 1)


async def test_a_body_that_waits_for_a_child_that_never_starts_is_cut(tmp_path: Path) -> None:
    gate, runners = Gate(), list[Runner]()
    child = one(gate.pass_through, "child")

    async def body(ctx: Context) -> None:
        await gate.pass_through(ctx)
        await runners[0].execute(child)

    async with runner_on(tmp_path / "c.db", child, shutdown_grace=1000) as runner:
        runners.append(runner)
        handle = await runner.submit(one(body, "parent"))
        await gate.reached()
        stopping = asyncio.ensure_future(runner.shutdown())
        await turn()
        gate.open()
        await asyncio.wait_for(stopping, 20)
    parent = seen_outside(tmp_path / "c.db", lambda store: store.execution(handle.id))
    assert parent is not None
    assert [(row.state, row.reason) for row in parent.attempts] == [
        (AttemptState.INTERRUPTED, Reason.SHUTDOWN)
    ]


async def test_a_body_that_ignores_its_cancellation_does_not_hold_the_shutdown(tmp_path: Path) -> None:
    entered, release = asyncio.Event(), asyncio.Event()

    async def stubborn(ctx: Context) -> None:
        entered.set()
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue

    async with runner_on(tmp_path / "c.db", shutdown_grace=0, cancel_grace=0.01) as runner:
        await runner.submit(one(stubborn))
        await entered.wait()
    with pytest.raises(RunnerClosed):
        await runner.list()
    release.set()
    await turn()


async def test_a_database_that_takes_no_writes_does_not_hold_the_shutdown(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    gate = Gate()
    workflow = one(gate.pass_through)
    async with runner_on(tmp_path / "c.db", workflow) as runner:
        await runner.execute(other := one(fine, "fine"))
        handle = await runner.submit(workflow)
        await gate.reached()
        interfere(runner).plan("commit", *[fails(StoreUnavailable("the disk is full"))] * 1000)
        submitting = asyncio.ensure_future(runner.submit(other))
        await turn()
        gate.open()
        await asyncio.wait_for(runner.shutdown(0), 20)
        with pytest.raises(RunnerClosed, match="before this execution was surely stored"):
            await submitting
    assert "the database takes no writes" in caplog.text
    async with runner_on(tmp_path / "c.db", workflow, other) as runner:
        assert (await runner.result(handle.id, timeout=20)).status is COMPLETED


async def fine(ctx: Context) -> None: ...


async def test_a_runner_that_could_not_say_that_it_stopped_is_found_dead(tmp_path: Path) -> None:
    gate = Gate()
    workflow = one(gate.pass_through)
    async with runner_on(tmp_path / "c.db", shutdown_grace=0) as runner:
        handle = await runner.submit(workflow)
        await gate.reached()
        interfere(runner).plan("recover", fails(StoreUnavailable("away")), fails(StoreUnavailable("away")))
        await runner.shutdown()
    gate.open()
    async with runner_on(tmp_path / "c.db", workflow) as runner:
        assert (await runner.result(handle.id, timeout=20)).status is COMPLETED


async def ask(runner: Runner, call: str, n: int) -> object:
    if call == "list":
        return await runner.list()
    if call == "submit_many":
        return await runner.submit_many("one", [None] * 3)
    return await runner.submit("one", key=f"k{n}" if call == "keyed" else None)


@pytest.mark.parametrize("call", ["submit", "submit_many", "list", "keyed"])
async def test_calls_in_flight_are_answered(call: str, tmp_path: Path) -> None:
    async with runner_on(tmp_path / "c.db", one(fine), window=1) as runner:
        gate = Gate()
        await runner.submit(one(gate.pass_through, "holds"))
        await gate.reached()
        coming = []
        for n in range(50):
            coming.append(asyncio.ensure_future(ask(runner, call, n)))
            if n % 10 == 0:
                await asyncio.sleep(0)
        await runner.shutdown(0)
        answers = await asyncio.wait_for(asyncio.gather(*coming, return_exceptions=True), 20)
        refused = [answer for answer in answers if isinstance(answer, BaseException)]
        assert {type(error) for error in refused} <= {RunnerClosed}
    if call != "list":
        stored = outside_count(tmp_path / "c.db")
        accepted = [answer for answer in answers if not isinstance(answer, BaseException)]
        each = 3 if call == "submit_many" else 1
        assert stored >= 1 + each * len(accepted)


def outside_count(path: Path) -> int:
    outside(path, lambda store: store.checkpoint_if_due())
    return seen_outside(path, lambda store: store.pending())


@pytest.mark.parametrize("kind", ["async", "def"])
async def test_a_body_may_shut_its_runner_down(kind: str, tmp_path: Path) -> None:
    runners = list[Runner]()

    async def body(ctx: Context) -> None:
        await runners[0].shutdown(0)

    def on_thread(ctx: Context) -> None:
        runners[0].blocking.shutdown(0)

    async with runner_on(tmp_path / "c.db") as runner:
        runners.append(runner)
        waiting = asyncio.ensure_future(runner.execute(one(body if kind == "async" else on_thread)))
        with pytest.raises(RunnerClosed):
            await asyncio.wait_for(waiting, 20)
    (row,) = seen_outside(tmp_path / "c.db", lambda store: store.executions(ExecutionFilter()))
    assert (row.status, row.owner) == (ExecutionStatus.RUNNING, None)
