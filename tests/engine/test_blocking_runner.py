"""The blocking runner on a real database: as a context manager, inside bodies, beside a `Runner`, interrupted."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Iterator

import pytest

from cloacina import (
    BlockingRunner,
    Context,
    ExecutionFailed,
    ExecutionStatus,
    ResultTimeout,
    Runner,
    Settings,
    TaskState,
    Workflow,
)
from cloacina.errors import ExecutionNotFound, RunnerClosed, ValidationError, WrongThread
from support.script import Script

MEMORY = "sqlite://:memory:"
ONE_THREAD = Settings(thread_slots=1)

double = Workflow("double")


@double.task
async def multiply(ctx: Context) -> None:
    ctx["number"] = 2 * ctx["number"]


fails = Workflow("fails", retry=False)


@fails.task
def fail(ctx: Context) -> None:
    raise ValueError("no")


class Gate:
    """A workflow whose one body waits until the test lets it end."""

    def __init__(self) -> None:
        self.began, self.opened = threading.Event(), threading.Event()
        self.workflow = Workflow("gate", retry=False)

        @self.workflow.task
        def wait(ctx: Context) -> None:
            self.began.set()
            self.opened.wait()


@pytest.fixture
def gate() -> Iterator[Gate]:
    gate = Gate()
    yield gate
    gate.opened.set()


@pytest.fixture
def runner() -> Iterator[BlockingRunner]:
    with BlockingRunner(MEMORY, workflows=[double, fails], settings=ONE_THREAD) as runner:
        yield runner


def test_it_does_what_a_runner_does(runner: BlockingRunner, gate: Gate) -> None:
    result = runner.execute("double", {"number": 4}, tags=["even"])
    assert (result.status, result.context["number"]) == (ExecutionStatus.COMPLETED, 8)
    with pytest.raises(ExecutionFailed):
        runner.execute(fails, raise_on_failure=True)

    handle = runner.submit(gate.workflow, key="once")
    assert runner.submit(gate.workflow, key="once").id == handle.id
    gate.began.wait()
    assert handle.status() is ExecutionStatus.RUNNING
    assert "attempt 1" in runner.explain(handle.id).tasks["wait"]
    assert sum(one.running for one in runner.metrics().values()) == 1
    with pytest.raises(ResultTimeout):
        handle.result(timeout=0.001)
    gate.opened.set()
    assert handle.result().status is ExecutionStatus.COMPLETED
    assert handle.cancel() is ExecutionStatus.COMPLETED

    many = runner.submit_many("double", [{"number": number} for number in range(5)])
    assert [one.result().context["number"] for one in many] == [0, 2, 4, 6, 8]
    assert runner.get(result.id).context.to_dict() == {"number": 8}
    assert [info.id for info in runner.list(tag="even")] == [result.id]
    assert runner.handle(result.id).status() is ExecutionStatus.COMPLETED
    with pytest.raises(ExecutionNotFound):
        runner.status("nobody")
    assert len(runner.id) == 36


def test_a_runner_that_cannot_start_leaves_no_thread() -> None:
    with pytest.raises(ValidationError), BlockingRunner("mysql://nowhere"):
        pass
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("cloacina-loop")]


def test_it_is_closed_before_and_after() -> None:
    runner = BlockingRunner(MEMORY)
    with pytest.raises(RunnerClosed, match="with BlockingRunner"):
        runner.execute(double, {"number": 1})
    with runner:
        pass
    runner.shutdown()
    with pytest.raises(RunnerClosed):
        runner.execute(double, {"number": 1})
    with pytest.raises(RunnerClosed), runner:
        pass


async def test_a_cell_of_a_notebook_may_use_it() -> None:
    """There a loop runs in the thread already."""
    with BlockingRunner(MEMORY) as runner:
        assert runner.execute(double, {"number": 2}).context["number"] == 4


def parent_of(runner: BlockingRunner, name: str = "parent") -> Workflow:
    parent = Workflow(name, retry=False)

    @parent.task
    def ask(ctx: Context) -> None:
        ctx["answer"] = runner.execute(child, {"number": 21}).context["number"]

    return parent


child = Workflow("child", retry=False)


@child.task
def on_a_thread(ctx: Context) -> None:
    ctx["number"] = 2 * ctx["number"]


def test_a_body_that_waits_for_a_child_gives_up_its_slot(runner: BlockingRunner) -> None:
    """There is one slot for ``def`` bodies; else the child would wait for its parent for ever."""
    assert runner.execute(parent_of(runner)).context["answer"] == 42


async def test_beside_a_runner_a_body_gives_up_its_slot_too() -> None:
    async with Runner(MEMORY, settings=ONE_THREAD) as runner:
        result = await runner.execute(parent_of(runner.blocking))
    assert result.context["answer"] == 42


async def test_beside_a_runner_other_threads_call_and_its_own_may_not() -> None:
    async with Runner(MEMORY) as runner:
        blocking = runner.blocking
        with pytest.raises(WrongThread, match="await the Runner"):
            blocking.execute(double, {"number": 3})
        with pytest.raises(WrongThread):
            blocking.handle("x")
        result = await asyncio.to_thread(blocking.execute, double, {"number": 3})
        assert result.context["number"] == 6
    with pytest.raises(RunnerClosed):
        await asyncio.to_thread(blocking.execute, double, {"number": 3})


def test_an_async_body_may_not_block_the_loop_that_runs_it(runner: BlockingRunner) -> None:
    wrong = Workflow("wrong", retry=False)

    @wrong.task
    async def ask(ctx: Context) -> None:
        runner.execute(double, {"number": 1})

    error = runner.execute(wrong).tasks["ask"].error
    assert error is not None
    assert error.type.endswith("WrongThread")
    assert "asyncio.to_thread" in error.message


def test_threads_share_one_runner(runner: BlockingRunner) -> None:
    found: list[int] = []
    threads = [
        threading.Thread(
            target=lambda n=n: found.append(runner.execute("double", {"number": n}).context["number"])
        )
        for n in range(10)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == [2 * n for n in range(10)]


def test_an_interrupt_frees_the_caller_and_the_execution_goes_on(runner: BlockingRunner, gate: Gate) -> None:
    def interrupt() -> None:
        gate.began.wait()
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        runner.execute(gate.workflow)
    gate.opened.set()
    (info,) = runner.list(workflow="gate")
    result = runner.result(info.id)
    assert (result.status, result.tasks["wait"].state) == (ExecutionStatus.COMPLETED, TaskState.COMPLETED)


FORGOTTEN = """
    import asyncio, time
    from cloacina import BlockingRunner, Context, Workflow
    work = Workflow("work")

    @work.task
    {body}

    runner = BlockingRunner("work.db", workflows=[work])
    runner.start()
    {ask}
