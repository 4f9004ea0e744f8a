"""`around_body`: an application's context manager around each body, where the body runs."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextvars import ContextVar
from typing import Any

import pytest

from cloacina.engine.executors.around import BodyInfo
from cloacina.errors import ValidationError
from cloacina.model.context.context import Context
from cloacina.model.status import AttemptState, ExecutionStatus
from cloacina.model.workflow import Workflow
from cloacina.runner import Runner
from cloacina.settings import Settings
from support.clock import HandClock, until
from support.runners import LONG, MEMORY, Even, Gate

PLACE: ContextVar[str] = ContextVar("PLACE", default="outside")


class Diary:
    """What happened around and in bodies, in order, with the thread."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str]] = []

    def note(self, what: str) -> None:
        thread = threading.current_thread().name
        self.lines.append((what, "loop" if thread == "MainThread" else "thread"))

    @contextlib.contextmanager
    def plain(self, info: BodyInfo) -> Iterator[None]:
        self.note(f"enter {info.workflow}.{info.task} {info.attempt}")
        PLACE.set("inside")
        try:
            yield
        except BaseException as error:
            self.note(f"saw {type(error).__name__}")
            raise
        finally:
            self.note("leave")

    @contextlib.asynccontextmanager
    async def asynchronous(self, info: BodyInfo) -> AsyncIterator[None]:
        with self.plain(info):
            yield


def one(body: Callable[[Context], Any], **options: Any) -> Workflow:
    workflow = Workflow("w")
    workflow.task(body, id="step", retry=False, **options)
    return workflow


def around(manager: Callable[[BodyInfo], Any]) -> Runner:
    settings = Settings(lease=LONG, loop_block_limit=LONG)
    return Runner(MEMORY, settings=settings, clock=HandClock(), randomness=Even(), around_body=manager)


@pytest.mark.parametrize(("kind", "place"), [("def", "thread"), ("async", "loop"), ("async with", "loop")])
async def test_it_is_entered_and_left_where_the_body_runs(kind: str, place: str) -> None:
    diary = Diary()

    def body(ctx: Context) -> None:
        diary.note(f"body {PLACE.get()}")

    async def async_body(ctx: Context) -> None:
        body(ctx)

    manager = diary.asynchronous if kind == "async with" else diary.plain
    async with around(manager) as runner:
        result = await runner.execute(one(body if kind == "def" else async_body))
    assert result.status is ExecutionStatus.COMPLETED
    assert diary.lines == [(what, place) for what in ("enter w.step 1", "body inside", "leave")]
    assert PLACE.get() == "outside"


@pytest.mark.parametrize("is_async", [True, False])
async def test_it_sees_the_error_of_the_body(is_async: bool) -> None:
    diary = Diary()

    def body(ctx: Context) -> None:
        raise KeyError("inside")

    async def async_body(ctx: Context) -> None:
        body(ctx)

    async with around(diary.plain) as runner:
        result = await runner.execute(one(async_body if is_async else body))
    error = result.tasks["step"].error
    assert error is not None and error.type == "KeyError"
    assert "around.py" not in (error.traceback or "")
    assert [what for what, _ in diary.lines] == ["enter w.step 1", "saw KeyError", "leave"]


class Suppress(contextlib.AbstractContextManager["Suppress"]):
    def __exit__(self, *error: object) -> bool:
        return True


@pytest.mark.parametrize("is_async", [True, False])
async def test_it_cannot_hide_an_error(is_async: bool) -> None:
    def body(ctx: Context) -> None:
        ctx["x"] = 1
        raise KeyError("inside")

    async def async_body(ctx: Context) -> None:
        body(ctx)

    async with around(lambda info: Suppress()) as runner:
        result = await runner.execute(one(async_body if is_async else body))
    assert (result.status, result.context.to_dict()) == (ExecutionStatus.FAILED, {})
    assert result.tasks["step"].error is not None and result.tasks["step"].error.type == "KeyError"


@contextlib.contextmanager
def breaks_before(info: BodyInfo) -> Iterator[None]:
    raise OSError("no connection")
    yield


@contextlib.contextmanager
def breaks_after(info: BodyInfo) -> Iterator[None]:
    yield
    raise OSError("no connection")


def breaks_at_once(info: BodyInfo) -> Any:
    raise OSError("no connection")


@contextlib.asynccontextmanager
async def asynchronous(info: BodyInfo) -> AsyncIterator[None]:
    yield


@pytest.mark.parametrize("is_async", [True, False])
@pytest.mark.parametrize(
    ("manager", "said"),
    [
        (breaks_before, "no connection"),
        (breaks_after, "no connection"),
        (breaks_at_once, "no connection"),
        (lambda info: None, "around_body gave NoneType for task 'step' of workflow 'w'"),
    ],
)
async def test_its_error_fails_the_attempt(manager: Any, said: str, is_async: bool) -> None:
    def body(ctx: Context) -> None:
        ctx["x"] = 1

    async def async_body(ctx: Context) -> None:
        body(ctx)

    async with around(manager) as runner:
        result = await runner.execute(one(async_body if is_async else body))
    assert (result.status, result.context.to_dict()) == (ExecutionStatus.FAILED, {})
    assert said in str(result.tasks["step"].error)


async def test_a_def_body_takes_a_plain_one_only() -> None:
    def body(ctx: Context) -> None: ...

    async with around(asynchronous) as runner:
        result = await runner.execute(one(body))
    assert "return a context manager, since the body is `def`" in str(result.tasks["step"].error)


async def test_it_is_left_when_a_body_is_cancelled() -> None:
    diary, gate = Diary(), Gate()
    async with around(diary.plain) as runner:
        handle = await runner.submit(one(gate.pass_through))
        await gate.reached()
        await handle.cancel()
        await until(lambda: len(diary.lines) == 3)
    assert [what for what, _ in diary.lines] == ["enter w.step 1", "saw CancelledError", "leave"]


async def test_each_attempt_has_its_own() -> None:
    diary = Diary()

    async def body(ctx: Context) -> None:
        raise KeyError

    workflow = Workflow("w")
    workflow.task(body, id="step", retry_attempts=2, retry_delay_ms=0)
    async with around(diary.plain) as runner:
        handle = await runner.submit(workflow)
        clock: Any = runner._engine.clock
        await until(lambda: clock.advance(1) or len(diary.lines) == 6)
        result = await handle.result()
    assert [row.state for row in result.tasks["step"].history] == [AttemptState.FAILED] * 2
    assert [what for what, _ in diary.lines if "enter" in what] == ["enter w.step 1", "enter w.step 2"]


def test_what_is_no_function() -> None:
    with pytest.raises(ValidationError, match="around_body=3 is no function"):
        Runner(MEMORY, around_body=3)  # type: ignore[arg-type]
