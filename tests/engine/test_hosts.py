"""Where a runner may live: several in a process, in a web application's lifespan, and used from threads."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from cloacina.errors import (
    RegistrationError,
    RunnerClosed,
    StoreCorrupt,
    ValidationError,
    WorkflowError,
    WrongThread,
)
from cloacina.model.context.context import Context
from cloacina.model.status import ExecutionStatus
from cloacina.model.task import task
from cloacina.model.workflow import Workflow
from cloacina.runner import Runner, run
from cloacina.settings import Settings
from support.clock import until
from support.runners import Gate, in_memory, runner_on, seen_outside

COMPLETED = ExecutionStatus.COMPLETED


def hello(name: str = "hello") -> Workflow:
    async def greet(ctx: Context) -> None:
        ctx["greeting"] = f"hello {ctx.get('name', 'world')}"

    return Workflow(name, [task(greet)])


async def test_several_runners_on_several_databases(tmp_path: Path) -> None:
    runners = [in_memory(), in_memory(), runner_on(tmp_path / "a.db"), runner_on(tmp_path / "b.db")]
    async with contextlib.AsyncExitStack() as stack:
        for runner in runners:
            await stack.enter_async_context(runner)
        results = await asyncio.gather(
            *(runner.execute(hello(), {"name": n}) for n, runner in enumerate(runners))
        )
        assert [len(await runner.list()) for runner in runners] == [1] * 4
        assert len({runner.id for runner in runners}) == 4
    assert [result.context["greeting"] for result in results] == [f"hello {n}" for n in range(4)]


async def test_several_runners_on_one_file_share_the_work(tmp_path: Path) -> None:
    workflow = hello()
    async with contextlib.AsyncExitStack() as stack:
        runners = [await stack.enter_async_context(runner_on(tmp_path / "c.db", workflow)) for _ in range(3)]
        results = await asyncio.gather(*(runners[n % 3].execute(workflow, {"name": n}) for n in range(60)))
        assert len(await runners[0].list()) == 60
        other = await runners[1].submit(workflow, key="k")
        assert (await runners[2].submit(workflow, key="k")).id == other.id
    assert {result.status for result in results} == {COMPLETED}


async def test_stored_executions_run_from_the_registration_of_their_workflow_on(tmp_path: Path) -> None:
    gate = Gate()
    holds = Workflow("holds", [task(gate.pass_through, id="it")])
    async with runner_on(tmp_path / "c.db", window=1, shutdown_grace=0) as runner:
        await runner.submit(holds)
        await gate.reached()
        handles = await runner.submit_many(hello(), [{"name": n} for n in range(5)])
    async with runner_on(tmp_path / "c.db") as runner:
        waiting = [asyncio.ensure_future(runner.result(handle.id)) for handle in handles]
        assert {(await runner.status(handle.id)) for handle in handles} == {ExecutionStatus.PENDING}
        await runner.register(hello())
        results = await asyncio.wait_for(asyncio.gather(*waiting), 20)
    assert [result.context["greeting"] for result in results] == [f"hello {n}" for n in range(5)]


class App:
    """As web frameworks do: startup and shutdown around requests that are handled concurrently."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.workflow = hello()

    @contextlib.asynccontextmanager
    async def lifespan(self) -> AsyncIterator[Runner]:
        async with runner_on(self.path, self.workflow) as runner:
            yield runner

    async def post(self, runner: Runner, name: str) -> str:
        return (await runner.submit("hello", {"name": name}, key=name)).id

    async def get(self, runner: Runner, id: str) -> Any:
        return (await runner.result(id, timeout=20)).context["greeting"]


async def test_the_lifespan_of_an_application(tmp_path: Path) -> None:
    app = App(tmp_path / "c.db")
    ids: list[str] = []
    for _ in range(2):
        async with app.lifespan() as runner:
            ids += await asyncio.gather(*(app.post(runner, f"n{n}") for n in range(20)))
            greetings = await asyncio.gather(*(app.get(runner, id) for id in ids[-20:]))
            assert greetings == [f"hello n{n}" for n in range(20)]
    assert ids[:20] == ids[20:]


async def test_an_application_that_fails_inside_shuts_the_runner_down(tmp_path: Path) -> None:
    gate = Gate()
    with pytest.raises(ZeroDivisionError):
        async with runner_on(tmp_path / "c.db", shutdown_grace=0) as runner:
            await runner.submit(Workflow("holds", [task(gate.pass_through, id="it")]))
            await gate.reached()
            raise ZeroDivisionError
    with pytest.raises(RunnerClosed):
        await runner.list()
    assert seen_outside(tmp_path / "c.db", lambda store: store.runners()) == []
    assert list(tmp_path.glob("c.db-runners/*")) == []


async def test_a_runner_starts_once() -> None:
    runner = in_memory()
    async with runner:
        with pytest.raises(RunnerClosed, match="starts once: make a new Runner"):
            await runner.start()
        assert (await runner.execute(hello())).status is COMPLETED
    with pytest.raises(RunnerClosed, match="starts once"):
        await runner.start()


