"""The committer when the store's answers get lost: every item is written once, or refused, whatever happens."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from itertools import count
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cloacina.engine.committer import Batch, _write_job
from cloacina.engine.storage.storage import Storage
from cloacina.errors import StoreUnavailable
from cloacina.model.status import ExecutionStatus, RunnerState
from cloacina.store.port import WriteStore
from cloacina.store.rows import ClaimRequest, Group, Item, NewExecution, RunnerRow, StoredExecution
from support.runners import MEMORY

FINE, LOST_BEFORE, LOST_AFTER = "fine", "lost before", "lost after"


class LossyStore:
    """A store of which each answer is fine, or lost before or after the group was written."""

    def __init__(self, store: WriteStore, answers: list[str]) -> None:
        self._store = store
        self._answers = answers

    def claimable(self, request: ClaimRequest) -> bool:
        return self._store.claimable(request)

    def commit(self, group: Group) -> list[StoredExecution]:
        answer = self._answers.pop(0) if self._answers else FINE
        if answer == LOST_BEFORE:
            raise StoreUnavailable("lost before it was written")
        claimed = self._store.commit(group)
        if answer == LOST_AFTER:
            raise StoreUnavailable("lost after it was written")
        return claimed


@pytest.fixture
def store() -> Iterator[Any]:
    with closing(Storage(MEMORY)._backend.writer()) as store:
        yield store


_numbers = count()


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    bad=st.lists(st.booleans(), max_size=5),
    answers=st.lists(st.sampled_from([FINE, LOST_BEFORE, LOST_AFTER]), max_size=12),
    claims=st.booleans(),
)
def test_every_item_is_written_once_or_refused(
    store: Any, bad: list[bool], answers: list[str], claims: bool
) -> None:
    at = f"{next(_numbers)}-"  # each example has a runner, a workflow and executions of its own
    runner, taken, waits, workflow = at + "runner", at + "taken", at + "waits", at + "w"
    store.register_runner(RunnerRow(runner, "host", 1, 1, RunnerState.ALIVE, 0))
    store.register_versions(runner, [(workflow, "1", "{}")], 1)
    store.insert_unowned([new(taken), new(waits)._replace(workflow=workflow)])
    ids = [taken if one else f"{at}good-{position}" for position, one in enumerate(bad)]
    claim = ClaimRequest(((workflow, "1"),), 10, 2) if claims else None
    batch = Batch(tuple(Item(id, new=new(id, runner)) for id in ids), claim)
    lossy = LossyStore(store, answers)
    write = _write_job(runner, 0, batch)
    for _ in range(30):
        try:
            written = write(lossy)  # type: ignore[arg-type]
            break
        except StoreUnavailable:
            continue
    else:
        pytest.fail("it does not come to an end")
    rows = store._connection.rows("SELECT id, owner FROM executions WHERE id LIKE ?1", (at + "%",))
    wanted = {taken: None, waits: runner if claims else None}
    wanted |= {id: runner for id in ids if id != taken}
    assert dict(rows) == wanted
    assert set(written.refused) == {position for position, one in enumerate(bad) if one}
    assert (waits in {row.id for row in written.claimed}) == claims
    (number,) = store._connection.row("SELECT group_no FROM runners WHERE id = ?1", (runner,))
    assert number == written.number


def new(id: str, owner: str | None = None) -> NewExecution:
    return NewExecution(id, "other", "1", ExecutionStatus.PENDING, "{}", None, 0, "[]", owner, 1, None)
