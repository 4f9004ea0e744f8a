"""What one process notices of another: every commit, even one that leaves no trace on the file's size and time."""

from __future__ import annotations

import os
from pathlib import Path

import apsw

from cloacina.clock import SystemClock, system_randomness
from cloacina.engine.liveness.lease import Observer
from cloacina.engine.liveness.recovery import Recovery
from cloacina.engine.storage.storage import Storage


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

    try:
        assert storage.folder is not None
        recovery = Recovery(storage, Observer(storage.folder, SystemClock()), SystemClock(), notice)
        for _ in range(5):
            commit()
        other.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_RESTART)
        os.utime(tmp_path / "work.db-wal", ns=(2, 2))
        await recovery.start()
        signatures = []
        for number in (1, 2):
            commit()
            signatures.append(storage.signature())
            await recovery.tick()
            assert len(found) == number
        assert signatures[0] == signatures[1]
    finally:
        other.close()
        await storage.close()
