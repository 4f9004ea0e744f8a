"""The store as the engine sees it: blocking calls, each one transaction.

Every method that writes is called from the writer thread only; every method that reads, from the reader
thread only (for a database in memory they are one thread). A call either has its whole effect or none.
All raise the classes under `StoreError`: ``StoreBusy`` and ``StoreUnavailable`` mean that the same call may
be repeated, ``StoreRefused`` that this content never fits, ``Fenced`` that the runner is no longer alive.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from cloacina.model.status import ExecutionStatus, Reason
from cloacina.store.rows import (
    ClaimRequest,
    ExecutionFilter,
    Group,
    NewExecution,
    RunnerRow,
    StoredExecution,
)


class WriteStore(Protocol):
    """What the writer thread may ask for."""

    def commit(self, group: Group) -> list[StoredExecution]:
        """Write ``group`` in one transaction behind its fence; return what its claim took over.

        A group whose number the runner row already carries was applied before: nothing is written, and
        the claim answers with everything that the runner owns. Raises `Fenced` if the runner is not alive
        under that number, `StoreRefused` if a row to change was not there or a row to insert was.
        """
        ...

    def claimable(self, request: ClaimRequest) -> bool:
        """True if a commit with this claim would take anything. Writes nothing."""
        ...

    def insert_unowned(self, rows: Sequence[NewExecution]) -> list[StoredExecution | None]:
        """Insert executions without owner; rows whose id is there already are left alone.

        Returns, per row, None if the execution is stored under this id, else the execution that holds its
        idempotency key (without attempts). One transaction: all or nothing.
        """
        ...

    def register_runner(self, row: RunnerRow) -> None:
        """Insert an alive runner."""
        ...

    def register_versions(self, runner: str, versions: Sequence[tuple[str, str, str]], now: int) -> None:
        """Record ``(workflow, version, dag as JSON)`` as known, and as offered by ``runner``."""
        ...

    def recover(self, runner: str, reason: Reason, now: int) -> int:
        """Declare ``runner`` dead, interrupt its running attempts, free its executions; return how many.

        Doing it twice changes nothing the second time. With ``Reason.SHUTDOWN`` the runner ends as stopped.
        """
        ...

    def free_orphans(self, now: int) -> int:
        """Free executions whose owner has no alive row; return how many."""
        ...

    def cancel_unowned(self, execution: str, now: int) -> ExecutionStatus | None:
        """Cancel an execution that nobody owns, with a row for every task; return its status afterwards.

        Returns None if there is no such execution. One that has an owner or has ended is left as it is.
        """
        ...

    def foreign_change(self) -> bool:
        """True if another connection has committed since the last call."""
        ...

    def checkpoint_if_due(self) -> None:
        """House-keeping that may take some milliseconds; to be called between groups."""
        ...

    def close(self) -> None:
        """Checkpoint and close."""
        ...


class ReadStore(Protocol):
    """What may be read at any time. Sees everything committed before the call."""

    def execution(self, id: str) -> StoredExecution | None:
        """One execution with its attempts."""
        ...

    def executions(self, filter: ExecutionFilter) -> list[StoredExecution]:
        """Executions without attempts, newest first."""
        ...

    def ended(self, ids: Sequence[str]) -> list[str]:
        """Those of ``ids`` that are in a terminal state."""
        ...

    def pending(self) -> int:
        """How many live executions have no owner."""
        ...

    def next_wake_up(self, versions: Sequence[tuple[str, str]]) -> int | None:
        """When the first unowned execution that waits is due, in microseconds; None if none waits.

        Only executions of these ``(workflow, version)`` pairs count. The moment may have passed.
        """
        ...

    def runners(self) -> list[RunnerRow]:
        """Every runner that is alive, by its row."""
        ...

    def versions(self, workflow: str) -> list[str]:
        """Every version of ``workflow`` that a runner has registered, oldest first."""
        ...

    def offered(self, workflow: str, version: str) -> list[str]:
        """The alive runners that offer this version."""
        ...

    def close(self) -> None: ...
