"""DBOS, launched on a fresh database and destroyed after the measurement."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import closing

from dbos import DBOS, DBOSConfig

from benchmarks.harness.database import Database
from benchmarks.harness.question import Sample


def launch(database: Database, wal: bool) -> None:
    """Launch DBOS with its own defaults, but for less logging; ``wal`` sets an SQLite file's journal mode before.

    The journal mode is a property of the file, and DBOS leaves it as it finds it. Both modes sync every commit
    (``synchronous=FULL``, which is SQLite's default).
    """
    config: DBOSConfig = {"name": "benchmark", "log_level": "ERROR", "application_version": "1"}
    if database.schema:
        config["system_database_url"] = database.url
        config["dbos_system_schema"] = database.schema
    else:
        config["system_database_url"] = f"sqlite:///{database.url}"
    if wal:
        with closing(sqlite3.connect(database.url)) as connection:
            connection.execute("PRAGMA journal_mode = WAL")
    DBOS(config=config)
    DBOS.launch()


def with_dbos(database: Database, wal: bool, measure: Callable[[], Awaitable[Sample]]) -> Sample:
    """Let ``measure`` run on a launched DBOS."""

    async def main() -> Sample:
        launch(database, wal)
        try:
            return await measure()
        finally:
            DBOS.destroy()

    return asyncio.run(main())
