"""The committer when the store's answers get lost: every item is written once, or refused, whatever happens."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import count
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cloacina.engine.committer import Batch, WriteJob
from cloacina.engine.storage.storage import Storage
from cloacina.errors import StoreRefused, StoreUnavailable
from cloacina.model.status import ExecutionStatus, RunnerState
from cloacina.store.port import WriteStore
from cloacina.store.rows import ClaimRequest, Group, Item, NewExecution, RunnerRow, StoredExecution
from support.runners import MEMORY

T = TypeVar("T")
FINE, LOST_BEFORE, LOST_AFTER, REFUSED = "fine", "lost before", "lost after", "refused"


class LossyStore:
    """A store of which each answer is fine, lost before or after the group was written, or a refusal without reason."""

    def __init__(self, store: WriteStore, answers: list[str]) -> None:
        self._store = store
        self._answers = answers

    def claimable(self, request: ClaimRequest) -> bool:
        return self._store.claimable(request)

    def commit(self, group: Group) -> list[StoredExecution]:
        if self._answers and self._answers[0] == REFUSED and group.items:
            self._answers.pop(0)
            raise StoreRefused("says the test")
        return self._answer(lambda: self._store.commit(group))

    def void(self, runner: str, number: int) -> bool:
        return self._answer(lambda: self._store.void(runner, number))

    def _answer(self, call: Callable[[], T]) -> T:
        answer = self._answers.pop(0) if self._answers else FINE
        if answer == LOST_BEFORE:
            raise StoreUnavailable("lost before it was written")
        result = call()
        if answer == LOST_AFTER:
            raise StoreUnavailable("lost after it was written")
        return result


@pytest.fixture
def store() -> Iterator[Any]:
    with closing(Storage(MEMORY)._backend.writer()) as store:
        yield store


_numbers = count()


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    bad=st.lists(st.booleans(), max_size=5),
    answers=st.lists(st.sampled_from([FINE, LOST_BEFORE, LOST_AFTER, REFUSED]), max_size=12),
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
    lossy = LossyStore(store, answers.copy())
    write = WriteJob(runner, 0, batch)
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
    wanted |= {id: runner for position, id in enumerate(ids) if position not in written.refused}
    assert dict(rows) == wanted
    assert set(written.refused) >= {position for position, one in enumerate(bad) if one}
    if REFUSED not in answers:
        assert all(bad[position] for position in written.refused)
    assert (waits in {row.id for row in written.claimed}) == claims
    (number,) = store._connection.row("SELECT group_no FROM runners WHERE id = ?1", (runner,))
    assert number == written.number


def new(id: str, owner: str | None = None) -> NewExecution:
    return NewExecution(id, "other", "1", ExecutionStatus.PENDING, "{}", None, 0, "[]", owner, 1, None)
