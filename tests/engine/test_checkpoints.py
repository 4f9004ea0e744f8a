"""Checkpoints of bodies: stored before they return, once, with the fence; found again by every later attempt."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cloacina.engine.executors.callbacks import CallbackInfo
from cloacina.errors import CheckpointError, StoreRefused, StoreUnavailable, WrongThread
from cloacina.model.context.context import Context
from cloacina.model.context.handle import TaskHandle
from cloacina.model.context.keys import Key
from cloacina.model.retry import RetryPolicy
from cloacina.model.status import AttemptState, ExecutionStatus, Reason
from cloacina.model.task import task
from cloacina.model.workflow import Workflow
from cloacina.runner import Runner
from cloacina.store.postgres.database import PostgresReader
from cloacina.store.rows import Group
from cloacina.store.sqlite.database import SqliteReader
from support.clock import HandClock, turn, until
from support.runners import Gate, crashing, in_memory, lose, outside, runner_on, seen_outside
from support.stores import interfere, unsure

COMPLETED, FAILED, CANCELLED = ExecutionStatus.COMPLETED, ExecutionStatus.FAILED, ExecutionStatus.CANCELLED
AT_ONCE = RetryPolicy(max_attempts=5, initial_delay=0, jitter=0)
KINDS = pytest.mark.parametrize("kind", ["async", "def"])


class Steps:
    """Bodies with three checkpoints. After each one ``after`` is called with its name."""

    def __init__(self, after: Callable[[str], object] = lambda name: None) -> None:
        self.calls: list[str] = []
        self.starts = 0
        self.after = after

    def make(self, name: str) -> str:
        self.calls.append(name)
        return f"{name}, call {len(self.calls)}"

    async def make_later(self, name: str) -> str:
        await asyncio.sleep(0)
        return self.make(name)

    async def body(self, ctx: Context) -> None:
        self.starts += 1
        for name in "abc":
            ctx[name] = await ctx.checkpoint(name, lambda name=name: self.make_later(name))
            self.after(name)

    def on_thread(self, ctx: Context) -> None:
        self.starts += 1
        for name in "abc":
            ctx[name] = ctx.checkpoint(name, lambda name=name: self.make(name))
            self.after(name)

    def workflow(self, kind: str, **options: Any) -> Workflow:
        body = self.body if kind == "async" else self.on_thread
        return Workflow("steps", [task(body, id="it", **options)])


VALUES = {"a": "a, call 1", "b": "b, call 2", "c": "c, call 3"}


async def nothing(ctx: Context) -> None: ...


def stored(path: Path, execution: str, task: str = "it") -> dict[str, str]:
    return seen_outside(path, lambda store: store.checkpoints(execution, task))


@KINDS
async def test_a_checkpoint_is_durable_when_it_returns(kind: str, tmp_path: Path) -> None:
    path, seen = tmp_path / "c.db", list[list[str]]()
    ids: list[str] = []
    known = threading.Event()

    def look(name: str) -> None:
        assert known.wait(20)
        seen.append(list(stored(path, ids[0])))

    async with runner_on(path) as runner:
        handle = await runner.submit(Steps(look).workflow(kind))
        ids.append(handle.id)
        known.set()
        result = await handle.result(timeout=20)
    assert (result.status, result.context) == (COMPLETED, VALUES)
    assert seen == [["a"], ["a", "b"], ["a", "b", "c"]]


@KINDS
@pytest.mark.parametrize("failing", ["a", "b", "c"])
async def test_a_retry_finds_what_was_stored(kind: str, failing: str) -> None:
    failed: list[str] = []

    def fail_once(name: str) -> None:
        if name == failing and not failed:
            failed.append(name)
            raise ConnectionError(name)

    steps = Steps(fail_once)
    async with in_memory() as runner:
        result = await runner.execute(steps.workflow(kind, retry=AT_ONCE), timeout=20)
    assert (result.status, result.context, result.tasks["it"].attempts) == (COMPLETED, VALUES, 2)
    assert (steps.calls, steps.starts) == (["a", "b", "c"], 2)


@pytest.mark.parametrize("at", ["a", "b", "c"])
async def test_after_a_crash_nothing_is_made_again(at: str, tmp_path: Path) -> None:
    path, gate = tmp_path / "c.db", Gate()
    steps = Steps()

    @task
    async def it(ctx: Context) -> None:
        steps.starts += 1
        for name in "abc":
            ctx[name] = await ctx.checkpoint(name, lambda name=name: steps.make_later(name))
            if name == at:
                await gate.pass_through(ctx)

    workflow = Workflow("steps", [it])
    async with crashing(runner_on(path)) as runner:
        handle = await runner.submit(workflow)
        await gate.reached()
    gate.open()
    async with runner_on(path, workflow) as runner:
        result = await runner.result(handle.id, timeout=20)
    assert (result.status, result.context) == (COMPLETED, VALUES)
    assert (steps.calls, steps.starts) == (["a", "b", "c"], 2)


async def test_a_checkpoint_whose_fate_was_unknown_is_stored_once(tmp_path: Path) -> None:
    path, steps = tmp_path / "c.db", Steps()
    async with runner_on(path) as runner:
        store = interfere(runner)
        lost = unsure(StoreUnavailable("no answer"))
        store.plan("commit", None, None, lost, lost)
        result = await runner.execute(steps.workflow("async"), timeout=20)
    assert (result.status, result.context, steps.calls) == (COMPLETED, VALUES, ["a", "b", "c"])
    assert list(stored(path, result.id)) == ["a", "b", "c"]


@KINDS
async def test_a_new_execution_reads_nothing_at_its_first_attempt(
    kind: str, monkeypatch: pytest.MonkeyPatch, backend: str
) -> None:
    reads: list[str] = []
    reader: Any = SqliteReader if backend == "sqlite" else PostgresReader
    read = reader.checkpoints

    def counted(self: object, execution: str, task: str) -> dict[str, str]:
        reads.append(task)
        return read(self, execution, task)

    monkeypatch.setattr(reader, "checkpoints", counted)
    raises = iter([False, True, False, False, False, False, False])
    steps = Steps(lambda name: 1 / 0 if name == "c" and next(raises) else None)
    workflow, first = steps.workflow(kind, retry=AT_ONCE), Workflow("first", [task(nothing, id="it")])
    async with in_memory(workflow, first) as runner:
        await runner.execute(first, timeout=20)  # from now on the runner knows that nobody else's work waits
        await runner.execute(workflow, timeout=20)
        assert reads == []
        result = await runner.execute(workflow, timeout=20)
    assert (result.tasks["it"].attempts, reads) == (2, ["it"])


async def test_an_execution_that_was_stored_by_somebody_else_reads_at_its_first_attempt(
    tmp_path: Path,
) -> None:
    path, steps = tmp_path / "c.db", Steps()
    workflow = steps.workflow("async")
    async with runner_on(path, workflow) as runner:
        (handle,) = await runner.submit_many(workflow, [{}])
        assert (await handle.result(timeout=20)).context == VALUES
    assert steps.calls == ["a", "b", "c"]


# What the store refuses.


def refuse(name: str) -> Callable[[Group], Exception | None]:
    def refuses(group: Group) -> Exception | None:
        found = any(row.name == name for item in group.items for row in item.checkpoints)
        return StoreRefused("not this value") if found else None

    return refuses


@KINDS
async def test_a_body_whose_checkpoint_is_refused_fails_with_that_error(kind: str) -> None:
    steps, other = Steps(), Steps()
    async with in_memory() as runner:
        interfere(runner).refuses = refuse("b")
        innocent = Workflow("innocent", [task(Gate().pass_through, id="it")])
        waiting = await runner.submit(innocent)
        result = await runner.execute(steps.workflow(kind, retry=AT_ONCE), timeout=20)
        assert (
            await runner.execute(Workflow("later", [task(only_a, id="it")]), timeout=20)
        ).status is COMPLETED
        assert await waiting.cancel() is CANCELLED
    assert (result.status, result.tasks["it"].attempts) == (FAILED, 1)
    assert result.tasks["it"].error is not None and "not this value" in result.tasks["it"].error.message
    assert (steps.calls, other.calls) == (["a", "b"], [])


async def only_a(ctx: Context) -> None:
    ctx["a"] = await ctx.checkpoint("a", lambda: 1)


async def test_a_body_may_go_on_without_a_checkpoint_that_was_refused() -> None:
    @task
    async def it(ctx: Context) -> None:
        try:
            await ctx.checkpoint("b", lambda: 1)
        except StoreRefused:
            ctx["refused"] = True
        ctx["c"] = await ctx.checkpoint("c", lambda: 2)

    async with in_memory() as runner:
        interfere(runner).refuses = refuse("b")
        result = await runner.execute(Workflow("goes_on", [it]), timeout=20)
    assert (result.status, result.context) == (COMPLETED, {"refused": True, "c": 2})


# Zombies.


@KINDS
@pytest.mark.parametrize("told", [True, False], ids=["told", "not told"])
async def test_the_checkpoint_of_a_zombie_is_refused(kind: str, told: bool, tmp_path: Path) -> None:
    """Another process has declared the runner dead; its body makes a value, and then learns it."""
    path, zombie = tmp_path / "c.db", Zombie(kind)
    async with runner_on(path) as runner:
        handle = await runner.submit(zombie.workflow)
        await zombie.gate.reached()
        dead = runner.id
        outside(path, lambda store: store.recover(dead, Reason.LOST_LEASE, 1))
        if told:
            lose(runner)
            await until(lambda: runner.id != dead)
        zombie.gate.open()
        result = await handle.result(timeout=20)
        await until(lambda: zombie.outcomes)
    assert result.status is COMPLETED
    assert result.context == {"value": "of attempt 2"}
    assert stored(path, handle.id) == {"value": '"of attempt 2"'}
    assert zombie.outcomes[0] in (asyncio.CancelledError, CheckpointError)


class Zombie:
    """The first body holds inside the function of its checkpoint; ``outcomes`` has what came of that."""

    def __init__(self, kind: str) -> None:
        self.gate = Gate()
        self.starts = 0
        self.outcomes: list[type[BaseException] | str] = []
        self.workflow = Workflow(
            "zombie",
            [task(self.body if kind == "async" else self.on_thread, id="it", retry=AT_ONCE, timeout=60)],
        )

    async def body(self, ctx: Context) -> None:
        self.starts += 1
        mine = self.starts

        async def make() -> str:
            if mine == 1:
                try:
                    await self.gate.pass_through(ctx)
                except asyncio.CancelledError:  # it does not want to stop
                    pass
            return f"of attempt {mine}"

        try:
            ctx["value"] = await ctx.checkpoint("value", make)
        except BaseException as error:
            self.outcomes.append(type(error))
            raise
        if mine == 1:
            self.outcomes.append("returned")

    def on_thread(self, ctx: Context) -> None:
        self.starts += 1
        mine = self.starts

        def make() -> str:
            if mine == 1:
                self.gate.pass_on_thread(ctx)
            return f"of attempt {mine}"

        try:
            ctx["value"] = ctx.checkpoint("value", make)
        except BaseException as error:
            self.outcomes.append(type(error))
            raise
        if mine == 1:
            self.outcomes.append("returned")


async def test_a_thread_that_outlives_its_timeout_stores_nothing(tmp_path: Path) -> None:
    """The guard is the attempt and not the runner, which is the same for both, as is the execution's driver."""
    path, clock, gates = tmp_path / "c.db", HandClock(), [Gate(), Gate()]
    outcomes: list[type[BaseException] | str] = []

    @task(retry=AT_ONCE, timeout=60, overlap=True)
    def it(ctx: Context, handle: TaskHandle) -> None:
        if handle.attempt == 2:
            gates[1].pass_on_thread(ctx)
        else:
            gates[0].pass_on_thread(ctx)
        try:
            ctx["value"] = ctx.checkpoint("value", lambda: handle.attempt)
            outcomes.append("returned")
        except BaseException as error:
            outcomes.append(type(error))
            raise

    async with runner_on(path, clock=clock) as runner:
        handle = await runner.submit(Workflow("zombie", [it]))
        await gates[0].reached()
        clock.advance(60)
        await gates[1].reached()
        gates[0].open()
        await until(lambda: outcomes)
        assert (outcomes, stored(path, handle.id)) == ([CheckpointError], {})
        gates[1].open()
        assert (await handle.result(timeout=20)).context == {"value": 2}
    assert stored(path, handle.id) == {"value": "2"}


