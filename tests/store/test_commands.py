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
    stores.writer.withdraw("c2")
    assert stores.reader.commands(ME) == []


def test_whoever_claims_gets_the_commands_that_nobody_obeyed(stores: Stores) -> None:
    stores.commit(submit("e1"), submit("e2"))
    stores.writer.send(command("cancel"))
    stores.writer.send(command("pause", name="c0"))
    released = [progress(id, PENDING, next_owner=None, finished=None, result=None) for id in ("e1", "e2")]
    stores.commit(*(Item(row.id, progress=row) for row in released))
    claimed = {row.id: row.commands for row in stores.commit(claim=claim(5))}
    assert claimed == {"e1": (command("pause", name="c0"), command("cancel")), "e2": ()}


def test_the_known_version_is_one_that_somebody_offers(stores: Stores) -> None:
    assert stores.reader.dag("wf", None) is None
    stores.writer.register_versions(ME, [("wf", "v1", '{"a": 1}')], 10)
    stores.writer.register_versions("gone", [("wf", "v2", "{}")], 20)
    assert stores.reader.dag("wf", None) == ("v1", '{"a": 1}')
    assert stores.reader.dag("wf", "v2") == ("v2", "{}")
    stores.writer.recover(ME, Reason.SHUTDOWN, 30)
    assert stores.reader.dag("wf", None) == ("v2", "{}")
    assert stores.reader.dag("wf", "v3") is None
