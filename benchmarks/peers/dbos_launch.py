"""DBOS, launched on a fresh SQLite file and destroyed after the measurement."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path

from dbos import DBOS, DBOSConfig

from benchmarks.harness.question import Sample


def launch(database: Path, wal: bool) -> None:
    """Launch DBOS with its own defaults, but for less logging; ``wal`` sets the file's journal mode before.

    The journal mode is a property of the file, and DBOS leaves it as it finds it. Both modes sync every commit
    (``synchronous=FULL``, which is SQLite's default).
    """
    if wal:
        with closing(sqlite3.connect(database)) as connection:
            connection.execute("PRAGMA journal_mode = WAL")
    config: DBOSConfig = {
        "name": "benchmark",
        "system_database_url": f"sqlite:///{database}",
        "log_level": "ERROR",
        "application_version": "1",
    }
    DBOS(config=config)
    DBOS.launch()


def with_dbos(database: Path, wal: bool, measure: Callable[[], Awaitable[Sample]]) -> Sample:
    """Let ``measure`` run on a launched DBOS."""

    async def main() -> Sample:
        launch(database, wal)
        try:
            return await measure()
        finally:
            DBOS.destroy()

    return asyncio.run(main())
