"""Slots: never more bodies than there are, and each comes back however its body ends."""

from __future__ import annotations

import asyncio
import threading
from functools import partial

import pytest

from cloacina.engine.executors.threads import BodyThreads
from cloacina.model.context.context import Context
from cloacina.model.retry import RetryPolicy
from cloacina.model.status import ExecutionStatus
from cloacina.model.task import task
from cloacina.model.workflow import Workflow
from support.clock import turn, until
from support.runners import Gate, in_memory

COMPLETED = ExecutionStatus.COMPLETED


class Counter:
    """Counts bodies that run at once."""

    def __init__(self) -> None:
        self.now = self.most = 0
        self._lock = threading.Lock()

    async def body(self, ctx: Context) -> None:
        self.enter()
        for _ in range(3):
            await asyncio.sleep(0)
        self.now -= 1

    def on_thread(self, ctx: Context) -> None:
        with self._lock:
            self.enter()
        threading.Event().wait(0.001)
        with self._lock:
            self.now -= 1

    def enter(self) -> None:
        self.now += 1
        self.most = max(self.most, self.now)


@pytest.mark.parametrize("slots", [1, 3])
@pytest.mark.parametrize("kind", ["async", "def"])
async def test_never_more_bodies_run_than_there_are_slots(slots: int, kind: str) -> None:
    counter = Counter()
    body = counter.body if kind == "async" else counter.on_thread
    wide = Workflow("wide", [task(body, id=f"t{n}") for n in range(10)])
    async with in_memory(async_slots=slots, thread_slots=slots) as runner:
        results = await asyncio.gather(*(runner.execute(wide) for _ in range(10)))
    assert {result.status for result in results} == {COMPLETED}
    assert counter.most == slots


@pytest.mark.parametrize("busy", ["async", "def"])
async def test_the_two_kinds_of_slots_do_not_hold_up_each_other(busy: str) -> None:
    holding, passing = Gate(), Gate()
    passing.open()
    bodies = {"async": holding.pass_through, "def": holding.pass_on_thread}
    others = {"def": passing.pass_through, "async": passing.pass_on_thread}
    holds = Workflow("holds", [task(bodies[busy], id=f"t{n}") for n in range(5)])
    passes = Workflow("passes", [task(others[busy], id="it")])
    async with in_memory(async_slots=1, thread_slots=1) as runner:
        handle = await runner.submit(holds)
        await holding.reached()
        assert (await runner.execute(passes)).status is COMPLETED
        holding.open()
        assert (await handle.result()).status is COMPLETED


@pytest.mark.parametrize("kind", ["async", "def"])
@pytest.mark.parametrize(
    "error", [ValueError(), SystemExit(), KeyboardInterrupt(), asyncio.CancelledError(), GeneratorExit()]
)
async def test_a_slot_comes_back_whatever_a_body_raises(error: BaseException, kind: str) -> None:
    async def body(ctx: Context) -> None:
        raise error

    def on_thread(ctx: Context) -> None:
        raise error

    workflow = Workflow("raises", [task(body if kind == "async" else on_thread, id="it", retry=False)])
    async with in_memory(async_slots=1, thread_slots=1) as runner:
        for _ in range(3):
            assert (await runner.execute(workflow)).status is ExecutionStatus.FAILED
        assert not any(one.running for one in runner.metrics().values())


async def test_a_slot_comes_back_after_a_cancel() -> None:
    gate, after = Gate(), Gate()
    after.open()
    workflow = Workflow("holds", [task(gate.pass_through, id="it")])
    async with in_memory(async_slots=1) as runner:
        for n in range(3):
            handle = await runner.submit(workflow)
            await gate.reached(n + 1)
            await handle.cancel()
        assert (
            await runner.execute(Workflow("after", [task(after.pass_through, id="it")]))
        ).status is COMPLETED


async def test_a_body_starts_in_the_turn_that_frees_a_slot() -> None:
    """Nothing polls: with one slot, bodies follow each other without any timer."""
    order = list[int]()
    workflow = Workflow("order")

    @workflow.task
    async def it(ctx: Context) -> None:
        order.append(ctx["n"])

    async with in_memory(async_slots=1) as runner:
        handles = [await runner.submit(workflow, {"n": n}) for n in range(50)]
        for handle in handles:
            await handle.result()
    assert order == list(range(50))


async def test_a_thread_that_cannot_be_had_fails_the_attempt_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    start, refusals = threading.Thread.start, 1

    def refuse(thread: threading.Thread) -> None:
        nonlocal refusals
        if thread.name.startswith("cloacina-body") and refusals:
            refusals -= 1
            raise RuntimeError("can't start new thread")
        start(thread)

    calls = list[int]()
    workflow = Workflow("threaded", retry=RetryPolicy(initial_delay=0, jitter=0))

    @workflow.task
    def it(ctx: Context) -> None:
        calls.append(1)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    async with in_memory(thread_slots=1) as runner:
        result = await runner.execute(workflow, timeout=20)
        assert (await runner.execute(workflow, timeout=20)).status is COMPLETED
    assert [str(attempt.error) for attempt in result.tasks["it"].history] == [
        "RuntimeError: can't start new thread",
        "None",
    ]
    assert len(calls) == 2


def test_bodies_wait_for_the_threads_that_there_are(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    held, start = list[threading.Thread](), threading.Thread.start

    def hold(thread: threading.Thread) -> None:
        if held:
            raise RuntimeError("can't start new thread")
        held.append(thread)

    done = list[int]()
    both = threading.Semaphore(0)

    def work(number: int) -> None:
        done.append(number)
        both.release()

    threads = BodyThreads()
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", hold)
        for number in (1, 2):
            threads.start(partial(work, number))
        start(held[0])
        for _ in range(2):
            assert both.acquire(timeout=20)
    assert done == [1, 2]
    assert "no more threads" in caplog.text
    threads.close()
    held[0].join(20)
    assert not held[0].is_alive()


def test_bodies_that_block_have_a_thread_each() -> None:
    threads, together = BodyThreads(), threading.Barrier(33)

    def meet() -> None:
        together.wait(20)

    for _ in range(3):
        for _ in range(32):
            threads.start(meet)
        meet()
    threads.close()


async def test_idle_threads_are_used_again() -> None:
    names = set[str]()
    workflow = Workflow("names")

    @workflow.task
    def it(ctx: Context) -> None:
        names.add(threading.current_thread().name)
        assert threading.current_thread().daemon

    async with in_memory() as runner:
        for _ in range(20):
            await runner.execute(workflow)
            await turn()
    assert len(names) < 10
    await until(lambda: not [thread for thread in threading.enumerate() if thread.name in names])
