"""Backups of a running engine, what becomes of them when it stops, and what a restored database does."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest

from cloacina.backup import restore
from cloacina.blocking import BlockingRunner
from cloacina.errors import ForeignConnection, RunnerClosed, StoreBusy, ValidationError
from cloacina.model.context.context import Context
from cloacina.model.status import AttemptState, ExecutionStatus, Reason
from cloacina.model.workflow import Workflow
from cloacina.runner import Runner
from cloacina.store.sqlite.copies import backup
from support.clock import HandClock, turn, until
from support.runners import Gate, crashing, in_memory, runner_on

pytestmark = pytest.mark.sqlite_only("a backup is a copy of the database's file")


def workflow(gate: Gate | None = None) -> Workflow:
    workflow = Workflow("work")

    @workflow.task
    async def it(ctx: Context) -> None:
        ctx["done"] = True
        if gate is not None and ctx.get("waits"):
            await gate.pass_through(ctx)

    return workflow


class Held:
    """A backup that waits before its check."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.reached = threading.Event()
        self.go_on = threading.Event()
        check = backup.check

        def held(path: Path, complaint: str) -> None:
            self.reached.set()
            assert self.go_on.wait(20)
            check(path, complaint)

        monkeypatch.setattr(backup, "check", held)


def files(folder: Path) -> set[str]:
    return {file.name for file in folder.iterdir()}


async def test_a_backup_goes_on_where_its_database_was(tmp_path: Path) -> None:
    gate = Gate()
    async with runner_on(tmp_path / "db", workflow(gate)) as runner:
        done = await runner.execute("work", {"n": 1})
        running = await runner.submit("work", {"waits": True})
        await gate.reached()
        assert await runner.backup(tmp_path / "copy.db") == tmp_path / "copy.db"
        later = await runner.execute("work")
        gate.open()
    done_by = restore(tmp_path / "copy.db", tmp_path / "db")
    assert (done_by.epoch, done_by.kept) == (2, tmp_path / "db.before-restore-1")
    async with runner_on(f"sqlite:///{tmp_path}/db", workflow(gate)) as runner:
        assert (await runner.get(done.id)).context == {"n": 1, "done": True}
        assert (await running_result(runner, running.id)).status is ExecutionStatus.COMPLETED
        stored = await runner._engine.access.stored(running.id)
        assert stored and [(row.state, row.reason) for row in stored.attempts] == [
            (AttemptState.INTERRUPTED, Reason.LOST_LEASE),
            (AttemptState.COMPLETED, None),
        ]
        assert {info.id for info in await runner.list()} == {done.id, running.id} != {later.id}


async def running_result(runner: Runner, id: str) -> Any:
    return await runner.result(id, timeout=20)


async def test_a_restore_is_no_crash(tmp_path: Path) -> None:
    """However often it is restored, what ran when the backup was made is no suspect."""
    gate = Gate()
    async with runner_on(tmp_path / "db", workflow(gate)) as runner:
        running = await runner.submit("work", {"waits": True})
        await gate.reached()
        await runner.backup(tmp_path / "copy.db")
        gate.open()
    for number in range(5):
        restore(tmp_path / "copy.db", tmp_path / "db")
        gate = Gate()
        async with runner_on(tmp_path / "db", workflow(gate)) as runner:
            await gate.reached()
            await runner.backup(tmp_path / "copy.db", overwrite=True)
            stored = await runner._engine.access.stored(running.id)
            assert stored and [row.suspect for row in stored.attempts] == [0] * (number + 2)
            gate.open()


async def test_a_restore_is_refused_while_a_runner_is_alive_and_not_when_it_has_crashed(
    tmp_path: Path,
) -> None:
    async with crashing(runner_on(tmp_path / "db", workflow())) as runner:
        await runner.execute("work")
        await runner.backup(tmp_path / "copy.db")
        with pytest.raises(StoreBusy, match=f"shut its runners down first.*{runner.id}"):
            restore(tmp_path / "copy.db", tmp_path / "db")
        await runner.execute("work")
    assert restore(tmp_path / "copy.db", tmp_path / "db").epoch == 2
    async with runner_on(tmp_path / "db", workflow()) as runner:
        assert len(await runner.list()) == 1


@pytest.mark.parametrize("path", ["db", "db-wal"])
async def test_the_database_itself_is_no_target(tmp_path: Path, path: str) -> None:
    async with runner_on(tmp_path / "db", workflow()) as runner:
        for overwrite in (False, True):
            with pytest.raises(ValidationError, match="in use"):
                await runner.backup(tmp_path / path, overwrite=overwrite)
        await runner.execute("work")