@KINDS
@pytest.mark.parametrize("how", ["death", "shutdown"])
async def test_a_body_that_waits_for_its_checkpoint_is_let_go(kind: str, how: str, tmp_path: Path) -> None:
    """The group with the checkpoint hangs; the body neither hangs for ever nor gets its value."""
    path, zombie = tmp_path / "c.db", Zombie(kind)
    async with runner_on(path) as runner:
        handle = await runner.submit(zombie.workflow)
        await zombie.gate.reached()
        dead, hold = runner.id, interfere(runner).hold("commit")
        zombie.gate.open()
        await hold.reached()
        if how == "death":
            outside(path, lambda store: store.recover(dead, Reason.LOST_LEASE, 1))
            lose(runner)
            await until(lambda: zombie.outcomes)
            hold.release()
            assert (await handle.result(timeout=20)).context == {"value": "of attempt 2"}
        else:
            ending = asyncio.ensure_future(runner.shutdown(grace=0))
            await until(lambda: runner._engine.life.stopping)
            hold.release()
            await ending
            await until(lambda: zombie.outcomes)
    assert how == "shutdown" or zombie.outcomes == [asyncio.CancelledError]


@KINDS
async def test_a_cancel_that_is_committed_with_a_checkpoint_ends_its_body(kind: str) -> None:
    zombie = Zombie(kind)
    async with in_memory() as runner:
        handle = await runner.submit(zombie.workflow)
        await zombie.gate.reached()
        hold = interfere(runner).hold("commit")
        other = asyncio.ensure_future(runner.submit(Workflow("other", [task(nothing, id="it")])))
        await hold.reached()
        zombie.gate.open()
        driver = runner._engine.life.drivers[handle.id]
        await until(lambda: driver._wishes is not None)
        cancelling = asyncio.ensure_future(handle.cancel())
        await turn()
        hold.release()
        assert await cancelling is CANCELLED
        await until(lambda: zombie.outcomes)
        await other
    assert zombie.outcomes == [asyncio.CancelledError]


