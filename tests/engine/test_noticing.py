"""What one process notices of another: every commit, even one that leaves no trace on the file's size and time."""

from __future__ import annotations

import os
from pathlib import Path

import apsw

from cloacina.clock import system_randomness
from cloacina.engine.doorbell import INTERVAL, Doorbell
from cloacina.engine.storage.storage import Storage
from support.clock import HandClock


async def test_a_commit_in_the_same_tick_of_the_file_systems_clock_is_noticed(tmp_path: Path) -> None:
    storage = Storage(tmp_path / "work.db")
    await storage.open(system_randomness())
    other = apsw.Connection(str(tmp_path / "work.db"))
    found: list[str] = []

    async def notice() -> None:
        found.append("changed")

    def commit() -> None:
        """A commit of another process, over old pages of the log, so that the file does not grow."""
        other.execute("UPDATE meta SET value = value || 'x' WHERE key = 'instance'")
        os.utime(tmp_path / "work.db-wal", ns=(1, 1))

    clock = HandClock()
    bell = Doorbell(storage, clock, notice)
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
    storage = Storage(tmp_path / "work.db")
    await storage.open(system_randomness())
    clock = HandClock()

    async def notice() -> None:
        raise AssertionError("nobody wrote")

    bell = Doorbell(storage, clock, notice)
    bell.start()
    storage.writer.call = None  # type: ignore[method-assign,assignment]  # a use would raise
    assert clock.advance(100 * INTERVAL) == 100
    await bell.stop()
    del storage.writer.call
    await storage.close()
