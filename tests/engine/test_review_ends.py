"""The two ends of a runner: a start that fails leaves nothing behind, and no end leaves anybody waiting."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest

from cloacina.engine.engine import Engine
from cloacina.errors import CloacinaError, Fenced, RunnerClosed, StoreBusy
from cloacina.model.context.context import Context
from cloacina.model.status import ExecutionStatus
from cloacina.model.task import task
from cloacina.model.workflow import Workflow
from cloacina.store.postgres.database import PostgresDatabase, PostgresWriter
from cloacina.store.sqlite.database import Database, SqliteWriter
from support.clock import turn, until
from support.runners import Gate, in_memory, runner_on, seen_outside
from support.stores import interfere


def echo(name: str = "echo") -> Workflow:
    workflow = Workflow(name)

    @workflow.task
    async def it(ctx: Context) -> None: ...

    return workflow


def engine_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("cloacina-")]


async def test_a_submit_that_cannot_be_stored_is_answered_at_the_end() -> None:
    runner = in_memory(echo())
    await runner.start()
    await until(runner._engine.life.room, "room")
    interfere(runner).refuses = lambda group: StoreBusy("locked, says the test")
    submit = asyncio.create_task(runner.submit("echo"))
    await turn()
    await runner.shutdown(grace=0)
    with pytest.raises(CloacinaError):
        await asyncio.wait_for(submit, 10)


async def test_intake_that_cannot_be_stored_is_answered_at_the_end() -> None:
    runner = in_memory(echo())
    await runner.start()
    store = interfere(runner)
    store.plan("insert_unowned", *[_busy] * 1000)
    submits = [asyncio.create_task(runner.submit("echo", key=f"k{n}")) for n in range(30)]
    await turn()
    await runner.shutdown(grace=0)
    for submit in submits:
        with pytest.raises(CloacinaError):
            await asyncio.wait_for(submit, 10)
    assert 1000 - len(store._faults["insert_unowned"]) < 30, "a busy database is no reason to ask row by row"


def _busy(call: Any) -> Any:
    raise StoreBusy("locked, says the test")


async def test_a_body_that_outlives_its_runner_is_refused_what_it_asks() -> None:
    gate, told = Gate(), list[BaseException | None]()
    workflow = Workflow("outlives")

    @workflow.task
    def it(ctx: Context) -> None:
        try:
            gate.pass_on_thread(ctx)
            runner.blocking.submit(workflow)
        except BaseException as error:
            told.append(error)
        else:
            told.append(None)

    runner = in_memory(workflow)
    async with runner:
        await runner.submit(workflow)
        await gate.reached()
        await runner.shutdown(grace=0)
    gate.open()
    await until(lambda: told, "an answer to the body")
    assert isinstance(told[0], RunnerClosed)


async def test_a_second_shutdown_counts_even_before_the_first_one_waits_for_bodies(tmp_path: Path) -> None:
    gate = Gate()
    workflow = Workflow("holds", [task(gate.pass_through, id="it")])
    async with runner_on(tmp_path / "db", workflow) as runner:
        await runner.submit(workflow)
        await gate.reached()
        first = asyncio.create_task(runner.shutdown(grace=100))
        await asyncio.sleep(0)
        async with asyncio.timeout(20):
            await runner.shutdown()
            await first


async def test_a_parent_whose_child_ends_within_the_grace_ends_too() -> None:
    gate = Gate()
    child = Workflow("child", [task(gate.pass_through, id="it")])
    parent = Workflow("parent")
    left = list[str]()

    @parent.task
    async def it(ctx: Context) -> None:
        left.append((await runner.execute(child)).status)
        await turn()
        left.append("over")

    async with in_memory(parent) as runner:
        await runner.submit(parent)
        await gate.reached()
        stop = asyncio.create_task(runner.shutdown(grace=20))
        await turn()
        gate.open()
        await stop
    assert left == [ExecutionStatus.COMPLETED, "over"]


@pytest.mark.parametrize("broken", ["_register", "_begin_life"])
async def test_a_start_that_fails_leaves_no_thread_and_no_runner(
    broken: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole: Any = getattr(Engine, broken)

    async def fails(self: Engine, *args: Any) -> None:
        await whole(self, *args)
        raise RuntimeError("says the test")

    monkeypatch.setattr(Engine, broken, fails)
    runner = runner_on(tmp_path / "db", echo())
    with pytest.raises(RuntimeError, match="says the test"):
        await runner.start()
    assert not engine_threads()
    assert not list(tmp_path.glob("db-runners/*"))
    assert not seen_outside(tmp_path / "db", lambda store: store.runners())


async def test_a_start_that_is_given_up_while_the_database_is_opened_closes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backend: str
) -> None:
    opening, go_on, closed = threading.Event(), threading.Event(), list[object]()
    database: Any = Database if backend == "sqlite" else PostgresDatabase
    writer: Any = SqliteWriter if backend == "sqlite" else PostgresWriter
    whole, close = database.writer, writer.close

    def slow(self: object) -> object:
        opening.set()
        assert go_on.wait(20)
        return whole(self)

    def noted(self: object) -> None:
        closed.append(self)
        close(self)

    monkeypatch.setattr(database, "writer", slow)
    monkeypatch.setattr(writer, "close", noted)
    start = asyncio.create_task(runner_on(tmp_path / "db").start())
    await until(opening.is_set, "the opening")
    start.cancel()
    asyncio.get_running_loop().call_soon(go_on.set)
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await start
    await turn()
    assert closed and not engine_threads()


async def test_a_shutdown_during_the_start_leaves_nothing_open(tmp_path: Path) -> None:
    runner = runner_on(tmp_path / "db", echo())
    start = asyncio.create_task(runner.start())
    await asyncio.sleep(0)
    await runner.shutdown(grace=0)
    with pytest.raises(RunnerClosed):
        await start
    assert not engine_threads()


async def test_a_rebirth_that_waits_for_the_database_does_not_hold_up_the_end() -> None:
    runner = in_memory(echo())
    await runner.start()
    engine = runner._engine
    interfere(runner).plan("recover", *[_busy] * 10_000)
    engine._lost(engine.life.runner, Fenced("says the test"))
    await turn()
    async with asyncio.timeout(20):
        await runner.shutdown(grace=0)
