"""Leases: how a runner shows that it lives, how others see that it does not, and what it does when it lost its own."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from cloacina.engine.liveness.files.lease import LeaseNote
from cloacina.engine.liveness.files.observer import LeaseFiles
from cloacina.errors import StoreRefused, StoreUnavailable
from cloacina.model.context.context import Context
from cloacina.model.status import AttemptState, ExecutionStatus, Reason
from cloacina.model.task import task
from cloacina.model.workflow import Workflow
from cloacina.runner import Runner
from support.clock import HandClock, turn, until
from support.runners import LONG, Gate, crashing, in_memory, runner_on
from support.stores import Late, fails, interfere

COMPLETED = ExecutionStatus.COMPLETED
QUICK: dict[str, Any] = {"lease": 0.06, "loop_block_limit": LONG}
"""The lease thread looks every 10 ms; the hand-driven clock keeps the lease from running out."""
FILES = pytest.mark.sqlite_only("it is about a file; test_server_leases.py is about leases on a server")


def one(body: Any, name: str = "one", **options: Any) -> Workflow:
    return Workflow(name, [task(body, id="it", **options)])


def folder(path: Path) -> Path:
    return path.with_name(path.name + "-runners")


def files(path: Path) -> list[str]:
    return sorted(file.name for file in folder(path).iterdir())


def stop_lease_thread(runner: Runner) -> None:
    """What a frozen process does not do any more: the file stays locked, and is touched by nobody."""
    lease: Any = runner._engine.life.lease
    assert lease._metronome is not None
    lease._metronome.stop()


# What lies on the disk.


@FILES
async def test_the_lease_is_a_locked_file_for_its_owner_only(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        async with runner_on(tmp_path / "c.db") as runner:
            file = folder(tmp_path / "c.db") / runner.id
            assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
            assert stat.S_IMODE(file.stat().st_mode) == 0o600
            assert stat.S_IMODE((tmp_path / "c.db").stat().st_mode) == 0o600
            with file.open() as other, pytest.raises(BlockingIOError):
                fcntl.flock(other, fcntl.LOCK_SH | fcntl.LOCK_NB)
            assert msgspec.json.decode(file.read_bytes(), type=LeaseNote).pid == os.getpid()
    finally:
        os.umask(before)
    assert files(tmp_path / "c.db") == []


@FILES
async def test_a_database_in_memory_has_no_lease_on_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    gate = Gate()
    gate.open()
    async with in_memory() as runner:
        assert (await runner.execute(one(gate.pass_through))).status is COMPLETED
    assert list(tmp_path.iterdir()) == []


@FILES
async def test_a_lease_that_cannot_be_made_refuses_the_start(tmp_path: Path) -> None:
    folder(tmp_path / "c.db").write_text("in the way")
    with pytest.raises(StoreUnavailable, match="lease file .* cannot be written"):
        await runner_on(tmp_path / "c.db").start()
    folder(tmp_path / "c.db").unlink()
    async with runner_on(tmp_path / "c.db") as runner:
        assert files(tmp_path / "c.db") == [runner.id]


@FILES
async def test_the_thread_touches_the_file(tmp_path: Path) -> None:
    async with runner_on(tmp_path / "c.db", **QUICK) as runner:
        file = folder(tmp_path / "c.db") / runner.id
        os.utime(file, (1, 1))
        await until(lambda: file.stat().st_mtime > 1)


# Others.


@FILES
async def test_a_runner_whose_lock_is_free_is_dead_at_once(tmp_path: Path) -> None:
    gate, clock = Gate(), HandClock()
    workflow = one(gate.pass_through)
    async with runner_on(tmp_path / "c.db", workflow, clock=clock) as survivor:
        async with crashing(runner_on(tmp_path / "c.db")) as dying:
            handle = await dying.submit(workflow)
            await gate.reached()
            waiting = asyncio.ensure_future(survivor.result(handle.id))
            await turn()
        gate.open()
        clock.advance(1)
        result = await asyncio.wait_for(waiting, 20)
        await until(lambda: files(tmp_path / "c.db") == [survivor.id])
    assert [(attempt.state, attempt.reason) for attempt in result.tasks["it"].history] == [
        (AttemptState.INTERRUPTED, Reason.CRASH),
        (AttemptState.COMPLETED, None),
    ]


@FILES
async def test_a_runner_whose_file_is_gone_is_dead_at_once(tmp_path: Path) -> None:
    gate, clock = Gate(), HandClock()
    workflow = one(gate.pass_through)
    async with runner_on(tmp_path / "c.db", workflow, clock=clock) as survivor:
        async with crashing(runner_on(tmp_path / "c.db")) as dying:
            handle = await dying.submit(workflow)
            await gate.reached()
            file = folder(tmp_path / "c.db") / dying.id
            clock.advance(1)
            recovery: Any = survivor._engine._recovery
            await until(lambda: recovery.peers == 1 and 1.0 in clock.turns)
        file.unlink()
        gate.open()
        clock.advance(1)
        assert (await survivor.result(handle.id, timeout=20)).status is COMPLETED


@FILES
async def test_a_frozen_runner_is_dead_when_its_lease_has_passed(tmp_path: Path) -> None:
    gate, clock = Gate(), HandClock()
    workflow = one(gate.pass_on_thread)
    async with (
        runner_on(tmp_path / "c.db", lease=100.0) as frozen,
        runner_on(tmp_path / "c.db", workflow, clock=clock) as survivor,
    ):
        handle = await frozen.submit(workflow)
        await gate.reached()
        id = frozen.id
        stop_lease_thread(frozen)
        for _ in range(99):
            clock.advance(1)
            await until(lambda: 1.0 in clock.turns)
        assert (await survivor.get(handle.id)).tasks["it"].attempts == 1
        assert id in files(tmp_path / "c.db")
        for _ in range(3):
            clock.advance(1)
            await until(lambda: 1.0 in clock.turns)
        await gate.reached(2)
        gate.open()
        result = await survivor.result(handle.id, timeout=20)
        assert (await asyncio.wait_for(frozen.result(handle.id), 20)) == result
        await until(lambda: frozen.id != id)
    assert [(attempt.state, attempt.reason) for attempt in result.tasks["it"].history] == [
        (AttemptState.INTERRUPTED, Reason.LOST_LEASE),
        (AttemptState.COMPLETED, None),
    ]


@FILES
async def test_a_runner_that_goes_on_touching_its_file_lives(tmp_path: Path) -> None:
    clock = HandClock()
    async with (
        runner_on(tmp_path / "c.db", lease=100.0) as other,
        runner_on(tmp_path / "c.db", clock=clock),
    ):
        file, id = folder(tmp_path / "c.db") / other.id, other.id
        for moment in range(1, 20):
            os.utime(file, (moment, moment))
            clock.advance(60)
            await until(lambda: 1.0 in clock.turns)
        await turn()
        assert (other.id, file.exists()) == (id, True)


@FILES
async def test_nothing_is_asked_of_the_database_while_nothing_happens(tmp_path: Path) -> None:
    clock = HandClock()
    async with runner_on(tmp_path / "c.db", clock=clock) as runner:
        clock.advance(1)  # what was written at its start is asked after once more
        bell = runner._engine.access.bell
        await until(lambda: bell._ask_at > 1e9 and bell._answering is None, "the last answer")
        asked = list[str]()
        for thread in (runner._engine.means.writer, runner._engine.means.reader):
            thread._store = Counted(thread._store, asked)
        for _ in range(20):
            clock.advance(1)
            await until(lambda: 1.0 in clock.turns)
        assert asked == []


class Counted:
    """A store that writes down what it is asked."""

    def __init__(self, inner: Any, asked: list[str]) -> None:
        self._inner, self._asked = inner, asked

    def __getattr__(self, name: str) -> Any:
        self._asked.append(name)
        return getattr(self._inner, name)


async def test_work_and_results_of_another_runner_are_seen(tmp_path: Path) -> None:
    gate, clock = Gate(), HandClock()
    workflow = one(gate.pass_through)
    async with (
        runner_on(tmp_path / "c.db", window=1) as first,
        contextlib.AsyncExitStack() as later,
    ):
        mine = await first.submit(workflow)
        await gate.reached()
        second = await later.enter_async_context(runner_on(tmp_path / "c.db", workflow, clock=clock))
        stored = await first.submit(workflow)
        elsewhere = asyncio.ensure_future(second.result(mine.id))
        clock.advance(1)
        await gate.reached(2)
        assert (await first.list())[0].owner == second.id
        gate.open()
        assert (await second.result(stored.id, timeout=20)).status is COMPLETED
        await mine.result(timeout=20)
        await until(lambda: 1.0 in clock.turns)
        clock.advance(1)
        assert (await asyncio.wait_for(elsewhere, 20)).status is COMPLETED


# Its own.


@FILES
@pytest.mark.parametrize("how", ["removed", "replaced", "folder gone"])
async def test_a_runner_whose_file_was_taken_starts_anew(
    how: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    gate = Gate()
    async with runner_on(tmp_path / "c.db", **QUICK) as runner:
        handle = await runner.submit(one(gate.pass_through))
        await gate.reached()
        file, id = folder(tmp_path / "c.db") / runner.id, runner.id
        if how == "replaced":
            other = tmp_path / "other"
            other.write_text("")
            other.replace(file)
        else:
            file.unlink()
            if how == "folder gone":
                file.parent.rmdir()
        await until(lambda: runner.id != id)
        gate.open()
        result = await handle.result(timeout=20)
        assert files(tmp_path / "c.db") == [runner.id]
    assert [attempt.reason for attempt in result.tasks["it"].history] == [Reason.LOST_LEASE, None]
    assert "gives up what it owns" in caplog.text


@FILES
async def test_a_runner_that_cannot_have_a_new_lease_says_so_to_everybody(tmp_path: Path) -> None:
    gate = Gate()
    async with runner_on(tmp_path / "c.db", **QUICK) as runner:
        waiting = asyncio.ensure_future(runner.execute(one(gate.pass_through)))
        await gate.reached()
        file = folder(tmp_path / "c.db") / runner.id
        file.unlink()
        file.parent.rmdir()
        file.parent.write_text("in the way")
        with pytest.raises(StoreUnavailable, match="lease file"):
            await asyncio.wait_for(waiting, 20)
        with pytest.raises(StoreUnavailable):
            await runner.submit("one")


@FILES
async def test_a_runner_that_could_not_renew_in_time_starts_anew(tmp_path: Path) -> None:
    """A machine that slept: its own clock says that the lease has passed before anybody else does."""
    gate, clock = Gate(), HandClock()
    async with runner_on(tmp_path / "c.db", clock=clock, **QUICK) as runner:
        handle = await runner.submit(one(gate.pass_through))
        await gate.reached()
        id = runner.id
        clock.advance(1000)
        await until(lambda: runner.id != id)
        gate.open()
        result = await handle.result(timeout=20)
    assert [attempt.reason for attempt in result.tasks["it"].history] == [Reason.LOST_LEASE, None]


@FILES
async def test_no_body_starts_on_a_lease_that_has_passed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    gate, clock = Gate(), HandClock()
    async with runner_on(tmp_path / "c.db", clock=clock, lease=100.0) as runner:
        stop_lease_thread(runner)
        clock.advance(100)
        await runner.submit(one(gate.pass_through))
        await until(lambda: "a body was not started" in caplog.text)
        await turn()
        assert gate.entered == 0
        await runner.shutdown(0)
    gate.open()
    async with runner_on(tmp_path / "c.db", one(gate.pass_through)) as runner:
        (info,) = await runner.list()
        assert (await runner.result(info.id, timeout=20)).status is COMPLETED


async def test_no_body_starts_whose_end_is_being_committed(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, clock, late = Gate(), HandClock(), Late()
    gate.open()
    workflow = Workflow("one", [task(gate.pass_through, id="it")], timeout=60)
    async with in_memory(clock=clock) as runner:
        lease = runner._engine.life.lease
        monkeypatch.setattr(lease, "fresh", lambda: False, raising=False)
        handle = await runner.submit(workflow)
        await until(lambda: "a body was not started" in caplog.text)
        interfere(runner).plan("commit", late)
        clock.advance(61)  # the execution is out of time
        await late.reached()
        monkeypatch.setattr(lease, "fresh", lambda: True, raising=False)
        clock.advance(60)
        await turn()
        late.release()
        assert (await handle.result()).status is ExecutionStatus.FAILED
    assert gate.entered == 0


@FILES
async def test_a_loop_that_is_blocked_gives_its_lease_up_and_names_the_body(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clock, starts = HandClock(), list[str]()
    workflow = Workflow("blocking")

    @workflow.task
    async def hog(ctx: Context) -> None:
        starts.append(runner.id)
        if len(starts) == 1:
            await asyncio.sleep(0)
            clock.advance(61)
            note = folder(tmp_path / "c.db") / runner.id
            for _ in range(2000):
                if msgspec.json.decode(note.read_bytes(), type=LeaseNote).given_up:
                    break
                threading.Event().wait(0.01)
            await asyncio.Event().wait()

    async with runner_on(tmp_path / "c.db", clock=clock, lease=1e6, loop_block_limit=0.06) as runner:
        handle = await runner.submit(workflow)
        result = await handle.result(timeout=20)
    assert len(set(starts)) == len(starts) == 2
    assert [attempt.reason for attempt in result.tasks["hog"].history] == [Reason.LOST_LEASE, None]
    assert f"by task 'hog' of execution {handle.id}" in caplog.text


async def test_a_loop_that_is_blocked_by_no_body_is_told_apart(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clock = HandClock()
    async with runner_on(tmp_path / "c.db", clock=clock, lease=1e6, loop_block_limit=0.06) as runner:
        id = runner.id
        await runner._engine.access.bell.stop()  # else it is found at work in the middle of the leap
        clock.advance(61)
        for _ in range(2000):
            if "gives up what it owns" in caplog.text:
                break
            threading.Event().wait(0.01)
        await until(lambda: runner.id != id)
    assert "by code outside any task, here:" in caplog.text
    assert "test_leases.py" in caplog.text


@FILES
async def test_a_look_around_that_fails_is_told_and_tried_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    gate, clock = Gate(), HandClock()
    workflow = one(gate.pass_through)
    async with runner_on(tmp_path / "c.db", workflow, clock=clock) as survivor:
        async with crashing(runner_on(tmp_path / "c.db")) as dying:
            handle = await dying.submit(workflow)
            await gate.reached()
        interfere(survivor).plan("recover", fails(StoreRefused("not now")))
        clock.advance(1)
        await until(lambda: "recovery failed and is tried again in 1.0s" in caplog.text)
        await until(lambda: 1.0 in clock.turns)
        gate.open()
        clock.advance(1)
        assert (await survivor.result(handle.id, timeout=20)).status is COMPLETED


# The observer by itself.


@pytest.fixture
def observer(tmp_path: Path) -> tuple[LeaseFiles, HandClock, Path]:
    clock = HandClock()
    return LeaseFiles(tmp_path, clock), clock, tmp_path


@pytest.fixture
def locked(tmp_path: Path) -> Iterator[Path]:
    file = tmp_path / "other"
    with file.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield file


def note(file: Path, given_up: bool = False) -> None:
    file.write_bytes(msgspec.json.encode(LeaseNote(1, 10.0, given_up)))


@FILES
def test_a_folder_that_is_not_there_has_no_runners(tmp_path: Path) -> None:
    assert LeaseFiles(tmp_path / "none", HandClock()).dead("me") == {}


@FILES
@pytest.mark.parametrize(("given_up", "reason"), [(False, Reason.CRASH), (True, Reason.LOST_LEASE)])
def test_a_free_lock(observer: tuple[LeaseFiles, HandClock, Path], given_up: bool, reason: Reason) -> None:
    note(observer[2] / "other", given_up)
    note(observer[2] / "me")
    assert observer[0].dead("me") == {"other": reason}
    observer[0].remove("other")
    assert observer[0].dead("me") == {}


@FILES
def test_a_held_lock(observer: tuple[LeaseFiles, HandClock, Path], locked: Path) -> None:
    watch, clock, _ = observer
    note(locked)
    os.utime(locked, (1, 1))
    assert watch.dead("me") == {}
    clock.advance(9.9)
    assert watch.dead("me") == {}
    os.utime(locked, (2, 2))
    clock.advance(9.9)
    assert watch.dead("me") == {}
    clock.advance(9.9)
    assert watch.dead("me") == {}
    clock.advance(0.1)
    assert watch.dead("me") == {"other": Reason.LOST_LEASE}


@FILES
@pytest.mark.parametrize("content", [b"", b"{", b"nonsense"])
def test_a_file_that_is_still_being_made_has_time(
    observer: tuple[LeaseFiles, HandClock, Path], content: bytes
) -> None:
    watch, clock, path = observer
    (path / "other").write_bytes(content)
    assert watch.dead("me") == {}
    clock.advance(29)
    assert watch.dead("me") == {}
    clock.advance(1)
    assert watch.dead("me") == {"other": Reason.LOST_LEASE}
