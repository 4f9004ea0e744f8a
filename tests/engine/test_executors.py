"""Executors of the user's own: what they are given, what is asked of them, and what happens when they misbehave."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from cloacina.engine.executors.protocol import ExecutorHost, StartedAttempt, TaskExecutor
from cloacina.errors import RegistrationError, ValidationError
from cloacina.model.context.context import Context
from cloacina.model.retry import RetryPolicy
from cloacina.model.routing.routing import RoutingRule
from cloacina.model.status import AttemptState, ExecutionStatus
from cloacina.model.task import Task, task
from cloacina.model.workflow import Workflow
from cloacina.observe.logs import running
from cloacina.runner import Runner
from cloacina.settings import Settings
from support.clock import HandClock, until
from support.runners import LONG, MEMORY, Even, Gate, lose

COMPLETED, FAILED = ExecutionStatus.COMPLETED, ExecutionStatus.FAILED


class Pool:
    """Runs ``def`` bodies on a pool of threads, as somebody would write it who has read the how-to."""

    made: list[Pool]
    slots = 2

    def __init__(self, host: ExecutorHost) -> None:
        self.host = host
        self.pool = ThreadPoolExecutor(self.slots)
        self.closed = False
        self.seen: list[tuple[str, str, int]] = []

    def start(self, attempt: StartedAttempt) -> None:
        self.seen.append((attempt.workflow, attempt.task, attempt.attempt))
        self.pool.submit(contextvars.Context().run, self.run, attempt)

    def run(self, attempt: StartedAttempt) -> None:
        returned, error = None, None
        try:
            returned = attempt.call()
        except BaseException as caught:
            error = caught
        ending = attempt.conclude(returned, error)
        self.host.post(lambda: attempt.leave() if attempt.ended else attempt.end(ending))

    def stop(self, attempt: StartedAttempt) -> None:
        attempt.write_off()

    async def close(self) -> None:
        self.closed = True
        self.pool.shutdown(wait=False)


class Pools:
    """Makes pools, and keeps them."""

    def __init__(self) -> None:
        self.made: list[Pool] = []

    def __call__(self, host: ExecutorHost) -> TaskExecutor:
        self.made.append(Pool(host))
        return self.made[-1]


def runner(
    *workflows: Workflow, routing: Any = (), clock: HandClock | None = None, **executors: Any
) -> Runner:
    settings = Settings(lease=LONG, loop_block_limit=LONG, shutdown_grace=2.0, thread_slots=1)
    return Runner(
        MEMORY, workflows=workflows, settings=settings, clock=clock or HandClock(), randomness=Even(),
        routing=routing, executors=executors,
    )  # fmt: skip


def one(body: Callable[..., Any], **options: Any) -> Workflow:
    return Workflow("alone", [task(body, **{"id": "it", "executor": "pool", "retry": False, **options})])


def doubles(ctx: Context) -> None:
    ctx["n"] *= 2


async def test_it_runs_bodies() -> None:
    pools = Pools()
    async with runner(pool=pools) as one_runner:
        result = await one_runner.execute(one(doubles), {"n": 21}, timeout=20)
        assert (result.status, result.context["n"]) == (COMPLETED, 42)
        (pool,) = pools.made
        assert pool.seen == [("alone", "it", 1)]
        metrics = one_runner.metrics()
    assert list(metrics) == ["loop", "threads", "process", "pool"]
    found = metrics["pool"]
    assert (found.slots, found.started, found.ended, found.running, found.waiting) == (2, 1, 1, 0, 0)
    assert metrics["threads"].started == 0
    assert pool.closed


async def test_it_is_given_what_it_needs_of_its_runner() -> None:
    pools, policy = Pools(), RetryPolicy(max_attempts=7)
    found: list[Any] = []

    async with runner(pool=pools) as one_runner:
        (pool,) = pools.made
        start = pool.start

        def looks(attempt: StartedAttempt) -> None:
            found.append((pool.host.policy(attempt), attempt.task_object.id, attempt.stopping, attempt.ended))
            start(attempt)

        pool.start = looks  # type: ignore[method-assign]
        await one_runner.execute(one(doubles, retry=policy), {"n": 1}, timeout=20)
        assert (pool.host.settings.thread_slots, pool.host.limits.depth) == (1, 100)
    assert found == [(policy, "it", None, False)]


async def test_its_own_slots_bound_it() -> None:
    gate, free = Gate(), Gate()
    free.open()
    holds = Workflow("holds", [task(gate.pass_on_thread, id=f"t{n}", executor="pool") for n in range(5)])
    async with runner(pool=Pools()) as one_runner:
        handle = await one_runner.submit(holds)
        await gate.reached(2)
        assert one_runner.metrics()["pool"].waiting == 3
        assert "free slot" in (await one_runner.explain(handle.id)).tasks["t4"]
        other = Workflow("other", [task(free.pass_on_thread, id="it")])
        assert (await one_runner.execute(other, timeout=20)).status is COMPLETED
        assert gate.entered == 2
        gate.open()
        assert (await handle.result(timeout=20)).status is COMPLETED


async def test_bodies_there_log_nest_and_have_checkpoints_as_anywhere() -> None:
    child, seen = Workflow("child", [task(doubles, id="it")]), list[Any]()

    def body(ctx: Context) -> None:
        seen.append(running.get())
        seen.append(ctx.checkpoint("once", lambda: 5))
        result = one_runner.blocking.execute(child, {"n": 4}, timeout=20)
        ctx["n"] = result.context["n"]

    async with runner(pool=Pools()) as one_runner:
        result = await one_runner.execute(one(body), timeout=20)
    assert (result.status, result.context["n"], seen[1]) == (COMPLETED, 8, 5)
    assert (seen[0].task, seen[0].attempt, seen[0].execution) == ("it", 1, result.id)


async def test_a_body_that_times_out_there_is_written_off_and_its_retry_waits_for_it() -> None:
    gate, clock = Gate(), HandClock()
    policy = RetryPolicy(max_attempts=2, initial_delay=1, jitter=0)
    async with runner(clock=clock, pool=Pools()) as one_runner:
        handle = await one_runner.submit(one(gate.pass_on_thread, timeout=5, retry=policy))
        await gate.reached()
        clock.advance(5)
        await until(lambda: one_runner.metrics()["pool"].written_off)
        await until(lambda: 1.0 in clock.pending, "the retry's timer")
        clock.advance(1)
        gate.open()
        result = await handle.result(timeout=20)
    assert [row.state for row in result.tasks["it"].history] == [
        AttemptState.TIMED_OUT,
        AttemptState.COMPLETED,
    ]


async def test_a_lost_life_gets_an_executor_of_its_own() -> None:
    pools = Pools()
    async with runner(pool=pools) as one_runner:
        await one_runner.execute(one(doubles), {"n": 1}, timeout=20)
        lose(one_runner)
        await until(lambda: len(pools.made) == 2)
        assert (await one_runner.execute(one(doubles), {"n": 2}, timeout=20)).context["n"] == 4
        await until(lambda: pools.made[0].closed)
        assert not pools.made[1].closed


class Broken(Pool):
    def start(self, attempt: StartedAttempt) -> None:
        raise OSError("no room")


async def test_an_executor_that_cannot_start_a_body_fails_the_attempt() -> None:
    async with runner(pool=Broken) as one_runner:
        result = await one_runner.execute(one(doubles), {"n": 1}, timeout=20)
        assert str(result.tasks["it"].error) == "OSError: no room"
        assert one_runner.metrics()["pool"].running == 0


async def test_an_executor_that_cannot_be_made_stops_the_start() -> None:
    def fails(host: ExecutorHost) -> TaskExecutor:
        raise RuntimeError("says the test")

    with pytest.raises(RuntimeError, match="says the test"):
        await runner(pool=fails).start()


class Picky(Pool):
    @staticmethod
    def check(task: Task, policy: RetryPolicy) -> None:
        if task.is_async:
            raise ValidationError("it runs no async bodies")


async def test_it_may_refuse_a_task_when_the_workflow_is_registered() -> None:
    async def body(ctx: Context) -> None: ...

    async with runner(pool=Picky) as one_runner:
        with pytest.raises(RegistrationError, match="executor='pool' sends it: it runs no async bodies"):
            await one_runner.submit(one(body))
        assert (await one_runner.execute(one(doubles), {"n": 1}, timeout=20)).status is COMPLETED


async def test_rules_send_tasks_to_it() -> None:
    pools, routing = Pools(), [RoutingRule("*::heavy::*", "pool"), RoutingRule("*", "local")]
    async with runner(pool=pools, routing=routing) as one_runner:
        for name in ("heavy", "light"):
            workflow = Workflow(name, [task(doubles, id="it", executor="pool")])
            assert (await one_runner.execute(workflow, {"n": 1}, timeout=20)).status is COMPLETED
    assert pools.made[0].seen == [("heavy", "it", 1)]


@pytest.mark.parametrize(
    ("executors", "told"),
    [
        ({"local": Pool}, "'local' is built in"),
        ({"process": Pool}, "'process' is built in"),
        ({"a b": Pool}, "cannot name an executor"),
        ({7: Pool}, "an executor needs a name"),
        ({"pool": Pool.__dict__}, "which makes no executor"),
        ([Pool], "is no mapping"),
    ],
)
def test_executors_that_are_none_are_refused(executors: Any, told: str) -> None:
    with pytest.raises(ValidationError, match="executor") as caught:
        Runner(MEMORY, executors=executors)
    assert told in str(caught.value)


async def test_what_is_no_executor_is_refused_at_the_start() -> None:
    class Half:
        slots = 1

        def __init__(self, host: object) -> None: ...
        def start(self, attempt: object) -> None: ...

    with pytest.raises(ValidationError, match="what 'pool' makes is no executor: Half has no stop, close"):
        await runner(pool=Half).start()


async def test_an_unknown_executor_is_refused_when_the_workflow_is_registered() -> None:
    with pytest.raises(
        RegistrationError, match=r"no executor 'pol' \(known: .*, pool\).*Did you mean 'pool'"
    ):
        await runner(one(doubles, executor="pol"), pool=Pool).start()
    with pytest.raises(ValidationError, match="no executor 'pol'"):
        runner(pool=Pool, routing=[RoutingRule("*", "pol")])


async def test_a_high_priority_comes_first_at_each_executor() -> None:
    gate, order = Gate(), list[int]()

    def body(ctx: Context) -> None:
        order.append(ctx["n"])

    class Single(Pool):
        slots = 1

    holds = Workflow("holds", [task(gate.pass_on_thread, id="it", executor="pool")])
    async with runner(pool=Single) as one_runner:
        first = await one_runner.submit(holds)
        await gate.reached()
        handles = [await one_runner.submit(one(body), {"n": n}, priority=n % 3) for n in range(6)]
        gate.open()
        await asyncio.gather(*(handle.result(timeout=20) for handle in [first, *handles]))
    assert order == [2, 5, 1, 4, 0, 3]