# Bodies that use it the wrong way.


def fails_with(error: type[Exception], body: Any, told: str) -> Any:
    async def check() -> None:
        async with in_memory() as runner:
            result = await runner.execute(Workflow("wrong", [task(body, id="it", retry=AT_ONCE)]), timeout=20)
        failure = result.tasks["it"].error
        assert result.status is FAILED and failure is not None
        assert failure.type.rpartition(".")[2] == error.__name__ and told in failure.message, failure
        never_again = error is CheckpointError
        assert result.tasks["it"].attempts == (1 if never_again else 5)

    return check()


async def test_a_name_used_twice_fails_the_task_without_retry() -> None:
    async def body(ctx: Context) -> None:
        for _ in range(2):
            await ctx.checkpoint("same", lambda: 1)

    await fails_with(CheckpointError, body, "checkpoint 'same' was used in this attempt already")


async def test_a_function_that_changes_the_context_fails_the_task_without_retry() -> None:
    async def body(ctx: Context) -> None:
        await ctx.checkpoint("x", lambda: ctx.update(new=1))

    await fails_with(CheckpointError, body, "its function changes the context")


async def test_the_context_of_another_body_is_refused() -> None:
    contexts: list[Context] = []

    @task
    async def lends(ctx: Context) -> None:
        contexts.append(ctx)
        gate.entered += 1
        await gate._async_open.wait()

    @task(retry=AT_ONCE)
    async def borrows(ctx: Context) -> None:
        await gate.reached()
        try:
            await contexts[0].checkpoint("x", lambda: 1)
        finally:
            gate.open()

    gate = Gate()
    async with in_memory() as runner:
        result = await runner.execute(Workflow("lending", [lends, borrows]), timeout=20)
    error = result.tasks["borrows"].error
    assert error is not None and "belongs to another body" in error.message
    assert (result.tasks["borrows"].attempts, result.tasks["lends"].error) == (1, None)