@pytest.mark.sqlite_only("what is in the way is a file")
async def test_a_start_that_failed_may_be_tried_again(tmp_path: Path) -> None:
    (tmp_path / "c.db").write_text("no database at all, but some text that is long enough" * 50)
    runner = runner_on(tmp_path / "c.db", hello())
    with pytest.raises(StoreCorrupt):
        await runner.start()
    with pytest.raises(RunnerClosed):
        await runner.list()
    (tmp_path / "c.db").unlink()
    async with runner:
        assert (await runner.execute("hello")).status is COMPLETED


@pytest.mark.sqlite_only("on PostgreSQL nothing is read from a path")
@pytest.mark.parametrize("url", ["nonsense://x", "", "/no/such/folder/c.db"])
async def test_a_bad_url_is_refused_when_the_runner_is_entered(url: str) -> None:
    runner = Runner(url)
    with pytest.raises(ValidationError):
        await runner.start()


async def test_a_bad_workflow_is_refused_before_anything_is_opened(tmp_path: Path) -> None:
    with pytest.raises(WorkflowError):
        await runner_on(tmp_path / "c.db", Workflow("empty")).start()
    with pytest.raises(RegistrationError):
        await runner_on(tmp_path / "c.db", hello(), Workflow("hello", [task(print_it)])).start()
    assert list(tmp_path.iterdir()) == []


async def print_it(ctx: Context) -> None: ...


CALLS: dict[str, Any] = {
    "submit": lambda runner: runner.submit("hello"),
    "execute": lambda runner: runner.execute("hello"),
    "result": lambda runner: runner.result("x"),
    "list": lambda runner: runner.list(),
    "shutdown": lambda runner: runner.shutdown(),
    "register": lambda runner: runner.register(),
}


@pytest.mark.parametrize("call", CALLS)
async def test_a_runner_belongs_to_its_thread(call: str) -> None:
    """Another thread's loop gets an error that names the way, and nothing happens."""
    caught = list[BaseException]()

    def elsewhere(runner: Runner) -> None:
        try:
            asyncio.run(CALLS[call](runner))
        except BaseException as error:
            caught.append(error)

    async with in_memory(hello()) as runner:
        await asyncio.to_thread(elsewhere, runner)
        assert await runner.list() == []
    assert isinstance(caught[0], WrongThread)
    assert "runner.blocking" in str(caught[0])


async def test_threads_use_the_blocking_side() -> None:
    async with in_memory(hello()) as runner:
        results = await asyncio.gather(
            *(asyncio.to_thread(runner.blocking.execute, "hello", {"name": n}) for n in range(20))
        )
        with pytest.raises(WrongThread):
            runner.blocking.execute("hello")
    assert sorted(result.context["greeting"] for result in results) == sorted(f"hello {n}" for n in range(20))


async def test_no_thread_is_left_behind(tmp_path: Path) -> None:
    def threads() -> set[str]:
        return {thread.name for thread in threading.enumerate() if thread.name.startswith("cloacina")}

    before = threads()

    def on_thread(ctx: Context) -> None: ...

    for _ in range(3):
        async with runner_on(tmp_path / "c.db") as runner:
            await runner.execute(Workflow("threaded", [task(on_thread)]))
            assert threads() > before
    await until(lambda: threads() <= before)


async def test_a_body_that_ends_after_its_loop_harms_nobody() -> None:
    """A thread cannot be stopped: it ends when it wants to, into the void."""
    gate = Gate()
    async with in_memory(shutdown_grace=0) as runner:
        await runner.submit(Workflow("holds", [task(gate.pass_on_thread, id="it")]))
        await gate.reached()
    gate.open()
    await until(lambda: gate.left)


@pytest.mark.sqlite_only("the database that nobody names is a file")
def test_run_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = run(hello(), {"name": "script"})
    assert result.context["greeting"] == "hello script"
    assert {file.name for file in tmp_path.iterdir()} >= {"cloacina.db"}


async def test_run_refuses_a_running_loop() -> None:
    with pytest.raises(WrongThread, match=r"async with Runner"):
        run(hello())


async def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLOACINA_ASYNC_SLOTS", "3")
    monkeypatch.setenv("CLOACINA_THREAD_SLOTS", "4")
    async with Runner("sqlite://:memory:") as runner:
        assert [runner.metrics()[name].slots for name in ("loop", "threads")] == [3, 4]
    async with Runner("sqlite://:memory:", settings=Settings(async_slots=1)) as runner:
        assert [runner.metrics()[name].slots for name in ("loop", "threads")] == [1, 32]


def test_a_runner_names_its_database_and_does_nothing_else(tmp_path: Path) -> None:
    runner = Runner(str(tmp_path / "c.db"), workflows=[hello()])
    assert "c.db" in repr(runner)
    assert list(tmp_path.iterdir()) == []
