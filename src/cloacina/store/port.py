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
    Command,
    ExecutionFilter,
    Expired,
    ExpiryLook,
    Fork,
    Group,
    InFlight,
    NewExecution,
    Rewrite,
    RunnerRow,
    StoredExecution,
)
from cloacina.store.script import Script


class WriteStore(Protocol):
    """What the writer thread may ask for."""

    def commit(self, group: Group) -> list[StoredExecution]:
        """Write ``group`` in one transaction behind its fence; return what its claim took over.

        A group whose number the runner row already carries was applied before: nothing is written, and
        the claim answers with everything that the runner owns. Raises `Fenced` if the runner is not alive
        under that number, `StoreRefused` if a row to change was not there or a row to insert was. Whether the
        claim takes what the group itself gives up is left to the store.
        """
        ...

    def void(self, runner: str, number: int) -> bool:
        """See to it that the group with ``number``, which may be on its way, is never stored; false if it is already.

        Its number and the next one are used up then, and the same question gets the same answer. Raises `Fenced`
        as `commit` does.
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
        """Insert an alive runner; nothing if its row is there already."""
        ...

    def register_versions(self, runner: str, versions: Sequence[tuple[str, str, str]], now: int) -> None:
        """Record ``(workflow, version, dag as JSON)`` as known, and as offered by ``runner``.

        Executions of these versions that were parked because nobody had them are live again.
        """
        ...

    def rewrite(self, runner: str, rewrites: Sequence[Rewrite], now: int) -> list[str]:
        """Give executions that nobody owns another version, or park them; return the ids of those changed.

        One is left alone if anything about it is not as the `Rewrite` says, if an alive runner offers its
        version, or if ``runner`` is not alive.
        """
        ...

    def insert_forks(self, made: Sequence[Fork], once: bool) -> list[str | None]:
        """Insert forks with what they copy; those whose id is there already are left alone. All or nothing.

        Returns None for each that is stored. With ``once``, an execution that has a fork is not forked again:
        the answer is the id of that fork then.
        """
        ...

    def recover(self, runner: str, reason: Reason, now: int) -> int:
        """Declare ``runner`` dead, interrupt its running attempts, free its executions; return how many.

        A deferred attempt is interrupted for the reason that it was deferred: that counts as no crash.
        Doing it twice changes nothing the second time. With ``Reason.SHUTDOWN`` the runner ends as stopped.
        """
        ...

    def free_orphans(self, now: int) -> int:
        """Free executions whose owner has no alive row; return how many."""
        ...

    def send(self, command: Command, *, again: bool = False) -> tuple[ExecutionStatus, bool] | None:
        """Carry a command out on an execution that nobody owns, or leave it for the owner.

        Returns the status afterwards, and True if the owner has yet to obey; None if there is no such
        execution. One that has ended is left as it is. What was left before for an owner who is gone is carried
        out first. With ``again``, a command that was left and is there no more was obeyed: nothing is done.
        """
        ...

    def missing(self, executions: Sequence[str]) -> list[str]:
        """Those of ``executions`` that are not stored."""
        ...

    def instance(self) -> str:
        """What tells this database from all others: drawn when it was made, and kept by its copies."""
        ...

    def joining(self) -> JoiningStore:
        """What can be stored within a transaction of somebody else's.

        Raises `ValidationError` for a database that no other transaction can join.
        """
        ...

    def prune(self, executions: Sequence[str]) -> list[str]:
        """Remove those of ``executions`` that have ended, with everything that belongs to them.

        Returns the ids that were removed: none that is live, none that somebody else removed before.
        """
        ...

    def forget_runners(self, before: int) -> int:
        """Remove the rows of runners that started before then, are gone and own nothing; return how many."""
        ...

    def checkpoint_if_due(self) -> None:
        """House-keeping that may take some milliseconds; to be called between groups."""
        ...

    def close(self) -> None:
        """Checkpoint and close."""
        ...


class JoiningStore(Protocol):
    """What may be stored through a connection of somebody else's, within the transaction that is open there.

    It has no connection, and any thread may use it.
    """

    def insert_unowned(self, rows: Sequence[NewExecution]) -> Script[list[StoredExecution | None]]:
        """What `WriteStore.insert_unowned` does with one row, or with any number of rows that have no key.

        Running it raises `ValidationError`, with nothing stored, where the connection leads elsewhere or may not do
        it, `KeyBusy` if another open transaction has the key, and whatever the connection raises.
        """
        ...


class FileStore(WriteStore, Protocol):
    """What the writer thread may ask besides of a database in a file."""

    def nobody_writes(self) -> bool:
        """True if nobody is writing just now, so that all that was written before is there to be seen."""
        ...

    def foreign_change(self) -> bool:
        """True if another connection has committed since the last call."""
        ...


class ReadStore(Protocol):
    """What may be read at any time. Sees everything committed before the call."""

    def execution(self, id: str) -> StoredExecution | None:
        """One execution with its attempts."""
        ...

    def executions(self, filter: ExecutionFilter) -> list[StoredExecution]:
        """Executions without attempts, newest first; payload codecs leave their input and result as stored."""
        ...

    def commands(self, runner: str) -> list[Command]:
        """The commands that were left for ``runner``, oldest first."""
        ...

    def checkpoints(self, execution: str, task: str) -> dict[str, str]:
        """The checkpoints of one task: the value of each as JSON text by its name, oldest first."""
        ...

    def outstanding(self, command: str) -> bool:
        """True if a command was left for an owner that has not obeyed it."""
        ...

    def workflows(self) -> list[str]:
        """The names of all workflows of which a version is known, in order."""
        ...

    def dag(self, workflow: str, version: str | None) -> tuple[str, str] | None:
        """A version of ``workflow`` and its DAG as JSON, or None if it is not known.

        Without ``version`` it is the one that an alive runner offers, else the one registered last.
        """
        ...

    def stranded(
        self, versions: Sequence[tuple[str, str]], known: Sequence[str], limit: int
    ) -> list[InFlight]:
        """Live executions that nobody owns and whose version no alive runner offers, in the order of their ids.

        Only of the workflows in ``versions``, pairs of workflow and version, and of other versions than these.
        Paused and parked ones are left out if their id is in ``known``, and if they were parked for another
        reason than their version.
        """
        ...

    def in_flight(self, after: str, limit: int) -> list[InFlight]:
        """The live executions with the lowest ids above ``after``, whoever owns them."""
        ...

    def forks_of(self, executions: Sequence[str]) -> dict[str, str]:
        """The first fork of each of ``executions`` that has one."""
        ...

    def expired(self, look: ExpiryLook) -> Expired:
        """Executions that may be pruned, in the order of their ids, which is that of their age."""
        ...

    def ended(self, ids: Sequence[str]) -> list[str]:
        """Those of ``ids`` that will not go on by themselves: ended, parked, or not stored."""
        ...

    def pending(self) -> int:
        """How many live executions have no owner."""
        ...

    def next_wake_up(self, versions: Sequence[tuple[str, str]]) -> int | None:
        """When the first unowned execution that waits is due, in microseconds; None if none waits.

        Only executions of these ``(workflow, version)`` pairs count. The moment may have passed.
        """
        ...

    def instance(self) -> str:
        """See `WriteStore.instance`."""
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
