"""Rows and groups for the tests of the stores, with everything that does not matter filled in."""

from __future__ import annotations

from dataclasses import dataclass

from cloacina.model.status import AttemptState, ExecutionStatus, Reason
from cloacina.store.port import ReadStore, WriteStore
from cloacina.store.rows import (
    AttemptEnd,
    AttemptStart,
    ClaimRequest,
    Group,
    Item,
    NewExecution,
    Progress,
    RunnerRow,
    StoredExecution,
    Verdict,
)

ME = "runner-1"
RUNNING = ExecutionStatus.RUNNING
PENDING = ExecutionStatus.PENDING
COMPLETED = ExecutionStatus.COMPLETED


@dataclass
class Stores:
    """The two stores over one database, and the groups of one runner that is alive in it."""

    writer: WriteStore
    reader: ReadStore
    number: int = 0

    def commit(self, *items: Item, claim: ClaimRequest | None = None) -> list[StoredExecution]:
        """Commit the next group of runner `ME`."""
        taken = self.writer.commit(Group(ME, self.number + 1, items, claim))
        self.number += 1
        return taken

    def get(self, id: str) -> StoredExecution:
        found = self.reader.execution(id)
        assert found is not None
        return found


def runner(id: str = ME) -> RunnerRow:
    return RunnerRow(id, "host", 1, 1, "alive", 0)


def new(id: str, **changes: object) -> NewExecution:
    """A pending execution that nobody owns."""
    row = NewExecution(id, "wf", "v1", PENDING, "{}", None, 0, "[]", None, 10, None)
    return row._replace(**changes)  # type: ignore[arg-type]


def submit(id: str, *tasks: str, **changes: object) -> Item:
    """A new execution owned by `ME`, whose ``tasks`` start at once."""
    row = new(id, **{"status": RUNNING, "owner": ME, "started": 10, **changes})
    return Item(id, new=row, starts=[start(id, task) for task in tasks])


def start(id: str, task: str, attempt: int = 1) -> AttemptStart:
    return AttemptStart(id, task, attempt, ME, 11)


def end(id: str, task: str, attempt: int = 1, state: str = "completed", **changes: object) -> AttemptEnd:
    row = AttemptEnd(id, task, attempt, AttemptState(state), 12)
    return row._replace(**changes)  # type: ignore[arg-type]


def skip(id: str, task: str) -> Verdict:
    return Verdict(id, task, 0, AttemptState.SKIPPED, 12, Reason.DEPENDENCY_FAILED)


def progress(id: str, status: ExecutionStatus = COMPLETED, **changes: object) -> Progress:
    row = Progress(id, ME, status, None, finished=13, result='{"a": 1}')
    return row._replace(**changes)  # type: ignore[arg-type]


def claim(limit: int, *workflows: str, now: int = 100) -> ClaimRequest:
    return ClaimRequest(tuple((workflow, "v1") for workflow in workflows or ("wf",)), limit, now)