@pytest.mark.parametrize("of", ["task", "workflow"])
async def test_a_callback_has_no_checkpoints(of: str) -> None:
    errors: list[Exception] = []

    def called(ctx: Context, info: CallbackInfo) -> None:
        try:
            ctx.checkpoint("x", lambda: 1)
        except CheckpointError as error:
            errors.append(error)

    async def body(ctx: Context) -> None: ...

    workflow = (
        Workflow("calls", [task(body, id="it", on_success=called)])
        if of == "task"
        else Workflow("calls", [task(body, id="it")], on_success=called)
    )
    async with in_memory() as runner:
        await runner.execute(workflow, timeout=20)
    assert len(errors) == 1 and "no attempt that runs has this context" in str(errors[0])


async def test_work_that_a_body_left_behind_stores_nothing(tmp_path: Path) -> None:
    path, left, go_on = tmp_path / "c.db", list[asyncio.Task[Any]](), asyncio.Event()

    @task
    async def it(ctx: Context) -> None:
        async def make() -> int:
            await go_on.wait()
            return 1

        async def later() -> Any:
            return await ctx.checkpoint("x", make)

        left.append(asyncio.create_task(later()))
        await asyncio.sleep(0)

    gate = Gate()
    other = task(gate.pass_through, id="other", dependencies=["it"])
    async with runner_on(path) as runner:
        handle = await runner.submit(Workflow("leaves", [it, other]))
        await gate.reached()
        go_on.set()
        with pytest.raises(CheckpointError, match="attempt 1 of task 'it' .* has ended"):
            await left[0]
        gate.open()
        assert (await handle.result(timeout=20)).status is COMPLETED
    assert stored(path, handle.id) == {}


