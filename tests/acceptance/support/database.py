"""The database as the checker reads it, from outside and without changing it, and the audit that it keeps."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import apsw
import msgspec

from cloacina.store.location import Location
from cloacina.store.sqlite.database import Database

_AUDIT = """
CREATE TABLE audit (id INTEGER PRIMARY KEY, execution TEXT, task TEXT, attempt INTEGER, before TEXT, after TEXT,
    runner TEXT);
CREATE TRIGGER audit_runners AFTER UPDATE OF state ON runners WHEN old.state <> new.state BEGIN
    INSERT INTO audit (runner, before, after) VALUES (new.id, old.state, new.state); END;
CREATE TRIGGER audit_executions AFTER UPDATE OF status ON executions WHEN old.status <> new.status BEGIN
    INSERT INTO audit (execution, before, after) VALUES (new.id, old.status, new.status); END;
CREATE TRIGGER audit_new_executions AFTER INSERT ON executions BEGIN
    INSERT INTO audit (execution, after) VALUES (new.id, new.status); END;
CREATE TRIGGER audit_lost_executions AFTER DELETE ON executions BEGIN
    INSERT INTO audit (execution, before) VALUES (old.id, old.status); END;
CREATE TRIGGER audit_attempts AFTER UPDATE OF state ON attempts WHEN old.state <> new.state BEGIN
    INSERT INTO audit (execution, task, attempt, before, after, runner)
    VALUES (new.execution, new.task, new.attempt, old.state, new.state, new.runner); END;
CREATE TRIGGER audit_new_attempts AFTER INSERT ON attempts BEGIN
    INSERT INTO audit (execution, task, attempt, after, runner)
    VALUES (new.execution, new.task, new.attempt, new.state, new.runner); END;
"""


class ExecutionRow(NamedTuple):
    id: str
    workflow: str
    status: str
    input: str
    result: str | None
    key: str | None
    owner: str | None
    forked_from: str | None

    @property
    def number(self) -> int:
        number: int = msgspec.json.decode(self.input)["n"]
        return number

    @property
    def over(self) -> bool:
        return self.status in ("completed", "failed", "cancelled")


class AttemptRow(NamedTuple):
    execution: str
    task: str
    attempt: int
    state: str
    runner: str | None
    started: int | None
    finished: int | None
    retry_at: int | None
    reason: str | None
    suspect: int

    @property
    def over(self) -> bool:
        """True if no other attempt follows it."""
        return (
            self.state in ("completed", "failed", "timed_out", "skipped", "cancelled")
            and self.retry_at is None
        )


class RunnerRow(NamedTuple):
    id: str
    pid: int
    state: str


class Move(NamedTuple):
    """One change of a state, in the order in which they were committed.

    Of an attempt with its runner, of an execution without a task, of a runner without an execution.
    """

    execution: str | None
    task: str | None
    attempt: int | None
    before: str | None
    after: str | None
    runner: str | None


class Contents(NamedTuple):
    """Everything that the checker looks at, as of one moment."""

    executions: dict[str, ExecutionRow]
    attempts: dict[str, dict[str, list[AttemptRow]]]
    """By execution and task, in their order."""
    runners: dict[str, RunnerRow]
    audit: list[Move]

    @property
    def rows(self) -> list[AttemptRow]:
        """Every attempt."""
        return [row for tasks in self.attempts.values() for rows in tasks.values() for row in rows]

    def of(self, workflow: str) -> list[ExecutionRow]:
        """The executions of one workflow."""
        return [row for row in self.executions.values() if row.workflow == workflow]

    def pid(self, row: AttemptRow) -> int:
        """The process that an attempt ran in."""
        return self.runners[row.runner or ""].pid


def prepare(path: Path) -> None:
    """Make the database, with triggers that write down every change of a state, in its own transaction."""
    Database(Location(path)).writer().close()
    connection = apsw.Connection(str(path))
    connection.execute(_AUDIT)
    connection.close()


def read(path: Path) -> Contents:
    """What is committed now. Raises `AssertionError` if the file is damaged."""
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        connection.set_busy_timeout(10_000)
        connection.execute("BEGIN")
        problem = connection.execute("PRAGMA integrity_check").get
        assert problem == "ok", f"{path} is damaged: {problem}"
        return Contents(
            {row[0]: ExecutionRow(*row) for row in _rows(connection, ExecutionRow, "executions")},
            by_task([AttemptRow(*row) for row in _rows(connection, AttemptRow, "attempts")]),
            {row[0]: RunnerRow(*row) for row in _rows(connection, RunnerRow, "runners")},
            [Move(*row) for row in _rows(connection, Move, "audit ORDER BY id")]
            if _audited(connection)
            else [],
        )
    finally:
        connection.close()


def _rows(connection: apsw.Connection, kind: Any, table: str) -> list[tuple[Any, ...]]:
    return list(connection.execute(f"SELECT {', '.join(kind._fields)} FROM {table}"))


def _audited(connection: apsw.Connection) -> bool:
    return bool(connection.execute("SELECT count(*) FROM sqlite_schema WHERE name = 'audit'").get)


def by_task(rows: list[AttemptRow]) -> dict[str, dict[str, list[AttemptRow]]]:
    """Attempts by execution and task, in their order."""
    found: dict[str, dict[str, list[AttemptRow]]] = {}
    for row in sorted(rows, key=lambda row: row[:3]):
        found.setdefault(row.execution, {}).setdefault(row.task, []).append(row)
    return found
