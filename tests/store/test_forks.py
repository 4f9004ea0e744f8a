"""Forks in a store: a new execution with parts of an old one's history, inserted once and as a whole."""

from __future__ import annotations

import pytest

from cloacina.errors import StoreRefused
from cloacina.model.status import AttemptState, ExecutionStatus, Reason
from cloacina.store.rows import Checkpoint, Fork, Item, StoredAttempt
from store.make import ME, PENDING, Stores, claim, end, new, progress, skip, submit


def failed(stores: Stores, id: str = "e1") -> None:
    """An execution of tasks a, b and c: a completed, b failed at its second attempt, c was skipped."""
    stores.commit(submit(id, "a", "b", tags='["x"]'))
    stores.commit(
        Item(
            id,
            ends=[end(id, "a", delta='{"set":{"a":1}}'), end(id, "b", state="failed", error="E")],
            verdicts=[skip(id, "c")],
            progress=progress(id, ExecutionStatus.FAILED, error="b: E"),
        )
    )


def fork(stores: Stores, id: str = "f1", source: str = "e1", *, rows: int = 1, **changes: object) -> Fork:
    copied = tuple(row for row in stores.get(source).attempts if row.state is AttemptState.COMPLETED)[:rows]
    return Fork(new(id, tags='["x"]', **changes), source, copied, ())


def test_a_fork_has_what_was_copied_and_is_claimed_like_any_other(stores: Stores) -> None:
    failed(stores)
    made = fork(stores)._replace(checkpoints=(Checkpoint("f1", "b", "n", "[1]", 5),))
    assert stores.writer.insert_forks([made], False) == [None]
    stored = stores.get("f1")
    assert (stored.forked_from, stored.status, stored.owner, stored.started) == ("e1", PENDING, None, None)
    assert stored.attempts == (
        StoredAttempt("a", 1, AttemptState.COMPLETED, ME, 11, 12, None, '{"set":{"a":1}}', None, None, 0),
    )
    assert stores.reader.checkpoints("f1", "b") == {"n": "[1]"}
    (taken,) = stores.commit(claim=claim(5))
    assert (taken.id, taken.attempts) == ("f1", stored.attempts)
    connection = stores.writer._connection  # type: ignore[attr-defined]
    assert connection.rows("SELECT execution, kind, detail FROM events") == [("f1", "forked", "from e1")]


def test_a_repeated_insert_changes_nothing(stores: Stores) -> None:
    failed(stores)
    for once in (False, True, False):
        assert stores.writer.insert_forks([fork(stores)], once) == [None]
    assert len(stores.get("f1").attempts) == 1
    connection = stores.writer._connection  # type: ignore[attr-defined]
    assert connection.value("SELECT count(*) FROM events") == 1


def test_one_with_a_fork_is_not_forked_again_if_so_wished(stores: Stores) -> None:
    for id in ("e1", "e2"):
        failed(stores, id)
    stores.writer.insert_forks([fork(stores)], False)
    forks = [fork(stores, "f2"), fork(stores, "f3", "e2")]
    assert stores.writer.insert_forks(forks, True) == ["f1", None]
    assert stores.reader.execution("f2") is None
    assert stores.reader.forks_of(["e1", "e2", "e3"]) == {"e1": "f1", "e2": "f3"}
    assert stores.writer.insert_forks([fork(stores, "f2")], False) == [None]
    assert stores.reader.forks_of(["e1"]) == {"e1": "f1"}


def test_forks_are_all_stored_or_none(stores: Stores) -> None:
    failed(stores)
    bad = fork(stores, "f2")
    twice = bad._replace(attempts=bad.attempts * 2)
    with pytest.raises(StoreRefused, match="stored already"):
        stores.writer.insert_forks([fork(stores), twice], False)
    assert stores.reader.execution("f1") is None


def test_skips_are_copied_with_their_reason(stores: Stores) -> None:
    failed(stores)
    rows = tuple(row for row in stores.get("e1").attempts if row.state is AttemptState.SKIPPED)
    stores.writer.insert_forks([Fork(new("f1"), "e1", rows, ())], False)
    assert [(row.task, row.attempt, row.reason) for row in stores.get("f1").attempts] == [
        ("c", 0, Reason.DEPENDENCY_FAILED)
    ]
