"""The committer when the store's answers get lost: every item is written once, or refused, whatever happens."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloacina.engine.committer import Batch, _write_job
from cloacina.errors import StoreUnavailable
from cloacina.model.status import ExecutionStatus, RunnerState
from cloacina.store.location import Location
from cloacina.store.rows import ClaimRequest, Group, Item, NewExecution, RunnerRow, StoredExecution
from cloacina.store.sqlite.database import Database, SqliteWriter

FINE, LOST_BEFORE, LOST_AFTER = "fine", "lost before", "lost after"


class LossyStore:
    """A store of which each answer is fine, or lost before or after the group was written."""

    def __init__(self, store: SqliteWriter, answers: list[str]) -> None:
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


@settings(max_examples=150, deadline=None)
@given(
    bad=st.lists(st.booleans(), max_size=5),
    answers=st.lists(st.sampled_from([FINE, LOST_BEFORE, LOST_AFTER]), max_size=12),
    claims=st.booleans(),
)
def test_every_item_is_written_once_or_refused(bad: list[bool], answers: list[str], claims: bool) -> None:
    store = Database(Location(None)).writer()
    try:
        store.register_runner(RunnerRow("runner", "host", 1, 1, RunnerState.ALIVE, 0))
        store.register_versions("runner", [("w", "1", "{}")], 1)
        store.insert_unowned([new("taken"), new("waits")._replace(workflow="w")])
        ids = ["taken" if one else f"good-{at}" for at, one in enumerate(bad)]
        claim = ClaimRequest((("w", "1"),), 10, 2) if claims else None
        batch = Batch(tuple(Item(id, new=new(id, "runner")) for id in ids), claim)
        lossy = LossyStore(store, answers)
        write = _write_job("runner", 0, batch)
        for _ in range(30):
            try:
                written = write(lossy)  # type: ignore[arg-type]
                break
            except StoreUnavailable:
                continue
        else:
            pytest.fail("it does not come to an end")
        rows = store._connection.rows("SELECT id, owner FROM executions ORDER BY id")
        wanted = {"taken": None, "waits": "runner" if claims else None}
        wanted |= {id: "runner" for id in ids if id != "taken"}
        assert dict(rows) == wanted
        assert set(written.refused) == {at for at, one in enumerate(bad) if one}
        assert ("waits" in {row.id for row in written.claimed}) == claims
        (number,) = store._connection.row("SELECT group_no FROM runners") or (None,)
        assert number == written.number
    finally:
        store.close()


def new(id: str, owner: str | None = None) -> NewExecution:
    return NewExecution(id, "other", "1", ExecutionStatus.PENDING, "{}", None, 0, "[]", owner, 1, None)
