"""What one process notices of another: every commit, even one that leaves no trace on the file's size and time."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import apsw
import pytest

from cloacina.engine.liveness.files import doorbell
from cloacina.engine.liveness.files.doorbell import INTERVAL, FileDoorbell
from cloacina.engine.machine import Machine
from cloacina.engine.storage.file_watch import FileWatch
from cloacina.engine.storage.storage import Storage
from support.clock import HandClock, until

pytestmark = pytest.mark.sqlite_only("what is watched is the database's file")


async def test_a_commit_in_the_same_tick_of_the_file_systems_clock_is_noticed(tmp_path: Path) -> None:
    clock = HandClock()
    storage = Storage(tmp_path / "work.db", machine=Machine(clock))
    await storage.open()
    other = apsw.Connection(str(tmp_path / "work.db"))
    found: list[str] = []

    async def notice() -> None:
        found.append("changed")

    def commit() -> None:
        """A commit of another process, over old pages of the log, so that the file does not grow."""
        other.execute("UPDATE meta SET value = value || 'x' WHERE key = 'instance'")
        os.utime(tmp_path / "work.db-wal", ns=(1, 1))

    bell = FileDoorbell(storage, notice)
    try:
        for _ in range(5):
            commit()
        other.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_RESTART)
        os.utime(tmp_path / "work.db-wal", ns=(2, 2))
        await storage.writer.run(lambda store: store.foreign_change())
        bell.start()
        signatures = []
        for number in (1, 2):
            commit()
            signatures.append(storage.signature())
            heard = bell.listen()
            clock.advance(INTERVAL)
            await heard
            assert len(found) == number
        assert signatures[0] == signatures[1]
    finally:
        await bell.stop()
        other.close()
        await storage.close()


async def test_a_look_at_a_file_that_nobody_writes_runs_no_sql(tmp_path: Path) -> None:
    clock = HandClock()
    storage = Storage(tmp_path / "work.db", machine=Machine(clock))
    await storage.open()

    async def notice() -> None:
        raise AssertionError("nobody wrote")

    bell = FileDoorbell(storage, notice)
    bell.start()
    clock.advance(INTERVAL)  # it asks once more after what was written before it began
    await until(lambda: bell._answering is None, "the answer")
    storage.writer.call = None  # type: ignore[method-assign,assignment]  # a use would raise
    assert clock.advance(100 * INTERVAL) == 100
    await bell.stop()
    del storage.writer.call
    await storage.close()


class Slow:
    """A storage whose log is written to before the commit is there to be seen, as while a slow disk takes it."""

    def __init__(self, clock: HandClock) -> None:
        self.machine = Machine(clock)
        self.written, self.visible, self.asked, self.busy = 0, False, 0, False
        self.writer: Any = self

    def signature(self) -> object:
        return self.written

    def nobody_writes(self) -> bool:
        return not self.busy

    def foreign_change(self) -> bool:
        self.asked += 1
        visible, self.visible = self.visible, False
        return visible

    async def run(self, job: Callable[[Any], bool]) -> bool:
        return job(self)


async def looks(clock: HandClock, bell: FileDoorbell, seconds: float) -> None:
    """Let so much time go by, and all looks that fall due in it come to their end."""
    end = clock.monotonic() + seconds
    while clock.monotonic() < end:
        clock.advance(INTERVAL / 5)
        await until(lambda: bell._answering is None, "the answer")


@pytest.mark.parametrize("taken", [0.03, 0.3, 3, 300])
async def test_a_commit_that_a_slow_disk_takes_long_after_it_was_written_is_noticed(taken: float) -> None:
    clock, rung = HandClock(), 0
    storage = Slow(clock)

    async def ring() -> None:
        nonlocal rung
        rung += 1

    bell = FileDoorbell(cast(Any, storage), ring)
    bell.start()
    await looks(clock, bell, 1)
    storage.written, storage.busy = 1, True
    await looks(clock, bell, taken)
    assert rung == 0
    storage.visible, storage.busy = True, False
    await looks(clock, bell, taken + 2 * INTERVAL)
    assert rung == 1
    asked = storage.asked
    await looks(clock, bell, 8 * taken)
    assert storage.asked == asked, "an idle engine asks nothing"
    await bell.stop()


async def test_what_failed_after_a_ring_is_done_again() -> None:
    clock, rung = HandClock(), 0
    storage = Slow(clock)

    async def ring() -> None:
        nonlocal rung
        rung += 1
        if rung == 1:
            raise OSError("once")

    bell = FileDoorbell(cast(Any, storage), ring)
    bell.start()
    storage.written, storage.visible = 1, True
    await looks(clock, bell, 1)
    assert rung == 2
    await bell.stop()


class Bell:
    """A doorbell on a database of its own, and the connection of another process."""

    def __init__(self, path: Path) -> None:
        self.storage = Storage(path)
        self.rung = 0
        self._path = path

    async def __aenter__(self) -> Bell:
        await self.storage.open()
        self.other = apsw.Connection(str(self._path))
        self.bell = FileDoorbell(self.storage, self._ring)
        self.bell.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.bell.stop()
        self.other.close()
        await self.storage.close()

    async def _ring(self) -> None:
        self.rung += 1

    def commit(self) -> None:
        self.other.execute("UPDATE meta SET value = value || 'x' WHERE key = 'instance'")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="there is no inotify")
async def test_the_kernel_tells_of_a_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doorbell, "SLOW", 1e6)
    async with Bell(tmp_path / "work.db") as here:
        watch = here.bell._watch
        assert watch is not None
        for number in (1, 2, 3):
            await until(lambda: watch._told is not None, "the watch")
            here.commit()
            await until(lambda number=number: here.rung == number, "the bell")  # type: ignore[misc]


@pytest.mark.parametrize("why", ["there is no watch", "it cannot be armed", "it tells nothing"])
async def test_without_the_kernels_help_it_looks_itself(
    why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doorbell, "SLOW", 0.01)
    if why == "there is no watch":
        monkeypatch.setattr(FileWatch, "of", lambda path: None)
    else:
        monkeypatch.setattr(FileWatch, "arm", lambda self, told: why == "it tells nothing")
    async with Bell(tmp_path / "work.db") as here:
        for number in (1, 2):
            here.commit()
            await until(lambda number=number: here.rung == number, "the bell")  # type: ignore[misc]


async def test_a_write_while_the_watch_is_being_armed_is_not_missed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doorbell, "SLOW", 1e6)
    async with Bell(tmp_path / "work.db") as here:

        def arm(self: FileWatch, told: object) -> bool:
            if not here.rung:
                here.commit()
            return True

        monkeypatch.setattr(FileWatch, "arm", arm)
        await until(lambda: here.rung, "the bell")


async def test_whether_somebody_is_in_the_middle_of_a_write(tmp_path: Path) -> None:
    async with Bell(tmp_path / "work.db") as here:
        writer = here.storage.writer
        assert await writer.run(lambda store: store.nobody_writes())
        here.other.execute("BEGIN IMMEDIATE")
        assert not await writer.run(lambda store: store.nobody_writes())
        here.other.execute("ROLLBACK")
        assert await writer.run(lambda store: store.nobody_writes())
