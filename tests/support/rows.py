"""The rows of the tables, as the database has them, in the order of their columns."""

from __future__ import annotations

from typing import NamedTuple


class ExecutionRow(NamedTuple):
    id: str
    workflow: str
    version: str
    status: str
    input: str
    result: str | None
    key: str | None
    priority: int
    tags: str
    owner: str | None
    forked_from: str | None
    created: int
    started: int | None
    finished: int | None
    wake_at: int | None
    error: str | None
    parked_for: str | None

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
    delta: str | None
    error: str | None
    reason: str | None
    suspect: int

    @property
    def failure(self) -> bool:
        """True if it counts as one of the attempts that a retry policy allows."""
        return self.state in ("failed", "timed_out")

    @property
    def task_over(self) -> bool:
        """True if its task has ended with it."""
        return self.state in ("completed", "skipped", "cancelled") or (self.failure and self.retry_at is None)

    @property
    def task_state(self) -> str:
        return "failed" if self.failure else self.state


class RunnerRow(NamedTuple):
    id: str
    host: str
    pid: int
    started: int
    state: str
    group_no: int


class CommandRow(NamedTuple):
    id: str
    execution: str
    kind: str
    sent: int
