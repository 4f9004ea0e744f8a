"""Bodies in processes of their own: what they do to themselves strikes one attempt and nothing else."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cloacina.model.retry import RetryPolicy
from cloacina.model.status import AttemptState, ExecutionStatus, Reason
from cloacina.model.task import task
from cloacina.model.workflow import Workflow
from cloacina.observe.logs import init_logging
from cloacina.runner import Runner
from support import process_bodies as bodies
from support.clock import HandClock, until
from support.runners import in_memory, runner_on

COMPLETED, FAILED = ExecutionStatus.COMPLETED, ExecutionStatus.FAILED
AT_ONCE = RetryPolicy(max_attempts=3, initial_delay=0, jitter=0)


def one(body: Any, **options: Any) -> Workflow:
    return Workflow("alone", [task(body, id="it", executor="process", **{"retry": False, **options})])


async def error_of(runner: Runner, workflow: Workflow, input: Any = None) -> str:
    result = await runner.execute(workflow, input, timeout=60)
    assert result.status is FAILED, result
    return str(result.tasks["it"].error)


async def fine(runner: Runner) -> int:
    """A body that runs well; its process."""
    result = await runner.execute(Workflow("fine", [task(bodies.says_pid, executor="process")]), timeout=60)
    assert result.status is COMPLETED, result
    return int(result.context["pid"])


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    """However a test ends its runner: no file descriptor and no thread of its children is left."""
    before = len(list(Path("/proc/self/fd").iterdir()))
    yield
    assert len(list(Path("/proc/self/fd").iterdir())) <= before
    for thread in threading.enumerate():
        if thread.name == "cloacina-child":  # has reported the end of its child, and ends itself
            thread.join(20)
            assert not thread.is_alive()


# What goes in and comes out.


@pytest.mark.parametrize("body", [bodies.says_pid, bodies.says_pid_async])
async def test_a_body_runs_in_another_process_which_is_used_again(body: Any) -> None:
    async with in_memory(process_slots=1) as runner:
        pids = {(await runner.execute(one(body), timeout=60)).context["pid"] for _ in range(5)}
        assert len(pids) == 1
        assert os.getpid() not in pids


async def test_the_context_goes_there_and_back() -> None:
    given = {
        "list": [1],
        "object": {"old": "é"},
        "gone": 0,
        "number": -(2**100),
        "text": "a\x1f",
        "kept": 0.1,
    }
    async with in_memory() as runner:
        result = await runner.execute(one(bodies.touches_everything), given, timeout=60)
    assert result.context.to_dict() == {
        "list": [1, 1],
        "object": {"old": "é", "new": {"deep": [1.5, None, True]}},
        "number": 2**200 - 2**100,
        "text": "a\x1f\u2028🦀",
        "kept": 0.1,
    }


async def test_a_huge_context_goes_there_and_back() -> None:
    given = {f"given{n}": f"{n}" + "ü" * 240_000 for n in range(4)}
    async with in_memory() as runner:
        result = await runner.execute(one(bodies.grows), given, timeout=60)
    assert result.status is COMPLETED, result
    assert [result.context[f"made{n}"] for n in range(4)] == [text[::-1] for text in given.values()]


async def test_a_body_sees_what_the_execution_was_started_with() -> None:
    first = task(bodies.forgets_n, id="a")
    second = task(bodies.reads_input, id="b", dependencies=["a"], executor="process", retry=False)
    async with in_memory() as runner:
        result = await runner.execute(Workflow("input", [first, second]), {"n": 7}, timeout=60)
        alone = await runner.execute(one(bodies.reads_input), {"n": 5}, timeout=60)
    assert (result.context["was"], alone.context["was"]) == (7, 5)


async def test_what_it_prints_goes_where_the_runner_prints(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)
    async with in_memory(process_slots=1) as runner:
        for _ in range(2):
            assert (await runner.execute(one(bodies.prints), timeout=60)).status is COMPLETED
        printed = capfd.readouterr()  # before the process ends
    for text in ("by print", "by write"):
        assert printed.out.count(text) == 2
    assert "by puts" in printed.out + capfd.readouterr().out
    assert printed.err.count("to stderr") == 2


async def test_what_it_logs_says_whose_it_is(capfd: pytest.CaptureFixture[str]) -> None:
    import logging

    root = logging.getLogger()
    level, handler = root.level, init_logging("INFO")
    try:
        async with in_memory() as runner:
            result = await runner.execute(one(bodies.logs), timeout=60)
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
    assert f"WARNING mine [alone/it#1 {result.id}] said in a child" in capfd.readouterr().err


async def test_many_run_at_once_and_no_more_than_there_are_slots() -> None:
    wide = Workflow("wide", [task(bodies.says_pid, id=f"t{n}", executor="process") for n in range(50)])
    async with in_memory(process_slots=3) as runner:
        result = await runner.execute(wide, timeout=60)
        assert result.status is COMPLETED
        metrics = runner.metrics()["process"]
        assert (metrics.slots, metrics.started, metrics.ended, metrics.running) == (3, 50, 50, 0)
        executor: Any = runner._engine.life.dispatcher.lanes["process"].executor
        assert 1 <= len(executor._children) <= 3


# Crashes.

CRASHES = [
    (bodies.segfaults, {}, "killed by SIGSEGV"),
    (bodies.aborts, {}, "killed by SIGABRT"),
    (bodies.is_signalled, {"signal": "SIGKILL"}, "killed by SIGKILL, perhaps because memory ran out"),
    (bodies.is_signalled, {"signal": "SIGBUS"}, "killed by SIGBUS"),
    (bodies.exits, {"code": 3}, "ended with exit code 3"),
    (bodies.exits, {"code": 0}, "ended with exit code 0"),
    (bodies.writes_into_every_descriptor, {}, "file descriptor that was not its own"),
]


@pytest.mark.parametrize(
    ("body", "input", "told"), CRASHES, ids=lambda value: getattr(value, "__name__", None)
)
async def test_a_crash_fails_one_attempt_and_says_how(
    body: Any, input: dict[str, Any], told: str, capfd: pytest.CaptureFixture[str]
) -> None:
    async with in_memory(process_slots=1) as runner:
        before = await fine(runner)
        error = await error_of(runner, one(body), input)
        assert await fine(runner) != before
    assert error.startswith("cloacina.errors.ProcessCrashed: the process of task 'it' of workflow 'alone'")
    assert told in error


async def test_a_process_whose_wire_was_closed_by_its_body_is_killed() -> None:
    clock = HandClock()
    async with in_memory(clock=clock, cancel_grace=3) as runner:
        running = asyncio.ensure_future(error_of(runner, one(bodies.closes_every_descriptor)))
        await until(lambda: 3.0 in clock.pending, "the loss of the wire")
        clock.advance(3)
        assert "file descriptor that was not its own" in await running
        await fine(runner)


async def test_one_crashing_task_among_two_hundred(capfd: pytest.CaptureFixture[str]) -> None:
    async with in_memory(process_slots=2) as runner:
        workflow = one(bodies.crashes_if_told)
        results = await asyncio.gather(
            *(runner.execute(workflow, {"crashes": n == 77}, timeout=100) for n in range(201))
        )
    assert [n for n, result in enumerate(results) if result.status is not COMPLETED] == [77]


@pytest.mark.parametrize(
    ("retry_on", "attempts"), [("all", 2), ("transient", 2), ("never", 1), ((KeyError,), 1)]
)
async def test_a_crash_is_retried_as_something_that_may_pass(
    retry_on: Any, attempts: int, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    policy = RetryPolicy(initial_delay=0, jitter=0, retry_on=retry_on)
    async with in_memory(process_slots=1) as runner:
        await fine(runner)  # so that its process is one that was used before
        result = await runner.execute(
            one(bodies.crashes_once, retry=policy), {"mark": f"{tmp_path / 'mark'}"}, timeout=60
        )
    assert result.tasks["it"].attempts == attempts
    assert result.status is (COMPLETED if attempts == 2 else FAILED)


async def test_a_body_without_memory_takes_nothing_else_down() -> None:
    async with in_memory(process_slots=1) as runner:
        assert await error_of(runner, one(bodies.is_out_of_memory)) == "MemoryError"
        await fine(runner)


async def test_an_idle_process_that_was_killed_fails_nobody() -> None:
    async with in_memory(process_slots=1) as runner:
        for _ in range(5):
            pid = await fine(runner)
            os.kill(pid, signal.SIGKILL)
            assert await fine(runner) != pid


async def test_a_process_that_dies_just_before_it_gets_work_fails_nobody() -> None:
    async with in_memory(process_slots=1) as runner:
        pid = await fine(runner)
        os.kill(pid, signal.SIGSTOP)
        running = asyncio.ensure_future(fine(runner))
        await until(lambda: runner.metrics()["process"].started == 2, "the attempt's start")
        os.kill(pid, signal.SIGKILL)
        assert await running != pid


@pytest.mark.parametrize("crashes", [True, False])
async def test_what_a_body_started_ends_with_it(
    crashes: bool, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    fifo, begun, clock = tmp_path / "fifo", tmp_path / "begun", HandClock()
    os.mkfifo(fifo)
    held = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    async with in_memory(clock=clock) as runner:
        handle = await runner.submit(
            one(bodies.starts_another, timeout=5),
            {"fifo": f"{fifo}", "begun": f"{begun}", "crashes": crashes},
        )
        await until(begun.exists)
        if not crashes:
            await until(lambda: 5.0 in clock.pending)
            clock.advance(5)
        assert (await handle.result(timeout=60)).status is FAILED
        await until(lambda: ends(held), "the end of what the body started")
    os.close(held)


def ends(reader: int) -> bool:
    """True if nobody holds the other end open any more."""
    try:
        return not os.read(reader, 1)
    except BlockingIOError:
        return False


# Errors.


@pytest.mark.parametrize("name", bodies.ERRORS)
@pytest.mark.parametrize("body", [bodies.raises, bodies.raises_async])
async def test_whatever_a_body_raises_fails_the_attempt(name: str, body: Any, tmp_path: Path) -> None:
    async with in_memory(process_slots=1) as runner:
        pid = await fine(runner)
        result = await runner.execute(
            one(body), {"error": name, "calls": f"{tmp_path / 'calls'}"}, timeout=60
        )
        assert await fine(runner) == pid
    error = result.tasks["it"].error
    assert result.status is FAILED and error is not None
    assert all(len(text.encode()) <= 8192 for text in (error.type, error.message, error.traceback))
    if name != "10 MB":
        assert "process_bodies.py" in error.traceback
    if (
        name != "StopIteration"
    ):  # which cannot leave a coroutine, and becomes the cause of a RuntimeError there
        assert "engine/executors" not in error.traceback


ATTEMPTS: list[tuple[Any, str, int]] = [
    ("all", "ValueError", 3),
    ("all", "PermanentError", 1),
    ("all", "KeyboardInterrupt", 1),
    ("all", "unpicklable", 3),
    ("transient", "ValueError", 1),
    ("transient", "ConnectionError", 3),
    ("transient", "TransientError", 3),
    ((KeyError, ConnectionError), "KeyError", 3),
    ((KeyError, ConnectionError), "ConnectionError", 3),
    ((KeyError, ConnectionError), "ValueError", 1),
    ((ValueError,), "group", 3),
    ((KeyError,), "group", 1),
    ((bodies.Unpicklable,), "unpicklable", 3),
    (bodies.is_value_error, "ValueError", 3),
    (bodies.is_value_error, "KeyError", 1),
    (bodies.refuses_to_say, "KeyError", 1),
]


@pytest.mark.parametrize(("retry_on", "error", "attempts"), ATTEMPTS)
async def test_the_policy_is_asked_where_the_error_is(
    retry_on: Any, error: str, attempts: int, tmp_path: Path
) -> None:
    policy = RetryPolicy(initial_delay=0, jitter=0, retry_on=retry_on)
    calls = tmp_path / "calls"
    async with in_memory() as runner:
        result = await runner.execute(
            one(bodies.raises, retry=policy), {"error": error, "calls": f"{calls}"}, timeout=60
        )
    assert (len(calls.read_text()), result.tasks["it"].attempts) == (attempts, attempts)
    assert "Not retried" in str(result.tasks["it"].error and result.tasks["it"].error.traceback) or (
        retry_on is not bodies.refuses_to_say
    )


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (bodies.returns_something, "task 'it' of workflow 'alone' returned int"),
        (bodies.leaves_a_coroutine, "returned a coroutine that nobody awaited"),
        (bodies.keeps_what_cannot_be_stored, "cannot store list[0]"),
    ],
)
async def test_what_a_body_must_not_return_or_keep(body: Any, told: str) -> None:
    async with in_memory() as runner:
        assert told in await error_of(runner, one(body), {"list": []})


async def test_writes_are_enforced() -> None:
    async with in_memory() as runner:
        error = await error_of(runner, one(bodies.says_pid, writes=["other"]))
    assert "changed 'pid', which its writes= does not name" in error


async def test_a_module_that_a_child_cannot_import_fails_the_attempt_and_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = tmp_path / "vanishing_module.py"
    module.write_text("def body(ctx): pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    import vanishing_module  # type: ignore[import-not-found]

    module.unlink()
    async with in_memory(process_slots=1) as runner:
        result = await runner.execute(one(vanishing_module.body, retry=AT_ONCE), timeout=60)
        await fine(runner)
    error = result.tasks["it"].error
    assert error is not None and result.tasks["it"].attempts == 1
    assert error.message == (
        "vanishing_module.body could not be loaded in the child process: "
        "ModuleNotFoundError: No module named 'vanishing_module'"
    )


# Being stopped.


@pytest.mark.parametrize("body", [bodies.loops, bodies.sleeps, bodies.tidies, bodies.tidies_async])
@pytest.mark.parametrize("how", ["timeout", "cancel"])
async def test_a_body_is_told_to_stop_and_may_tidy_up(body: Any, how: str, tmp_path: Path) -> None:
    """The clock stands still after that, so that nobody is killed."""
    begun, tidied, clock = tmp_path / "begun", tmp_path / "tidied", HandClock()
    async with in_memory(clock=clock, process_slots=1) as runner:
        handle = await runner.submit(one(body, timeout=5), {"begun": f"{begun}", "tidied": f"{tidied}"})
        await until(begun.exists)
        await until(lambda: 5.0 in clock.pending)
        if how == "timeout":
            clock.advance(5)
            result = await handle.result(timeout=60)
            assert result.tasks["it"].history[0].state is AttemptState.TIMED_OUT
            assert "ran longer than its timeout of 5.0s" in str(result.tasks["it"].error)
        else:
            assert await handle.cancel() is ExecutionStatus.CANCELLED
        await fine(runner)
        assert tidied.exists() is (body in (bodies.tidies, bodies.tidies_async))


async def test_bodies_that_loop_in_every_slot_hold_up_the_others_no_longer_than_their_timeout() -> None:
    clock = HandClock()
    async with in_memory(clock=clock, process_slots=2, cancel_grace=1.0) as runner:
        stuck = [await runner.submit(one(bodies.loops_whatever_comes, timeout=5)) for _ in range(2)]
        others = [asyncio.ensure_future(fine(runner)) for _ in range(20)]
        await until(lambda: clock.pending.count(5.0) == 2, "both loops")
        assert runner.metrics()["process"].waiting == 20
        clock.advance(5)
        clock.advance(1)
        assert len(await asyncio.gather(*others)) == 20
        assert {(await handle.result(timeout=60)).status for handle in stuck} == {FAILED}


async def test_a_body_that_tidies_up_is_not_disturbed_again(tmp_path: Path) -> None:
    begun, tidying, go, tidied = (tmp_path / name for name in ("begun", "tidying", "go", "tidied"))
    clock = HandClock()
    async with in_memory(clock=clock, process_slots=1) as runner:
        handle = await runner.submit(
            one(bodies.tidies_slowly, timeout=5),
            {"begun": f"{begun}", "tidying": f"{tidying}", "go": f"{go}", "tidied": f"{tidied}"},
        )
        await until(begun.exists)
        await until(lambda: 5.0 in clock.pending)
        clock.advance(5)
        await until(tidying.exists, "the body's tidying up")
        assert await handle.cancel() is ExecutionStatus.CANCELLED
        os.kill(int(begun.read_text()), signal.SIGTERM)
        go.touch()
        await fine(runner)
        assert tidied.exists()


async def test_a_process_that_a_body_keeps_from_ending_gets_no_more_work(tmp_path: Path) -> None:
    begun, clock = tmp_path / "begun", HandClock()
    async with in_memory(clock=clock, process_slots=1, cancel_grace=0.5) as runner:
        handle = await runner.submit(one(bodies.leaves_a_thread, timeout=5), {"begun": f"{begun}"})
        await until(begun.exists)
        await until(lambda: 5.0 in clock.pending)
        clock.advance(5)
        assert (await handle.result(timeout=60)).status is FAILED
        await fine(runner)


@pytest.mark.parametrize("body", [bodies.loops_whatever_comes, bodies.holds_all_threads_up])
@pytest.mark.parametrize("grace", [0.0, 2.0])
async def test_a_body_that_does_not_stop_is_killed(body: Any, grace: float, tmp_path: Path) -> None:
    begun, clock = tmp_path / "begun", HandClock()
    async with in_memory(clock=clock, process_slots=1, cancel_grace=grace) as runner:
        handle = await runner.submit(one(body, timeout=5), {"begun": f"{begun}"})
        await until(begun.exists)
        await until(lambda: 5.0 in clock.pending)
        clock.advance(5)
        clock.advance(grace)
        result = await handle.result(timeout=60)
        assert result.tasks["it"].history[0].state is AttemptState.TIMED_OUT
        await fine(runner)


async def test_a_body_that_timed_out_is_tried_again(tmp_path: Path) -> None:
    """Its process is gone, so that nothing of it is left for the retry to wait for."""
    begun, clock = tmp_path / "begun", HandClock()
    async with in_memory(clock=clock) as runner:
        handle = await runner.submit(one(bodies.sleeps_once, timeout=5, retry=AT_ONCE), {"begun": f"{begun}"})
        await until(begun.exists)
        await until(lambda: 5.0 in clock.pending)
        clock.advance(5)
        result = await handle.result(timeout=60)
    assert result.status is COMPLETED
    assert [str(attempt.state) for attempt in result.tasks["it"].history] == ["timed_out", "completed"]


async def test_the_time_to_load_a_body_does_not_count(tmp_path: Path) -> None:
    """The child is stopped before it can begin, while an hour goes by."""
    begun, go, clock = tmp_path / "begun", tmp_path / "go", HandClock()
    async with in_memory(clock=clock, process_slots=1) as runner:
        pid = await fine(runner)
        os.kill(pid, signal.SIGSTOP)
        handle = await runner.submit(one(bodies.waits_for, timeout=5), {"begun": f"{begun}", "go": f"{go}"})
        await until(lambda: runner.metrics()["process"].started == 2)
        clock.advance(200)
        os.kill(pid, signal.SIGCONT)
        await until(begun.exists)
        go.touch()
        assert (await handle.result(timeout=60)).status is COMPLETED


async def test_a_signal_to_everybody_does_not_stop_a_body() -> None:
    async with in_memory(process_slots=1) as runner:
        pid = await fine(runner)
        assert (await runner.execute(one(bodies.ignores_strangers), timeout=60)).status is COMPLETED
        assert await fine(runner) == pid


async def test_what_was_cut_at_the_end_runs_again_with_the_next_runner(tmp_path: Path) -> None:
    begun, go = tmp_path / "begun", tmp_path / "go"
    workflow, path = one(bodies.waits_for), tmp_path / "cut.db"
    async with runner_on(path, workflow, shutdown_grace=0.0) as runner:
        handle = await runner.submit(workflow, {"begun": f"{begun}", "go": f"{go}"})
        await until(begun.exists)
    go.touch()
    async with runner_on(path, workflow) as runner:
        result = await runner.result(handle.id, timeout=60)
    assert [(row.state, row.reason) for row in result.tasks["it"].history] == [
        (AttemptState.INTERRUPTED, Reason.SHUTDOWN),
        (AttemptState.COMPLETED, None),
    ]


async def test_a_shutdown_lets_a_body_end_and_kills_what_does_not(tmp_path: Path) -> None:
    begun, go = tmp_path / "begun", tmp_path / "go"
    both = Workflow(
        "both",
        [
            task(bodies.waits_for, id="ends", executor="process"),
            task(bodies.loops_whatever_comes, id="stuck", executor="process"),
        ],
    )
    path = tmp_path / "both.db"
    async with runner_on(path, both, process_slots=2, shutdown_grace=1.0, cancel_grace=0.1) as runner:
        handle = await runner.submit(both, {"begun": f"{begun}", "go": f"{go}"})
        await until(begun.exists)
        await until(lambda: runner.metrics()["process"].running == 2)
        go.touch()
    async with runner_on(path) as runner:
        states = {
            name: found.history[-1].state for name, found in (await runner.get(handle.id)).tasks.items()
        }
    assert states == {"ends": AttemptState.COMPLETED, "stuck": AttemptState.INTERRUPTED}


async def test_a_life_that_was_lost_kills_its_bodies_and_the_next_one_goes_on(tmp_path: Path) -> None:
    from support.runners import lose

    begun, go = tmp_path / "begun", tmp_path / "go"
    async with in_memory(process_slots=1) as runner:
        handle = await runner.submit(one(bodies.waits_for), {"begun": f"{begun}", "go": f"{go}"})
        await until(begun.exists)
        lose(runner)
        await until(lambda: runner._engine._former, "the next life")
        go.touch()
        assert (await handle.result(timeout=60)).status is COMPLETED


# Children come and go.


async def test_a_process_is_replaced_after_as_many_attempts_as_the_settings_say() -> None:
    async with in_memory(process_slots=1, process_attempts=2) as runner:
        pids = [await fine(runner) for _ in range(6)]
    assert pids[::2] == pids[1::2]
    assert len(set(pids)) == 3


async def test_a_process_without_work_ends_after_a_while() -> None:
    clock = HandClock()
    async with in_memory(clock=clock, process_slots=1, process_idle=60.0) as runner:
        executor: Any = runner._engine.life.dispatcher.lanes["process"].executor
        pid = await fine(runner)
        clock.advance(60)
        assert await fine(runner) == pid
        clock.advance(59)
        assert await fine(runner) == pid
        clock.advance(2)
        assert await fine(runner) == pid
        clock.advance(119)
        await until(lambda: not executor._children, "the end of the process")
        assert not [due for due in clock.pending if due <= 60]
        assert await fine(runner) != pid


async def test_a_body_that_forks_and_returns_twice_completes_once() -> None:
    async with in_memory(process_slots=1) as runner:
        pid = await fine(runner)
        assert (await runner.execute(one(bodies.forks), timeout=60)).context["pid"] == pid
        assert await fine(runner) == pid


async def test_a_body_may_close_its_streams() -> None:
    async with in_memory(process_slots=1) as runner:
        assert (await runner.execute(one(bodies.closes_its_streams), timeout=60)).status is COMPLETED
        await fine(runner)


# Checkpoints.


@pytest.mark.parametrize("body", [bodies.checkpoints, bodies.checkpoints_async])
async def test_a_checkpoint_is_made_once(
    body: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    calls = tmp_path / "calls"
    async with in_memory() as runner:
        result = await runner.execute(
            one(body, retry=AT_ONCE),
            {"number": 1, "calls": f"{calls}", "mark": f"{tmp_path / 'mark'}"},
            timeout=60,
        )
    assert (result.status, result.context["made"], result.tasks["it"].attempts) == (COMPLETED, 2, 2)
    assert calls.read_text() == "x"


async def test_a_checkpoint_that_cannot_be_stored_fails_the_attempt_for_good(tmp_path: Path) -> None:
    calls = tmp_path / "calls"
    async with in_memory() as runner:
        error = await error_of(runner, one(bodies.checkpoints_badly, retry=AT_ONCE), {"calls": f"{calls}"})
    assert "what its function returned cannot be stored" in error
    assert calls.read_text() == "x"
