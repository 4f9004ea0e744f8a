"""The blocking runner's source, and the portal that it calls through."""

from __future__ import annotations

import ast
import asyncio
import importlib.util
import inspect
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from cloacina import blocking, client, desk, portal, runner
from cloacina.errors import ExecutionNotFound, ResultTimeout, RunnerClosed, ValidationError, WrongThread
from cloacina.portal import OwnLoop, Portal
from support.script import Script

ROOT = Path(__file__).resolve().parents[2]


# The generated source.


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate_blocking", ROOT / "tools/generate_blocking.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_file_is_what_the_generator_writes(generator: ModuleType) -> None:
    written = generator.formatted(generator.generate(generator.read_sources()))
    found = generator.TARGET.read_text("utf-8")
    # Compared as syntax: another version of the formatter may break lines elsewhere.
    assert ast.dump(ast.parse(found)) == ast.dump(ast.parse(written)), "run tools/generate_blocking.py"


def test_a_new_method_gets_a_twin(generator: ModuleType) -> None:
    sources = generator.read_sources()
    more = sources["runner"].replace(
        "    async def register(self",
        "    async def fresh(self, id: str, /, *more: int, deep: bool = False) -> list[ExecutionHandle]:\n"
        '        """Await `Runner.status` inside ``async with``."""\n\n'
        "    async def register(self",
    )
    assert more != sources["runner"]
    text = generator.generate({**sources, "runner": more})
    assert (
        "def fresh(self, id: str, /, *more: int, deep: bool=False) -> list[BlockingExecutionHandle]" in text
    )
    assert "self._portal.call(self._own.fresh, id, *more, deep=deep)" in text
    assert '"""Await `BlockingRunner.status` inside ``with``."""' in text


def members(kind: type) -> dict[str, Any]:
    return {name: member for name, member in vars(kind).items() if not name.startswith("_")}


@pytest.mark.parametrize(
    ("asynchronous", "twin", "without"),
    [
        (runner.Runner, blocking.BlockingRunner, {"blocking", "serve"}),
        (client.Client, blocking.BlockingClient, set()),
        (desk.Desk, blocking.BlockingDesk, set()),
        (desk.ExecutionHandle, blocking.BlockingExecutionHandle, set()),
    ],
)
def test_twins_have_the_same_members_and_signatures(
    asynchronous: type, twin: type, without: set[str]
) -> None:
    ours, theirs = members(twin), members(asynchronous)
    assert set(ours) - {"beside"} == set(theirs) - without
    for name in set(theirs) - without:
        assert type(ours[name]) is type(theirs[name]), name
        if inspect.isfunction(theirs[name]):
            assert not inspect.iscoroutinefunction(ours[name]), name
            wanted = re.sub(
                r"\b(Runner|Desk|ExecutionHandle)\b", r"Blocking\1", str(inspect.signature(theirs[name]))
            )
            assert str(inspect.signature(ours[name])) == wanted
        if not inspect.ismemberdescriptor(theirs[name]):
            assert ours[name].__doc__, name


# The portal.

Stop = Callable[[], Any]


async def nothing() -> None:
    pass


async def double(number: int, *, plus: int = 0) -> int:
    await asyncio.sleep(0)
    return 2 * number + plus


@pytest.fixture
def own() -> Iterator[OwnLoop]:
    own = OwnLoop(nothing)
    own.open(nothing)
    yield own
    own.close(nothing)


@pytest.fixture(params=["own loop", "beside"])
def any_portal(request: pytest.FixtureRequest, own: OwnLoop) -> Portal:
    if request.param == "own loop":
        return own

    async def here() -> Portal:
        return Portal(asyncio.get_running_loop())

    return own.call(here)


def test_a_stop_that_refuses_its_arguments_ends_nothing(own: OwnLoop) -> None:
    async def refuse() -> None:
        raise ValidationError("grace='x'")

    with pytest.raises(ValidationError):
        own.close(refuse)
    assert own.call(double, 1) == 2


@pytest.mark.parametrize("kind", ["runner", "client"])
def test_its_errors_name_what_is_to_be_opened(kind: str) -> None:
    with pytest.raises(RunnerClosed, match=f"the {kind} is not running.*with Blocking{kind.title()}"):
        OwnLoop(nothing, kind).call(double, 1)


def test_a_call_returns_what_the_coroutine_returns(any_portal: Portal) -> None:
    assert any_portal.call(double, 3, plus=1) == 7
    assert any_portal.read(lambda: threading.current_thread().name) == "cloacina-loop"


@pytest.mark.parametrize("error", [ExecutionNotFound("x"), ResultTimeout("late"), ValueError()], ids=repr)
def test_a_call_raises_what_the_coroutine_raises(any_portal: Portal, error: Exception) -> None:
    async def fail() -> None:
        raise error

    with pytest.raises(type(error)) as caught:
        any_portal.call(fail)
    assert caught.value is error


def test_a_call_sees_the_context_variables_of_its_caller(any_portal: Portal) -> None:
    colour = ContextVar("colour", default="none")

    async def see() -> str:
        await asyncio.sleep(0)
        return colour.get()

    token = colour.set("red")
    assert any_portal.call(see) == "red"
    colour.reset(token)
    assert any_portal.call(see) == "none"


def test_a_call_on_the_loops_own_thread_is_refused(any_portal: Portal) -> None:
    async def body() -> None:
        any_portal.call(double, 1)

    with pytest.raises(WrongThread, match="to_thread"):
        any_portal.call(body)


def test_closing_on_the_loops_own_thread_is_refused_and_leaves_it_open(own: OwnLoop) -> None:
    async def body() -> None:
        own.close(nothing)

    with pytest.raises(WrongThread):
        own.call(body)
    assert own.call(double, 1) == 2