"""


@pytest.mark.parametrize(
    ("body", "ask"),
    [
        ("def body(ctx: Context) -> None: print('ran')", "runner.execute(work)"),
        ("def body(ctx: Context) -> None: time.sleep(600)", "runner.submit(work)"),
        ("async def body(ctx: Context) -> None: await asyncio.sleep(600)", "runner.submit(work)"),
    ],
    ids=["idle", "a thread is busy", "the loop is busy"],
)
def test_the_interpreter_ends_although_nobody_shut_it_down(script: Script, body: str, ask: str) -> None:
    ended = script(FORGOTTEN.format(body=body, ask=ask))
    assert ended.returncode == 0, ended.stderr
    assert "Traceback" not in ended.stderr


def test_ctrl_c_lets_bodies_finish_and_a_second_one_cuts_them(script: Script) -> None:
    ended = script("""
        import os, signal, threading
        from cloacina import BlockingRunner, Context, Workflow
        from cloacina.errors import RunnerClosed

        work = Workflow("work")

        @work.task
        def body(ctx: Context) -> None:
            os.kill(os.getpid(), signal.SIGINT)
            try:
                while True:
                    runner.metrics()
            except RunnerClosed:
                print("shutting down")
            os.kill(os.getpid(), signal.SIGINT)
            threading.Event().wait()

        with BlockingRunner("work.db") as runner:
            runner.execute(work)
    """)
    assert ended.stdout == "shutting down\n"
    assert "interrupt again" in ended.stderr
    assert ended.returncode == -signal.SIGINT
