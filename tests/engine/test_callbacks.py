"""Callbacks: after the commit, at most once, with a read-only context, and without power over anything."""

from __future__ import annotations

import asyncio
import logging
import threading
from typing import Any

import pytest

from cloacina.engine.executors.callbacks import CallbackInfo
from cloacina.errors import ContextError
from cloacina.model.context.context import Context
from cloacina.model.context.keys import Key
from cloacina.model.retry import RetryPolicy
from cloacina.model.rules import task_failed
from cloacina.model.status import ExecutionStatus, TaskState
from cloacina.model.task import task
from cloacina.model.workflow import Workflow
from support.clock import HandClock, until
from support.runners import Gate, in_memory
from support.stores import interfere

COMPLETED, FAILED = ExecutionStatus.COMPLETED, ExecutionStatus.FAILED
Heard = list[tuple[str | None, str, dict[str, Any], CallbackInfo]]


def listener(heard: Heard, name: str, kind: str = "async") -> Any:
    def listen(ctx: Context, info: CallbackInfo) -> None:
        heard.append((info.task, name, ctx.to_dict(), info))

    async def async_listen(ctx: Context, info: CallbackInfo) -> None:
        listen(ctx, info)

    return async_listen if kind == "async" else listen


def observed(heard: Heard, fail: bool, kind: str = "async") -> Workflow:
    """A task with both callbacks in a workflow with both, and a task that is skipped."""

    async def it(ctx: Context) -> None:
        ctx["it"] = True
        if fail:
            raise ValueError("as asked")

    both = {"on_success": listener(heard, "success", kind), "on_failure": listener(heard, "failure", kind)}
    tasks = [
        task(it, retry=False, **both),
        task(
            it,
            id="skipped",
            dependencies=["it"],
            trigger_rules=task_failed("it") & ~task_failed("it"),
            **both,
        ),
    ]
    return Workflow("observed", tasks, **both)


@pytest.mark.parametrize("kind", ["async", "def"])
@pytest.mark.parametrize("fail", [False, True])
async def test_task_and_workflow_are_told_once_each(fail: bool, kind: str) -> None:
    heard: Heard = []
    async with in_memory() as runner:
        result = await runner.execute(observed(heard, fail, kind), {"day": 1})
        await until(lambda: len(heard) >= 2)
    event = "failure" if fail else "success"
    after = {"day": 1} if fail else {"day": 1, "it": True}
    assert sorted((task or "", name) for task, name, _, _ in heard) == [("", event), ("it", event)]
    assert [context for _, _, context, _ in heard] == [after, after]
    infos = {info.task: info for *_, info in heard}
    of_task, of_workflow = infos["it"], infos[None]
    assert (of_task.execution, of_task.workflow, of_task.attempts) == (result.id, "observed", 1)
    assert of_task.status is (TaskState.FAILED if fail else TaskState.COMPLETED)
    assert of_workflow.status is result.status
    assert str(of_task.error) == ("ValueError: as asked" if fail else "None")
    assert of_workflow.error == result.error


async def test_a_failure_is_told_when_the_retries_are_used_up() -> None:
    heard, clock = list[Any](), HandClock()

    async def it(ctx: Context) -> None:
        raise ValueError

    policy = RetryPolicy(max_attempts=3, initial_delay=1, backoff="fixed", jitter=0)
    workflow = Workflow("retried", [task(it, retry=policy, on_failure=listener(heard, "failure"))])
    async with in_memory(clock=clock) as runner:
        handle = await runner.submit(workflow)
        for _ in range(2):
            await until(lambda: clock.pending)
            assert heard == []
            clock.advance(1)
        await handle.result()
    assert [info.attempts for *_, info in heard] == [3]


@pytest.mark.parametrize("kind", ["async", "def"])
async def test_nobody_is_told_before_the_commit(kind: str) -> None:
    heard, gate = list[Any](), Gate()
    body = gate.pass_through if kind == "async" else gate.pass_on_thread
    workflow = Workflow("one", [task(body, id="it", on_success=listener(heard, "task", kind))],
                        on_success=listener(heard, "workflow", kind))  # fmt: skip
    async with in_memory() as runner:
        handle = await runner.submit(workflow)
        await gate.reached()
        hold = interfere(runner).hold("commit")
        gate.open()
        await hold.reached()
        assert heard == []
        hold.release()
        await handle.result()
        await until(lambda: len(heard) == 2)


@pytest.mark.parametrize("how", ["cancel", "timeout"])
async def test_a_task_that_was_cut_is_not_told(how: str) -> None:
    heard, gate, clock = list[Any](), Gate(), HandClock()
    both = {"on_success": listener(heard, "success"), "on_failure": listener(heard, "failure")}
    workflow = Workflow("cut", [task(gate.pass_through, id="it", **both)], timeout=10, **both)
    async with in_memory(clock=clock) as runner:
        handle = await runner.submit(workflow)
        await gate.reached()
        if how == "cancel":
            await handle.cancel()
        else:
            clock.advance(10)
            await handle.result()
    assert [(info.task, info.status) for *_, info in heard] == ([] if how == "cancel" else [(None, FAILED)])