async def test_work_that_a_body_left_behind_is_let_go_when_the_runner_dies() -> None:
    """The body is cancelled; what it started waits for a commit that will never be."""
    gate, left = Gate(), list[asyncio.Future[Any]]()

    @task
    async def it(ctx: Context) -> None:
        await gate.pass_through(ctx)
        if not left:
            left.append(asyncio.ensure_future(ctx.checkpoint("x", lambda: asyncio.sleep(0, 1))))
            await asyncio.Event().wait()

    async with in_memory() as runner:
        handle = await runner.submit(Workflow("leaves", [it]))
        await gate.reached()
        hold = interfere(runner).hold("commit")
        gate.open()
        await hold.reached()
        lose(runner)
        await asyncio.wait(left, timeout=20)
        hold.release()
        assert (await handle.result(timeout=20)).status is COMPLETED
    assert left[0].cancelled()


@pytest.mark.parametrize("copied", [True, False])
async def test_another_thread_needs_the_body_s_context_variables(copied: bool) -> None:
    errors: list[Exception] = []

    @task
    def it(ctx: Context) -> None:
        def work() -> None:
            try:
                found.append(ctx.checkpoint("x", lambda: 1))
            except Exception as error:
                errors.append(error)

        found: list[int] = []
        variables = contextvars.copy_context()
        thread = threading.Thread(target=(lambda: variables.run(work)) if copied else work)
        thread.start()
        thread.join()
        ctx["found"] = found

    async with in_memory() as runner:
        result = await runner.execute(Workflow("threads", [it]), timeout=20)
    assert result.context == {"found": [1] if copied else []}
    assert [type(error) for error in errors] == ([] if copied else [CheckpointError])


