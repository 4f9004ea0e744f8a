"""The floor on SQLite: one transaction a group, behind the fence, and one statement for each kind of row."""

from __future__ import annotations

from typing import Any

import apsw
import msgspec

from benchmarks.floors.group import RUNNER, Group
from cloacina.store.migrations import MIGRATIONS

SETTINGS = "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA cache_size = -8000"
FENCE = "UPDATE runners SET group_no = ?1 WHERE id = ?2 AND state = 'alive' AND group_no = ?1 - 1"

ENDS = """
    UPDATE attempts SET state = sent.value ->> 3, finished = sent.value ->> 4, delta = sent.value ->> 5
    FROM jsonb_each(?) AS sent
    WHERE execution = sent.value ->> 0 AND task = sent.value ->> 1 AND attempt = sent.value ->> 2
        AND state = 'running'"""
FINISHES = """
    UPDATE executions SET status = sent.value ->> 2, owner = NULL, finished = sent.value ->> 3,
        result = sent.value ->> 4
    FROM jsonb_each(?) AS sent
    WHERE executions.id = sent.value ->> 0 AND +owner = sent.value ->> 1"""
NEW = """
    INSERT INTO executions (id, workflow, version, status, input, priority, tags, owner, created, started)
    SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5, value ->> 6,
        value ->> 7, value ->> 8, value ->> 9
    FROM jsonb_each(?)"""
STARTS = """
    INSERT INTO attempts (execution, task, attempt, state, runner, started)
    SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5 FROM jsonb_each(?)"""


class SqliteWriter:
    """A connection to a new file."""

    def __init__(self, path: str) -> None:
        self._database: Any = apsw.Connection(path)
        self._database.execute(SETTINGS)
        for migration in MIGRATIONS:
            self._database.execute(migration)
        self._database.execute(
            "INSERT INTO runners (id, host, pid, started, state, group_no) VALUES (?, '', 0, 0, 'alive', 0)",
            (RUNNER,),
        )
        self._number = 0

    def commit(self, group: Group) -> None:
        execute = self._database.execute
        self._number += 1
        execute("BEGIN IMMEDIATE")
        execute(FENCE, (self._number, RUNNER))
        for statement, rows in zip((ENDS, FINISHES, NEW, STARTS), group, strict=True):
            if rows:
                execute(statement, (msgspec.json.encode(rows).decode(),))
                if self._database.changes() != len(rows):
                    raise AssertionError(f"{len(rows)} rows were sent, {self._database.changes()} written")
        execute("COMMIT")

    def close(self) -> None:
        self._database.close()
