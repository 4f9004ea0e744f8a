"""Executions without owner: stored once, one for each key, and cancelled where they are."""

from __future__ import annotations

import json

import pytest

from cloacina.errors import StoreRefused
from cloacina.model.status import AttemptState, ExecutionStatus, Reason
from cloacina.store.rows import Command, Item
from store.make import ME, PENDING, Stores, end, new, progress, skip, start, submit

DAG = json.dumps({"name": "wf", "tasks": [{"id": task} for task in "abcdefg"]})


def cancelled(stores: Stores, id: str) -> ExecutionStatus | None:
    sent = stores.writer.send(Command("c1", id, "cancel", 30))
    if sent is None:
        return None
    assert not sent[1], "it was left for an owner"
    return sent[0]


def test_rows_are_stored_without_owner(stores: Stores) -> None:
    assert stores.writer.insert_unowned([new("e1"), new("e2", key="k")]) == [None, None]
    assert stores.reader.pending() == 2
    assert stores.get("e2").owner is None


def test_the_same_rows_again_change_nothing(stores: Stores) -> None:
    rows = [new("e1"), new("e2", key="k")]
    stores.writer.insert_unowned(rows)
    assert stores.writer.insert_unowned([row._replace(input='{"x": 1}') for row in rows]) == [None, None]
    assert stores.get("e1").input == "{}"


def test_who_comes_second_learns_who_holds_the_key(stores: Stores) -> None:
    stores.commit(submit("first", "a", key="k", input='{"x": 1}'))
    answers = stores.writer.insert_unowned([new("e1"), new("second", key="k"), new("e2", key="free")])
    assert [answer and answer.id for answer in answers] == [None, "first", None]
    assert answers[1] is not None and answers[1].input == '{"x": 1}' and answers[1].attempts == ()
    assert stores.reader.execution("second") is None


def test_a_key_twice_in_one_call(stores: Stores) -> None:
    answers = stores.writer.insert_unowned([new("e1", key="k"), new("e2", key="k")])
    assert [answer and answer.id for answer in answers] == [None, "e1"]


def test_no_rows(stores: Stores) -> None:
    assert stores.writer.insert_unowned([]) == []


@pytest.mark.parametrize("position", [0, 4, 9])
def test_one_bad_row_refuses_them_all(stores: Stores, position: int) -> None:
    rows = [new(f"e{number}") for number in range(10)]
    rows[position] = new("bad", input=None)
    with pytest.raises(StoreRefused, match="input"):
        stores.writer.insert_unowned(rows)
    assert stores.reader.pending() == 0


def test_cancelling_gives_every_task_a_row(stores: Stores) -> None:
    stores.writer.register_versions(ME, [("wf", "v1", DAG)], 1)
    stores.commit(submit("e1", "a", "b", "c", "d", "e"))
    stores.commit(
        Item(
            "e1",
            ends=[
                end("e1", "a"),
                end("e1", "b", state="failed", retry_at=99),
                end("e1", "c", state="failed"),
                end("e1", "d", state="timed_out", retry_at=99),
            ],
            verdicts=[skip("e1", "f")],
        )
    )
    stores.commit(Item("e1", starts=[start("e1", "b", 2)]))
    stores.commit(Item("e1", ends=[end("e1", "b", 2, state="timed_out", retry_at=120)]))
    stores.writer.recover(ME, Reason.CRASH, 20)  # interrupts e
    assert cancelled(stores, "e1") is ExecutionStatus.CANCELLED
    stored = stores.get("e1")
    assert (stored.status, stored.finished) == (ExecutionStatus.CANCELLED, 30)
    last = {row.task: (row.attempt, row.state, row.reason) for row in stored.attempts}
    ended = AttemptState.CANCELLED, Reason.CANCELLED
    assert last == {
        "a": (1, AttemptState.COMPLETED, None),
        "b": (3, *ended),
        "c": (1, AttemptState.FAILED, None),
        "d": (2, *ended),
        "e": (2, *ended),
        "f": (0, AttemptState.SKIPPED, Reason.DEPENDENCY_FAILED),
        "g": (0, AttemptState.SKIPPED, Reason.CANCELLED),
    }
    assert {row.finished for row in stored.attempts if row.reason is Reason.CANCELLED} == {30}


def test_cancelling_ends_an_attempt_that_is_still_marked_running(stores: Stores) -> None:
    stores.commit(submit("e1", "a"))
    released = progress("e1", PENDING, next_owner=None, finished=None, result=None)
    stores.commit(Item("e1", progress=released))
    cancelled(stores, "e1")
    (attempt,) = stores.get("e1").attempts
    assert (attempt.attempt, attempt.state, attempt.reason, attempt.finished) == (
        1, AttemptState.CANCELLED, Reason.CANCELLED, 30,
    )  # fmt: skip


@pytest.mark.parametrize("status", [ExecutionStatus.PAUSED, ExecutionStatus.PARKED, ExecutionStatus.PENDING])
def test_what_waits_without_a_known_version_can_be_cancelled(stores: Stores, status: ExecutionStatus) -> None:
    stores.writer.insert_unowned([new("e1", status=status)])
    assert cancelled(stores, "e1") is ExecutionStatus.CANCELLED
    assert stores.get("e1").attempts == ()


@pytest.mark.parametrize("status", [s for s in ExecutionStatus if s.terminal])
def test_an_ended_execution_is_left_alone(stores: Stores, status: ExecutionStatus) -> None:
    stores.commit(submit("e1"))
    stores.commit(Item("e1", progress=progress("e1", status)))
    before = stores.get("e1")
    assert cancelled(stores, "e1") is status
    assert stores.get("e1") == before


def test_no_such_execution(stores: Stores) -> None:
    assert cancelled(stores, "nothing") is None
