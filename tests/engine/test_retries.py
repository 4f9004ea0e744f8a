"""Retries: when they are due, what they cost, that they survive a restart, and when there are none."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

import pytest

from cloacina.errors import PermanentError, TransientError
from cloacina.model.context.context import Context
from cloacina.model.retry import RetryPolicy
from cloacina.model.status import AttemptState, ExecutionStatus, TaskState
from cloacina.model.task import task
from cloacina.model.workflow import Workflow
from cloacina.runner import Runner
from support.clock import HandClock, until
from support.runners import Gate, crashing, in_memory, runner_on

COMPLETED, FAILED = ExecutionStatus.COMPLETED, ExecutionStatus.FAILED


class Flaky:
    """Bodies that raise ``error`` until they were called ``failures`` times."""

    def __init__(self, failures: int, error: BaseException | None = None) -> None:
        self.calls = 0
        self.failures = failures
        self.error = error or ConnectionError("not now")

    async def body(self, ctx: Context) -> None:
        self.calls += 1
        if self.calls <= self.failures:
            raise self.error

    def workflow(self, name: str = "flaky", **policy: Any) -> Workflow:
        return Workflow(name, [task(self.body, id="it", retry=RetryPolicy(**policy))])


def fixed(delay: float = 10.0, attempts: int = 3) -> dict[str, Any]:
    return {"max_attempts": attempts, "initial_delay": delay, "backoff": "fixed", "jitter": 0}


async def play(runner: Runner, clock: HandClock, workflow: Workflow, waits: list[float]) -> list[float]:
    """Run to the end; return the waits, in seconds, that there were."""
    handle = await runner.submit(workflow)
    seen: list[float] = []
    for _ in waits:
        await until(lambda: clock.pending)
        seen.append(clock.pending[0])
        clock.advance(clock.pending[0])
    await handle.result(timeout=20)
    return seen


@pytest.mark.parametrize(
    ("policy", "waits"),
    [
        ({"initial_delay": 2.0, "backoff": "fixed", "jitter": 0}, [2, 2, 2, 2]),
        ({"initial_delay": 2.0, "backoff": "linear", "jitter": 0}, [2, 4, 6, 8]),
        ({"initial_delay": 2.0, "backoff": "exponential", "jitter": 0}, [2, 4, 8, 16]),
        ({"initial_delay": 2.0, "max_delay": 5.0, "jitter": 0}, [2, 4, 5, 5]),
        ({"backoff": lambda n: n / 4, "jitter": 0, "max_delay": 1.0}, [0.25, 0.5, 0.75, 1]),
    ],
)
async def test_each_wait_is_as_long_as_the_policy_says(policy: dict[str, Any], waits: list[float]) -> None:
    flaky, clock = Flaky(4), HandClock()
    async with in_memory(clock=clock) as runner:
        assert await play(runner, clock, flaky.workflow(max_attempts=5, **policy), waits) == waits
    assert flaky.calls == 5


async def test_jitter_is_drawn_from_the_runners_randomness() -> None:
    flaky, clock, draws = Flaky(3), HandClock(), Random(7)
    expected = [4 * (1 + 0.5 * (2 * draws.random() - 1)) for _ in range(3)]
    policy: dict[str, Any] = {"max_attempts": 4, "initial_delay": 4.0, "backoff": "fixed", "jitter": 0.5}
    async with in_memory(clock=clock, randomness=Random(7)) as runner:
        waits = await play(runner, clock, flaky.workflow(**policy), expected)
    assert waits == pytest.approx(expected, abs=1e-6)
    assert len({round(wait, 3) for wait in waits}) == 3


async def test_the_due_time_is_stored(tmp_path: Path) -> None:
    clock = HandClock()
    async with runner_on(tmp_path / "c.db", clock=clock) as runner:
        handle = await runner.submit(Flaky(1).workflow(**fixed(10)))
        await until(lambda: 10 in clock.pending)
        stored = await runner._engine.access.stored(handle.id)
        result = await runner.get(handle.id)
    assert stored is not None
    assert [(row.attempt, row.state, row.retry_at) for row in stored.attempts] == [
        (1, AttemptState.FAILED, clock.now() + 10_000_000)
    ]
    assert result.tasks["it"].state is TaskState.WAITING


async def test_a_wait_holds_no_slot() -> None:
    clock, gate = HandClock(), Gate()
    other = Workflow("other")
    other.task(gate.pass_through, id="it")
    async with in_memory(clock=clock, async_slots=1, window=1) as runner:
        waits = await runner.submit(Flaky(1).workflow(**fixed(10)))
        await until(lambda: clock.pending)
        runs = await runner.submit(other)
        await gate.reached()
        assert (await waits.status(), await runs.status()) == (
            ExecutionStatus.RUNNING,
            ExecutionStatus.RUNNING,
        )
        assert runner.metrics()["loop"].running == 1
        gate.open()
        await runs.result()
        clock.advance(10)
        assert (await waits.result()).status is COMPLETED


@pytest.mark.parametrize("how", ["shutdown", "crash"])
@pytest.mark.parametrize(("away", "still"), [(4, 6), (10, 0), (1000, 0)])
async def test_a_due_time_survives_a_restart(tmp_path: Path, how: str, away: float, still: float) -> None:
    flaky, clock = Flaky(2), HandClock()
    first = runner_on(tmp_path / "c.db", clock=clock)
    async with first if how == "shutdown" else crashing(first):
        handle = await first.submit(flaky.workflow(**fixed(10)))
        await until(lambda: 10 in clock.pending)
    calls, later = flaky.calls, HandClock()
    later.advance(away + (clock.now() - later.now()) / 1e6)
    async with runner_on(tmp_path / "c.db", flaky.workflow(**fixed(10)), clock=later) as runner:
        if still:
            await until(lambda: any(wait == pytest.approx(still) for wait in later.pending))
            assert flaky.calls == calls == 1
            later.advance(still)
        await until(lambda: flaky.calls == 2)
        await until(lambda: 10 in later.pending)
        later.advance(10)
        result = await runner.result(handle.id)
    assert (result.status, result.tasks["it"].attempts) == (COMPLETED, 3)


@pytest.mark.parametrize(
    ("error", "policy", "calls"),
    [
        (PermanentError("no"), {}, 1),
        (PermanentError("no"), {"retry_on": (PermanentError,)}, 1),
        (ValueError(), {"retry_on": "never"}, 1),
        (ValueError(), {"retry_on": "transient"}, 1),
        (TransientError(), {"retry_on": "transient"}, 3),
        (ConnectionResetError(), {"retry_on": "transient"}, 3),
        (ValueError(), {"retry_on": KeyError}, 1),
        (KeyError(), {"retry_on": (ValueError, LookupError)}, 3),
        (ValueError("busy"), {"retry_on": lambda error: "busy" in str(error)}, 3),
        (ValueError("bad"), {"retry_on": lambda error: "busy" in str(error)}, 1),
        (ValueError(), {"retry_on": lambda error: 1 / 0}, 1),
        (ValueError(), {"max_attempts": 1}, 1),
        (ValueError(), {}, 3),
        (ExceptionGroup("both", [ValueError(), PermanentError()]), {}, 1),
    ],
)
async def test_which_errors_are_retried(error: Exception, policy: dict[str, Any], calls: int) -> None:
    flaky, clock = Flaky(99, error), HandClock()
    async with in_memory(clock=clock) as runner:
        await play(runner, clock, flaky.workflow(**{**fixed(1), **policy}), [1.0] * (calls - 1))
        (info,) = await runner.list()
    assert (flaky.calls, info.status) == (calls, FAILED)


async def test_without_a_policy_there_are_three_attempts() -> None:
    flaky, clock = Flaky(99), HandClock()
    async with in_memory(clock=clock) as runner:
        waits = await play(runner, clock, Workflow("plain", [task(flaky.body, id="it")]), [0, 0])
    assert (flaky.calls, waits) == (3, [1.0, 2.0])


async def test_a_wait_of_nothing_needs_no_clock() -> None:
    flaky, clock = Flaky(2), HandClock()
    async with in_memory(clock=clock) as runner:
        result = await runner.execute(flaky.workflow(initial_delay=0, jitter=0), timeout=20)
    assert (result.status, flaky.calls, clock.pending) == (COMPLETED, 3, [])


async def test_every_attempt_sees_the_same_context() -> None:
    clock, seen = HandClock(), list[Any]()
    workflow = Workflow("same")

    @workflow.task(retry=RetryPolicy(**fixed(1)))
    async def it(ctx: Context) -> None:
        seen.append(ctx.to_dict())
        ctx["list"].append(len(seen))
        if len(seen) < 3:
            raise ValueError

    async with in_memory(clock=clock) as runner:
        handle = await runner.submit(workflow, {"list": []})
        for _ in range(2):
            await until(lambda: clock.pending)
            clock.advance(1)
        result = await handle.result()
    assert seen == [{"list": []}] * 3
    assert result.context == {"list": [3]}


async def test_attempts_cut_by_a_shutdown_do_not_count(tmp_path: Path) -> None:
    gates = [Gate() for _ in range(4)]
    calls = iter(gates)
    workflow = Workflow("cut", retry=1)

    @workflow.task
    async def it(ctx: Context) -> None:
        await next(calls).pass_through(ctx)

    id = ""
    for gate in gates[:3]:
        async with runner_on(tmp_path / "c.db", workflow, shutdown_grace=0) as runner:
            id = id or (await runner.submit(workflow)).id
            await gate.reached()
    gates[3].open()
    async with runner_on(tmp_path / "c.db", workflow) as runner:
        result = await runner.result(id)
    assert result.status is COMPLETED
    assert [attempt.state for attempt in result.tasks["it"].history] == [
        *[AttemptState.INTERRUPTED] * 3,
        AttemptState.COMPLETED,
    ]
    assert result.tasks["it"].attempts == 4