def test_a_thread_that_to_thread_made_may_call(own: OwnLoop) -> None:
    async def body() -> int:
        return await asyncio.to_thread(own.call, double, 4)

    assert own.call(body) == 8


async def test_a_loop_of_its_own_serves_a_caller_inside_another_loop(own: OwnLoop) -> None:
    assert own.call(double, 5) == 10


def test_before_and_after_it_is_open_calls_are_refused() -> None:
    own = OwnLoop(nothing)
    with pytest.raises(RunnerClosed, match="with BlockingRunner"):
        own.call(double, 1)
    own.close(nothing)
    own.open(nothing)
    own.close(nothing)
    own.close(nothing)
    with pytest.raises(RunnerClosed, match="with BlockingRunner"):
        own.call(double, 1)
    with pytest.raises(RunnerClosed, match="once"):
        own.open(nothing)


def test_a_start_that_fails_ends_the_thread() -> None:
    own = OwnLoop(nothing)

    async def fail() -> None:
        raise ValueError("no such folder")

    with pytest.raises(ValueError, match="no such folder"):
        own.open(fail)
    assert "cloacina-loop" not in {thread.name for thread in threading.enumerate()}
    with pytest.raises(RunnerClosed):
        own.call(double, 1)


def test_a_caller_is_told_when_the_loop_ends_while_it_waits(own: OwnLoop) -> None:
    told: list[BaseException] = []
    began = threading.Event()

    async def wait() -> None:
        began.set()
        await asyncio.get_running_loop().create_future()

    def call() -> None:
        with pytest.raises(RunnerClosed) as caught:
            own.call(wait)
        told.append(caught.value)

    caller = threading.Thread(target=call)
    caller.start()
    began.wait()
    own.close(nothing)
    caller.join()
    assert len(told) == 1


def test_a_caller_is_told_when_the_loop_was_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(portal, "LOOK_AGAIN", 0.01)
    loop = asyncio.new_event_loop()
    told: list[BaseException] = []

    def call() -> None:
        with pytest.raises(RunnerClosed) as caught:
            Portal(loop).call(double, 1)
        told.append(caught.value)

    async def stop_before_the_call_is_heard() -> None:
        caller.start()
        while not _waits(caller):
            pass
        loop.stop()

    caller = threading.Thread(target=call)
    first = loop.create_task(stop_before_the_call_is_heard())
    # The loop hears the call in its last round, starts it and leaves it half done.
    loop.run_forever()
    caller.join()
    for task in asyncio.all_tasks(loop) | {first}:
        task.cancel()
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    assert len(told) == 1
    with pytest.raises(RunnerClosed):
        Portal(loop).call(double, 1)


def test_an_interrupt_frees_the_caller_and_cancels_the_call(own: OwnLoop) -> None:
    ended = threading.Event()

    async def wait_for_ever() -> None:
        _interrupt_main_thread()
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            ended.set()

    with pytest.raises(KeyboardInterrupt):
        own.call(wait_for_ever)
    assert ended.wait(10)
    assert own.call(double, 1) == 2


def test_an_interrupt_while_it_closes_asks_again_and_still_closes() -> None:
    own = OwnLoop(nothing)
    own.open(nothing)
    asked: list[float | None] = []

    async def stop(grace: float | None) -> None:
        asked.append(grace)
        if len(asked) == 1:
            _interrupt_main_thread()
            await asyncio.get_running_loop().create_future()

    with pytest.raises(KeyboardInterrupt):
        own.close(stop, 30.0)
    assert asked == [30.0, 30.0]
    with pytest.raises(RunnerClosed):
        own.call(double, 1)


def _interrupt_main_thread() -> None:
    """Send Ctrl-C to the main thread once it waits."""
    main = threading.main_thread()

    def interrupt() -> None:
        while not _waits(main):
            pass
        signal.pthread_kill(main.ident or 0, signal.SIGINT)

    threading.Thread(target=interrupt).start()


def _waits(thread: threading.Thread) -> bool:
    """True if ``thread`` is inside `threading.Condition.wait` or the like."""
    frame = sys._current_frames().get(thread.ident or 0)
    return (
        frame is not None
        and frame.f_code.co_filename == threading.__file__
        and frame.f_code.co_name == "wait"
    )


@pytest.mark.parametrize(
    ("last", "said"),
    [("print('last call')", "last call\n"), ("await asyncio.get_running_loop().create_future()", "")],
    ids=["ends", "hangs"],
)
def test_the_interpreter_ends_although_nobody_closed(script: Script, last: str, said: str) -> None:
    ended = script(f"""
        import asyncio
        from cloacina import portal

        async def start(): pass
        async def at_exit(): {last}

        portal.LAST_GRACE = 0.2
        portal.OwnLoop(at_exit).open(start)
    """)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, said, "")


def test_a_child_made_by_a_fork_is_told(script: Script) -> None:
    ended = script("""
        import os, sys, warnings
        from cloacina.errors import ForkedProcess
        from cloacina.portal import OwnLoop

        warnings.simplefilter("ignore", DeprecationWarning)
        async def start(): pass
        parent = os.getpid()
        def at_exit():
            print("closed by the parent" if os.getpid() == parent else "closed by the child")
            return start()

        own = OwnLoop(at_exit)
        own.open(start)
        if child := os.fork():
            sys.exit(os.waitpid(child, 0)[1])
        try:
            own.call(start)
        except ForkedProcess as error:
            print(error)
        own.close(start)
    """)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.count("after the fork") == 1
    assert ended.stdout.count("closed by") == ended.stdout.count("closed by the parent") == 1