async def test_the_context_of_a_callback_is_read_only(caplog: pytest.LogCaptureFixture) -> None:
    raised = list[Exception]()

    async def meddle(ctx: Context, info: CallbackInfo) -> None:
        try:
            ctx["x"] = 1
        except ContextError as error:
            raised.append(error)
        ctx["list"].append(2)

    workflow = Workflow("plain", on_success=meddle)

    @workflow.task
    async def it(ctx: Context) -> None: ...

    async with in_memory() as runner:
        result = await runner.execute(workflow, {"list": [1]})
        await until(lambda: raised)
        assert (await runner.get(result.id)).context == {"list": [1]}
    assert "read-only" in str(raised[0])


class Nasty(BaseException):
    pass


@pytest.mark.parametrize("kind", ["async", "def"])
@pytest.mark.parametrize(
    "error", [ValueError("broken"), SystemExit(3), KeyboardInterrupt(), Nasty(), asyncio.CancelledError()]
)
async def test_an_error_in_a_callback_is_logged_and_harmless(
    error: BaseException, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(ctx: Context, info: CallbackInfo) -> None:
        raise error

    async def async_fail(ctx: Context, info: CallbackInfo) -> None:
        raise error

    async def it(ctx: Context) -> None: ...

    callback = async_fail if kind == "async" else fail
    workflow = Workflow("broken", [task(it, on_success=callback)], on_success=callback)
    async with in_memory() as runner:
        result = await runner.execute(workflow)
        await until(
            lambda: len([record for record in caplog.records if "callback failed" in record.message]) == 2
        )
        assert (await runner.execute(workflow)).status is COMPLETED
    record = next(record for record in caplog.records if "callback failed" in record.message)
    assert record.levelno == logging.ERROR
    assert (record.execution, record.workflow, record.task) == (result.id, "broken", "it")  # type: ignore[attr-defined]
    assert result.status is COMPLETED


@pytest.mark.parametrize("kind", ["async", "def"])
async def test_a_callback_has_a_time_limit(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    release = threading.Event()

    async def hang(ctx: Context, info: CallbackInfo) -> None:
        await asyncio.Event().wait()

    def hang_on_thread(ctx: Context, info: CallbackInfo) -> None:
        release.wait(20)

    async def it(ctx: Context) -> None: ...

    workflow = Workflow("slow", [task(it)], on_success=hang if kind == "async" else hang_on_thread)
    async with in_memory(callback_timeout=0.05) as runner:
        await runner.execute(workflow)
        await until(lambda: "callback failed" in caplog.text)
    release.set()
    assert "TimeoutError" in caplog.text


async def test_a_callback_that_cannot_be_stopped_does_not_hold_the_shutdown() -> None:
    release, entered = asyncio.Event(), asyncio.Event()

    async def stubborn(ctx: Context, info: CallbackInfo) -> None:
        entered.set()
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue

    async def it(ctx: Context) -> None: ...

    async with in_memory(callback_timeout=0.05) as runner:
        await runner.execute(Workflow("stubborn", [task(it)], on_success=stubborn))
        await entered.wait()
    release.set()


async def test_a_callback_ends_before_its_runner_does() -> None:
    ended = list[str]()

    async def slow(ctx: Context, info: CallbackInfo) -> None:
        for _ in range(20):
            await asyncio.sleep(0)
        ended.append("slow")

    async def it(ctx: Context) -> None: ...

    async with in_memory() as runner:
        await runner.execute(Workflow("slow", [task(it)], on_success=slow))
    assert ended == ["slow"]


async def test_a_callback_may_submit_more_work() -> None:
    async def it(ctx: Context) -> None: ...

    second = Workflow("second", [task(it)])

    async def follow(ctx: Context, info: CallbackInfo) -> None:
        await runner.submit(second, {"after": info.execution})

    async with in_memory() as runner:
        first = await runner.execute(Workflow("first", [task(it)], on_success=follow))
        found: list[Any] = []

        async def look() -> None:
            while not found:
                found.extend(await runner.list(workflow="second"))

        await asyncio.wait_for(look(), 20)
        assert (await runner.result(found[0].id)).context == {"after": first.id}


async def test_a_task_whose_view_cannot_be_built_is_told_all_the_same() -> None:
    heard: Heard = []

    def left(ctx: Context) -> None:
        ctx["total"] = 1

    def right(ctx: Context) -> None:
        ctx["total"] = 2

    async def it(ctx: Context) -> None: ...

    def refuse(current: int, new: int) -> int:
        raise ArithmeticError

    tasks = [
        task(left),
        task(right),
        task(it, dependencies=["left", "right"], on_failure=listener(heard, "it")),
    ]
    workflow = Workflow(
        "views", tasks, keys=[Key("total", int, merge=refuse)], on_failure=listener(heard, "all")
    )
    async with in_memory() as runner:
        result = await asyncio.wait_for(runner.execute(workflow, {"day": 1}), 20)
        await until(lambda: len(heard) == 2)
        assert (await runner.execute(workflow)).status is FAILED
    assert result.status is FAILED
    assert {name: context for _, name, context, _ in heard[:2]} == {"it": {"day": 1}, "all": {"day": 1}}
