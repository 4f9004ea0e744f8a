"""The rows of a database at one moment, read as they are."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, NamedTuple

from support.rows import AttemptRow, CommandRow, ExecutionRow, RunnerRow


class NoteRow(NamedTuple):
    execution: str
    task: str
    name: str
    value: str


@dataclass(frozen=True)
class Rows:
    """All rows of one moment, in order."""

    executions: dict[str, ExecutionRow]
    attempts: dict[str, dict[str, list[AttemptRow]]]
    """By execution and task, in the order of their numbers."""
    notes: dict[tuple[str, str], dict[str, Any]]
    commands: list[CommandRow]
    runners: dict[str, str]
    """The state of each runner."""

    @classmethod
    def read(cls, store: Any) -> Rows:
        """Read them through a store's own connection."""
        session = store._connection
        with session.snapshot():
            found = {
                kind: [kind(*row) for row in session.rows(_select(kind, table))]
                for kind, table in _TABLES.items()
            }
        attempts: dict[str, dict[str, list[AttemptRow]]] = {}
        for row in found[AttemptRow]:
            attempts.setdefault(row.execution, {}).setdefault(row.task, []).append(row)
        notes: dict[tuple[str, str], dict[str, Any]] = {}
        for row in found[NoteRow]:
            notes.setdefault((row.execution, row.task), {})[row.name] = json.loads(row.value)
        return cls(
            {row.id: row for row in found[ExecutionRow]},
            attempts,
            notes,
            found[CommandRow],
            {row.id: row.state for row in found[RunnerRow]},
        )


_TABLES: dict[Any, str] = {
    ExecutionRow: "executions ORDER BY id",
    AttemptRow: "attempts ORDER BY execution, task, attempt",
    NoteRow: "checkpoints ORDER BY execution, task, name",
    CommandRow: "commands ORDER BY id",
    RunnerRow: "runners ORDER BY id",
}


def _select(kind: Any, table: str) -> str:
    return f"SELECT {', '.join(kind._fields)} FROM {table}"
