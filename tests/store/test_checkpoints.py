"""Checkpoints and deferrals: written with the fence of their group, once, and read by the task that made them."""

from __future__ import annotations

import pytest

from cloacina.errors import Fenced, StoreRefused
from cloacina.model.status import AttemptState, Reason
from cloacina.store.rows import Checkpoint, Group, Item, Shift
from store.make import ME, Stores, end, progress, start, submit

RUNNING, DEFERRED = AttemptState.RUNNING, AttemptState.DEFERRED


def checkpoint(
    name: str, value: str = "1", *, execution: str = "e1", task: str = "a", stored: int = 12
) -> Checkpoint:
    return Checkpoint(execution, task, name, value, stored)


def shift(before: AttemptState, after: AttemptState, attempt: int = 1, task: str = "a") -> Shift:
    return Shift("e1", task, attempt, before, after)


def defer(stores: Stores) -> None:
    stores.commit(Item("e1", shifts=[shift(RUNNING, DEFERRED)]))


def test_checkpoints_come_back_by_name_to_their_task_alone(stores: Stores) -> None:
    stores.commit(submit("e1", "a", "b"), submit("e2", "a"))
    stores.commit(
        Item("e1", checkpoints=[checkpoint("second", '{"x": [1]}', stored=11), checkpoint("first", "null")])
    )
    stores.commit(
        Item("e1", checkpoints=[checkpoint("third", stored=13), checkpoint("first", "2", task="b")]),
        Item("e2", checkpoints=[checkpoint("first", "3", execution="e2")]),
    )
    assert list(stores.reader.checkpoints("e1", "a").items()) == [
        ("second", '{"x": [1]}'), ("first", "null"), ("third", "1"),
    ]  # fmt: skip
    assert stores.reader.checkpoints("e1", "b") == {"first": "2"}
    assert stores.reader.checkpoints("e2", "a") == {"first": "3"}
    assert stores.reader.checkpoints("e2", "b") == {}


def test_a_checkpoint_and_the_end_of_its_attempt_fit_into_one_item(stores: Stores) -> None:
    stores.commit(submit("e1", "a"))
    stores.commit(Item("e1", checkpoints=[checkpoint("x")], ends=[end("e1", "a")], progress=progress("e1")))
    assert stores.reader.checkpoints("e1", "a") == {"x": "1"}


def test_an_attempt_is_deferred_and_runs_again(stores: Stores) -> None:
    stores.commit(submit("e1", "a", "b"))
    before = stores.get("e1").attempts
    defer(stores)
    deferred, other = stores.get("e1").attempts
    assert (deferred, other) == (before[0]._replace(state=DEFERRED), before[1])
    stores.commit(Item("e1", shifts=[shift(DEFERRED, RUNNING)]))
    assert stores.get("e1").attempts == before


@pytest.mark.parametrize("state", ["completed", "failed", "cancelled"])
def test_a_deferred_attempt_can_end(stores: Stores, state: str) -> None:
    stores.commit(submit("e1", "a"))
    defer(stores)
    stores.commit(Item("e1", ends=[end("e1", "a", state=state)]))
    assert stores.get("e1").attempts[0].state == state


def test_an_attempt_that_runs_again_ends_in_the_same_item(stores: Stores) -> None:
    stores.commit(submit("e1", "a"))
    defer(stores)
    stores.commit(Item("e1", shifts=[shift(DEFERRED, RUNNING)], ends=[end("e1", "a")]))
    assert stores.get("e1").attempts[0].state is AttemptState.COMPLETED


UNFIT = {
    "checkpoint there": (Item("e1", checkpoints=[checkpoint("old", "2")]), "e1/a/old"),
    "checkpoint twice": (Item("e1", checkpoints=[checkpoint("n"), checkpoint("n")]), "twice"),
    "no value": (Item("e1", checkpoints=[checkpoint("n")._replace(value=None)]), "value"),  # type: ignore[arg-type]
    "defers what is deferred": (Item("e1", shifts=[shift(RUNNING, DEFERRED, task="late")]), "e1/late/1"),
    "wakes what runs": (Item("e1", shifts=[shift(DEFERRED, RUNNING)]), "e1/a/1"),
    "another attempt": (Item("e1", shifts=[shift(RUNNING, DEFERRED, 2)]), "e1/a/2"),
    "an ended attempt": (Item("e1", shifts=[shift(RUNNING, DEFERRED, task="done")]), "e1/done/1"),
}


@pytest.mark.parametrize("case", UNFIT)
def test_what_does_not_fit_is_refused_by_name_and_writes_nothing(stores: Stores, case: str) -> None:
    item, named = UNFIT[case]
    stores.commit(submit("e1", "a", "late", "done"))
    stores.commit(
        Item(
            "e1",
            ends=[end("e1", "done")],
            checkpoints=[checkpoint("old")],
            shifts=[shift(RUNNING, DEFERRED, task="late")],
        )
    )
    before = stores.get("e1")
    with pytest.raises(StoreRefused, match=named):
        stores.commit(submit("innocent"), item)
    assert (stores.get("e1"), stores.reader.execution("innocent")) == (before, None)
    assert stores.reader.checkpoints("e1", "a") == {"old": "1"}


@pytest.mark.parametrize("reason", [Reason.CRASH, Reason.SHUTDOWN, Reason.LOST_LEASE])
def test_a_deferred_attempt_is_interrupted_for_a_reason_of_its_own(stores: Stores, reason: Reason) -> None:
    stores.commit(submit("e1", "a", "b"))
    defer(stores)
    assert stores.writer.recover(ME, reason, 20) == 1
    assert [(row.task, row.state, row.reason, row.finished) for row in stores.get("e1").attempts] == [
        ("a", AttemptState.INTERRUPTED, Reason.DEFERRED, 20),
        ("b", AttemptState.INTERRUPTED, reason, 20),
    ]


def test_what_a_dead_runner_sends_late_is_refused(stores: Stores) -> None:
    stores.commit(submit("e1", "a"))
    stores.writer.recover(ME, Reason.CRASH, 20)
    for item in (
        Item("e1", checkpoints=[checkpoint("x")]),
        Item("e1", shifts=[shift(RUNNING, DEFERRED)]),
        Item("e1", starts=[start("e1", "a", 2)]),
    ):
        with pytest.raises(Fenced):
            stores.writer.commit(Group(ME, stores.number + 1, (item,)))
    assert stores.reader.checkpoints("e1", "a") == {}
    assert [row.state for row in stores.get("e1").attempts] == [AttemptState.INTERRUPTED]


def test_a_group_that_was_applied_stores_its_checkpoints_once(stores: Stores) -> None:
    stores.commit(submit("e1", "a"))
    group = Group(ME, 2, (Item("e1", checkpoints=[checkpoint("x")], shifts=[shift(RUNNING, DEFERRED)]),))
    stores.writer.commit(group)
    stores.writer.commit(group)
    assert stores.reader.checkpoints("e1", "a") == {"x": "1"}


def test_long_checkpoints_come_back(stores: Stores) -> None:
    document = '"' + "x" * 3_000_000 + '"'
    stores.commit(submit("e1", "a"))
    stores.commit(Item("e1", checkpoints=[checkpoint(f"c{n}", document) for n in range(8)]))
    assert stores.reader.checkpoints("e1", "a") == {f"c{n}": document for n in range(8)}
