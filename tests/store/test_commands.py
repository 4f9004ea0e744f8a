"""Commands: carried out where nobody owns the execution, else left for the owner, and gone with their effect."""

from __future__ import annotations

import pytest

from cloacina.model.status import ExecutionStatus, Reason
from cloacina.store.rows import Command, Item
from store.make import ME, PENDING, RUNNING, Stores, claim, new, progress, submit

PAUSED, PARKED = ExecutionStatus.PAUSED, ExecutionStatus.PARKED


def command(kind: str, id: str = "e1", name: str = "c1") -> Command:
    return Command(name, id, kind, 30)


@pytest.mark.parametrize("started", [None, 20])
def test_an_unowned_execution_is_paused_and_resumed(stores: Stores, started: int | None) -> None:
    before = PENDING if started is None else RUNNING
    stores.writer.insert_unowned([new("e1", status=before, started=started)])
    assert stores.writer.send(command("pause")) == (PAUSED, False)
    assert stores.commit(claim=claim(5, now=29)) == []
    # One that has started may have a timeout to run out of, so a runner looks at it once.
    woken = stores.commit(claim=claim(5, now=30))
    assert [row.status for row in woken] == ([] if started is None else [PAUSED])
    stores.writer.recover(ME, Reason.SHUTDOWN, 31)
    assert stores.writer.send(command("pause", name="c2")) == (PAUSED, False)
    assert stores.writer.send(command("resume")) == (before, False)
    assert stores.get("e1").wake_at is None


def test_a_paused_execution_keeps_the_time_at_which_it_wakes_up(stores: Stores) -> None:
    stores.commit(submit("e1"))
    waits = progress("e1", RUNNING, next_owner=None, finished=None, result=None, wake_at=500)
    stores.commit(Item("e1", progress=waits))
    stores.writer.send(command("pause"))
    assert stores.get("e1").wake_at == 500
    assert stores.reader.next_wake_up([("wf", "v1")]) == 500


def test_a_parked_execution_is_resumed_without_its_reason(stores: Stores) -> None:
    stores.commit(submit("e1"))
    parked = progress("e1", PARKED, next_owner=None, finished=None, result=None, error="why")
    stores.commit(Item("e1", progress=parked))
    assert stores.writer.send(command("pause")) == (PARKED, False)
    assert stores.writer.send(command("resume")) == (RUNNING, False)
    assert stores.get("e1").error is None
    assert [row.id for row in stores.commit(claim=claim(5))] == ["e1"]


def test_resuming_what_is_not_paused_changes_nothing(stores: Stores) -> None:
    stores.writer.insert_unowned([new("e1")])
    before = stores.get("e1")
    assert stores.writer.send(command("resume")) == (PENDING, False)
    assert stores.get("e1") == before


@pytest.mark.parametrize("kind", ["cancel", "pause", "resume"])
def test_an_owned_execution_is_left_to_its_owner(stores: Stores, kind: str) -> None:
    stores.commit(submit("e1", "a"))
    before = stores.get("e1")
    assert stores.writer.send(command(kind)) == (RUNNING, True)
    assert stores.writer.send(command(kind)) == (RUNNING, True)
    assert stores.get("e1") == before
    assert stores.reader.commands(ME) == [command(kind)]
    assert stores.reader.commands("somebody else") == []
    assert stores.reader.outstanding("c1")


def test_the_effect_and_the_removal_are_one_transaction(stores: Stores) -> None:
    stores.commit(submit("e1"))
    stores.writer.send(command("pause"))
    stores.writer.send(command("resume", name="c2"))
    paused = progress("e1", PAUSED, next_owner=ME, finished=None, result=None)
    stores.commit(Item("e1", progress=paused, obeyed=["c1"]))
    assert stores.reader.commands(ME) == [command("resume", name="c2")]
    assert not stores.reader.outstanding("c1")


def released(stores: Stores, status: ExecutionStatus, **changes: object) -> None:
    """The owner of ``e1`` gives it up."""
    row = progress("e1", status, **{"next_owner": None, "finished": None, "result": None, **changes})
    stores.commit(Item("e1", progress=row))


@pytest.mark.parametrize("how", ["it gives it up", "it is declared dead"])
@pytest.mark.parametrize(
    ("before", "left", "after"),
    [(RUNNING, "pause", PAUSED), (PAUSED, "resume", RUNNING), (PAUSED, "cancel", ExecutionStatus.CANCELLED)],
)
def test_what_was_left_for_an_owner_takes_effect_when_he_is_gone(
    stores: Stores, how: str, before: ExecutionStatus, left: str, after: ExecutionStatus
) -> None:
    """Its sender may be gone too, and nobody ever claims what is paused."""
    stores.commit(submit("e1", status=before))
    stores.writer.send(command(left))
    if how == "it gives it up":
        released(stores, before)
    else:
        assert stores.writer.recover(ME, Reason.LOST_LEASE, 40) == 1
    assert stores.get("e1").status is after
    assert not stores.reader.outstanding("c1")
    expected = after if after is ExecutionStatus.CANCELLED else PAUSED
    assert stores.writer.send(command("pause", name="c2")) == (expected, False)
    assert stores.get("e1").status is expected


def test_a_command_that_was_obeyed_is_not_carried_out_again(stores: Stores) -> None:
    stores.commit(submit("e1"))
    stores.writer.send(command("pause"))
    stores.commit(Item("e1", obeyed=["c1"]))
    assert stores.writer.send(command("pause"), again=True) == (RUNNING, False)
    released(stores, RUNNING)
    assert stores.writer.send(command("pause"), again=True) == (RUNNING, False)
    assert stores.commit(claim=claim(5))[0].commands == ()


def test_a_command_that_is_sent_again_is_carried_out_in_its_turn_and_gone(stores: Stores) -> None:
    stores.commit(submit("e1"))
    stores.writer.send(command("pause"))
    stores.writer.send(command("resume", name="c2"))
    released(stores, RUNNING)
    assert stores.writer.send(command("pause"), again=True) == (RUNNING, False)
    assert not stores.reader.outstanding("c1")
    assert not stores.reader.outstanding("c2")


def test_a_command_to_what_has_ended_meanwhile_is_gone(stores: Stores) -> None:
    stores.commit(submit("e1"))
    stores.writer.send(command("pause"))
    released(stores, ExecutionStatus.COMPLETED, finished=13, result="{}")
    assert stores.writer.send(command("pause"), again=True) == (ExecutionStatus.COMPLETED, False)
    assert not stores.reader.outstanding("c1")


def test_the_known_version_is_one_that_somebody_offers(stores: Stores) -> None:
    assert stores.reader.dag("wf", None) is None
    stores.writer.register_versions(ME, [("wf", "v1", '{"a": 1}')], 10)
    stores.writer.register_versions("gone", [("wf", "v2", "{}")], 20)
    assert stores.reader.dag("wf", None) == ("v1", '{"a": 1}')
    assert stores.reader.dag("wf", "v2") == ("v2", "{}")
    stores.writer.recover(ME, Reason.SHUTDOWN, 30)
    assert stores.reader.dag("wf", None) == ("v2", "{}")
    assert stores.reader.dag("wf", "v3") is None
    assert stores.reader.workflows() == ["wf"]