async def test_a_def_body_cannot_wait_on_the_loop_s_own_thread() -> None:
    raised: list[BaseException] = []
    tried = threading.Event()
    loop = asyncio.get_running_loop()

    @task
    def it(ctx: Context) -> None:
        def on_the_loop() -> None:
            try:
                ctx.checkpoint("x", lambda: 1)
            except BaseException as error:
                raised.append(error)
            tried.set()

        loop.call_soon_threadsafe(on_the_loop)
        assert tried.wait(20)

    async with in_memory() as runner:
        assert (await runner.execute(Workflow("wrong", [it]), timeout=20)).status is COMPLETED
    assert [type(error) for error in raised] == [WrongThread]


@pytest.mark.parametrize("want", ["checkpoint", "defer"])
async def test_an_async_body_cannot_wait_on_the_loop_of_another_thread(want: str) -> None:
    """What it asks for there is refused before it has any effect, and the body may go on."""

    @task(retry=False)
    async def it(ctx: Context, handle: TaskHandle) -> None:
        async def ask() -> None:
            if want == "checkpoint":
                await ctx.checkpoint("x", lambda: 1)
            else:
                await handle.defer_until(lambda: False, 1)

        with pytest.raises(WrongThread, match="await this in the body itself"):
            await asyncio.to_thread(lambda: asyncio.run(ask()))
        ctx["then"] = await ctx.checkpoint("x", lambda: 2)

    async with in_memory() as runner:
        store = interfere(runner)
        result = await runner.execute(Workflow("wrong", [it]), timeout=20)
    assert (result.status, result.context) == (COMPLETED, {"then": 2})
    items = [item for group in store.groups for item in group.items]
    assert sum(len(item.shifts) + len(item.checkpoints) for item in items) == 1


# In company.


async def test_checkpoints_of_one_body_side_by_side() -> None:
    together = asyncio.Barrier(3)
    total = Key("total", int)

    @task
    async def it(ctx: Context) -> None:
        async def meet(n: int) -> int:
            await together.wait()
            return n

        async def part(n: int) -> None:
            value = await ctx.checkpoint(f"part {n}", lambda: meet(n))
            ctx[total] = ctx.get(total, 0) + value

        await asyncio.gather(*(part(n) for n in range(3)))

    async with in_memory() as runner:
        store = interfere(runner)
        result = await runner.execute(Workflow("parts", [it]), timeout=20)
        sizes = [len(item.checkpoints) for group in store.groups for item in group.items]
    assert (result.context, max(sizes)) == ({"total": 3}, 3)


async def test_a_wait_that_the_body_gives_up_leaves_the_value_for_the_next_attempt() -> None:
    holds: list[Any] = []
    calls: list[int] = []

    @task(retry=AT_ONCE)
    async def it(ctx: Context) -> None:
        calls.append(1)
        if len(calls) == 1:
            holds.append(store.hold("commit"))
            storing = asyncio.ensure_future(ctx.checkpoint("x", lambda: len(calls)))
            await holds[0].reached()
            storing.cancel()
            await asyncio.wait({storing})
            holds[0].release()
            assert storing.cancelled()
            raise ConnectionError("the body goes its own way")
        ctx["x"] = await ctx.checkpoint("x", lambda: len(calls))

    async with in_memory() as runner:
        store = interfere(runner)
        result = await runner.execute(Workflow("gives_up", [it]), timeout=20)
    assert (result.status, result.context) == (COMPLETED, {"x": 1})


async def test_a_body_that_is_given_time_at_a_shutdown_stores_what_it_has(tmp_path: Path) -> None:
    path, gate, runners = tmp_path / "c.db", Gate(), list[Runner]()

    @task
    async def it(ctx: Context) -> None:
        await gate.pass_through(ctx)
        await ctx.checkpoint("x", lambda: 1)

    async with runner_on(path) as runner:
        runners.append(runner)
        handle = await runner.submit(Workflow("late", [it]))
        await gate.reached()
        ending = asyncio.ensure_future(runner.shutdown(grace=20))
        await until(lambda: runner._engine.life.stopping)
        gate.open()
        await ending
    row = seen_outside(path, lambda store: store.execution(handle.id))
    assert row is not None and row.attempts[0].state is AttemptState.COMPLETED
    assert stored(path, handle.id) == {"x": "1"}