async def test_what_is_in_memory_has_no_backup(tmp_path: Path) -> None:
    async with in_memory(workflow()) as runner:
        with pytest.raises(ValidationError, match="in memory"):
            await runner.backup(tmp_path / "copy.db")


async def test_work_goes_on_while_a_backup_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held = Held(monkeypatch)
    async with runner_on(tmp_path / "db", workflow()) as runner:
        making = asyncio.ensure_future(runner.backup(tmp_path / "copy.db"))
        await until(held.reached.is_set)
        assert (await runner.execute("work")).status is ExecutionStatus.COMPLETED
        with pytest.raises(StoreBusy, match="being written"):
            await runner.backup(tmp_path / "copy.db")
        held.go_on.set()
        assert await making == tmp_path / "copy.db"


async def test_a_backup_that_nobody_waits_for_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = threading.Event()
    copy = backup.copy

    def slow(source: Any, path: Path, go_on: Any) -> None:
        asked.set()
        while go_on():
            assert not stopped.wait(0.001)
        copy(source, path, go_on)

    stopped = threading.Event()
    monkeypatch.setattr(backup, "copy", slow)
    monkeypatch.setattr("cloacina.store.sqlite.file.connection.TICK_STEPS", 10)
    async with runner_on(tmp_path / "db", workflow()) as runner:
        making = asyncio.ensure_future(runner.backup(tmp_path / "copy.db"))
        await until(asked.is_set)
        making.cancel()
        with pytest.raises(asyncio.CancelledError):
            await making
        backups: Any = runner._engine.upkeep.backups
        await until(lambda: not backups._made)
        assert not {"copy.db", "copy.db.partial"} & files(tmp_path)


async def test_a_shutdown_gives_a_backup_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = threading.Event()
    copy = backup.copy

    def slow(source: Any, path: Path, go_on: Any) -> None:
        asked.set()
        while go_on():
            pass
        copy(source, path, go_on)

    monkeypatch.setattr(backup, "copy", slow)
    monkeypatch.setattr("cloacina.store.sqlite.file.connection.TICK_STEPS", 10)
    async with runner_on(tmp_path / "db", workflow()) as runner:
        making = asyncio.ensure_future(runner.backup(tmp_path / "copy.db"))
        await until(asked.is_set)
    with pytest.raises(RunnerClosed, match="given up"):
        await making
    assert files(tmp_path) <= {"db", "db-runners"}
    with pytest.raises(RunnerClosed):
        await runner.backup(tmp_path / "copy.db")


def test_a_blocking_runner_makes_them_too(tmp_path: Path) -> None:
    with BlockingRunner(tmp_path / "db", workflows=[workflow()]) as runner:
        runner.execute("work")
        assert runner.backup(tmp_path / "copy.db") == tmp_path / "copy.db"
        with pytest.raises(ValidationError, match="exists"):
            runner.backup(tmp_path / "copy.db")
        assert runner.backup(tmp_path / "copy.db", overwrite=True).stat().st_size > 10_000
        assert runner.prune() == 0


@pytest.mark.parametrize("harm", ["database", "log", "index"])
async def test_an_idle_runner_notices_that_its_files_are_gone(tmp_path: Path, harm: str) -> None:
    """Within one look, though it has nothing to write."""
    clock = HandClock()
    async with runner_on(tmp_path / "db", workflow(), clock=clock) as runner:
        await runner.execute("work")
        await runner.backup(tmp_path / "copy.db")
        gate = Gate()
        waits = asyncio.ensure_future(runner.execute(held_by(gate)))
        await gate.reached()
        name = {"database": "db", "log": "db-wal", "index": "db-shm"}[harm]
        (tmp_path / "copy.db").replace(tmp_path / name)
        clock.advance(runner._engine.settings.poll_interval)
        with pytest.raises(ForeignConnection, match="removed or replaced"):
            await asyncio.wait_for(waits, 20)
        for call in (runner.submit("work"), runner.execute("work"), runner.list()):
            with pytest.raises(ForeignConnection):
                await call
        for _ in range(3):
            clock.advance(runner._engine.settings.poll_interval)
            await turn()


def held_by(gate: Gate) -> Workflow:
    other = Workflow("other")

    @other.task
    async def it(ctx: Context) -> None:
        await gate.pass_through(ctx)

    return other
