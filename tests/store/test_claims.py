"""The claim: who gets which execution, in which order, and when."""

from __future__ import annotations

import pytest

from cloacina.model.status import ExecutionStatus, Reason
from cloacina.store.rows import ClaimRequest, Group, Item, StoredExecution
from store.make import ME, PENDING, RUNNING, Stores, claim, new, progress, runner, skip, submit


def taken_by(stores: Stores, request: ClaimRequest) -> list[str]:
    return [row.id for row in stores.commit(claim=request)]


def sleep(stores: Stores, id: str, wake_at: int) -> None:
    """Store an execution that its owner gave up until ``wake_at``."""
    stores.commit(submit(id))
    give_up = progress(id, RUNNING, next_owner=None, finished=None, result=None, wake_at=wake_at)
    stores.commit(Item(id, progress=give_up))


def test_highest_priority_first_then_oldest_over_all_workflows(stores: Stores) -> None:
    rows = [("e1", "wf", 0), ("e2", "other", 5), ("e3", "wf", 5), ("e4", "other", -1), ("e5", "wf", 9)]
    stores.writer.insert_unowned([new(id, workflow=wf, priority=p) for id, wf, p in rows])
    assert taken_by(stores, claim(3, "wf", "other")) == ["e5", "e2", "e3"]
    assert taken_by(stores, claim(9, "other", "wf")) == ["e1", "e4"]
    assert taken_by(stores, claim(9, "other", "wf")) == []


def test_what_is_taken_is_owned_and_returned_with_its_attempts(stores: Stores) -> None:
    stores.commit(submit("e1", "a", "b"))
    stores.writer.recover(ME, Reason.CRASH, 20)
    stores.writer.register_runner(runner("runner-2"))
    (taken,) = stores.writer.commit(Group("runner-2", 1, (), claim(1)))
    assert isinstance(taken, StoredExecution)
    assert taken.owner == "runner-2"
    assert [attempt.task for attempt in taken.attempts] == ["a", "b"]
    assert taken == stores.get("e1")


@pytest.mark.parametrize(
    "change",
    [{"workflow": "unknown"}, {"version": "v2"}, {"status": ExecutionStatus.PAUSED},
     {"status": ExecutionStatus.PARKED}, {"status": ExecutionStatus.COMPLETED}],
)  # fmt: skip
def test_what_may_not_be_taken(stores: Stores, change: dict[str, object]) -> None:
    stores.writer.insert_unowned([new("e1", **change)])
    assert taken_by(stores, claim(5)) == []


@pytest.mark.parametrize("request_", [claim(0), claim(-1), ClaimRequest((), 5, 100)])
def test_a_claim_of_nothing_takes_nothing(stores: Stores, request_: ClaimRequest) -> None:
    stores.writer.insert_unowned([new("e1")])
    assert taken_by(stores, request_) == []


def test_a_sleeping_execution_is_taken_when_it_is_due(stores: Stores) -> None:
    sleep(stores, "late", 300)
    sleep(stores, "soon", 200)
    assert stores.reader.next_wake_up([("wf", "v1")]) == 200
    assert taken_by(stores, claim(5, now=199)) == []
    (taken,) = stores.commit(claim=claim(5, now=200))
    assert (taken.id, taken.wake_at) == ("soon", None)
    assert stores.reader.next_wake_up([("wf", "v1")]) == 300


def test_sleepers_that_are_due_and_others_share_one_order(stores: Stores) -> None:
    sleep(stores, "e2", 50)
    stores.writer.insert_unowned([new("e1"), new("e3"), new("e4", priority=1)])
    assert taken_by(stores, claim(3)) == ["e4", "e1", "e2"]


@pytest.mark.parametrize("versions", [[], [("wf", "v2")], [("other", "v1")]])
def test_nobody_wakes_for_a_version_that_it_does_not_have(
    stores: Stores, versions: list[tuple[str, str]]
) -> None:
    sleep(stores, "e1", 200)
    assert stores.reader.next_wake_up(versions) is None


def test_whether_there_is_anything_to_take_is_told_without_taking_it(stores: Stores) -> None:
    assert not stores.writer.claimable(claim(9))
    stores.writer.insert_unowned([new("e1")])
    assert stores.writer.claimable(claim(9)) and stores.writer.claimable(claim(1))
    assert not stores.writer.claimable(claim(0)) and not stores.writer.claimable(claim(9, "other"))
    assert taken_by(stores, claim(9)) == ["e1"]
    assert not stores.writer.claimable(claim(9))


def test_an_item_and_a_claim_are_one_group(stores: Stores) -> None:
    stores.writer.insert_unowned([new("e1")])
    freed = submit("e2", owner=ME)
    gives_up = progress("e2", PENDING, next_owner=None, finished=None, result=None)
    freed = freed._replace(progress=gives_up)
    taken = [*stores.commit(freed, claim=claim(5)), *stores.commit(claim=claim(5))]
    assert [row.id for row in taken] == ["e1", "e2"], (
        "what a group gives up is claimed by it, or by the next one"
    )


def test_two_runners_never_take_the_same(stores: Stores) -> None:
    stores.writer.insert_unowned([new(f"e{number}") for number in range(10)])
    stores.writer.register_runner(runner("runner-2"))
    mine = taken_by(stores, claim(6))
    others = [row.id for row in stores.writer.commit(Group("runner-2", 1, (), claim(6)))]
    assert len(mine) == 6 and len(others) == 4 and not {*mine} & {*others}


def test_what_was_decided_before_the_first_start_is_taken_with_it(stores: Stores) -> None:
    """A task that was skipped at once, and no slot for the others until the owner gave it up."""
    stores.commit(submit("e1", status=PENDING, started=None)._replace(verdicts=[skip("e1", "a")]))
    stores.commit(Item("e1", progress=progress("e1", PENDING, next_owner=None, finished=None, result=None)))
    (taken,) = stores.commit(claim=claim(1))
    assert (taken.started, [row.task for row in taken.attempts]) == (None, ["a"])
