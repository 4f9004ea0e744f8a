"""Runners: their rows, what they offer, and what becomes of their work when they are gone."""

from __future__ import annotations

import pytest

from cloacina.model.status import AttemptState, Reason
from cloacina.store.rows import Group, Item
from store.make import ME, RUNNING, Stores, claim, end, new, progress, runner, submit


def test_a_runner_that_registers_again_leaves_its_row_as_it_is(stores: Stores) -> None:
    stores.commit()
    stores.writer.register_runner(runner())
    assert stores.reader.runners() == [runner()._replace(group_no=1)]


def test_versions_are_known_for_ever_and_offered_while_the_runner_lives(stores: Stores) -> None:
    stores.writer.register_runner(runner("runner-2"))
    stores.writer.register_versions(ME, [("wf", "v2", "{}"), ("other", "v1", "{}")], 10)
    stores.writer.register_versions(ME, [("wf", "v1", "{}"), ("wf", "v2", "{}")], 20)
    stores.writer.register_versions("runner-2", [("wf", "v1", "{}")], 30)
    assert stores.reader.versions("wf") == ["v2", "v1"], "oldest first"
    assert stores.reader.offered("wf", "v1") == [ME, "runner-2"]
    stores.writer.recover("runner-2", Reason.CRASH, 40)
    assert stores.reader.offered("wf", "v1") == [ME]
    stores.writer.recover(ME, Reason.SHUTDOWN, 50)
    assert stores.reader.offered("wf", "v2") == []
    assert stores.reader.versions("wf") == ["v2", "v1"]
    assert stores.reader.versions("unknown") == []


@pytest.mark.parametrize("reason", [Reason.CRASH, Reason.SHUTDOWN, Reason.LOST_LEASE])
def test_recovering_interrupts_and_frees_once(stores: Stores, reason: Reason) -> None:
    ended = submit("ended", "t")
    stores.commit(submit("e1", "a", "b"), submit("e2"), ended)
    stores.commit(
        Item("e1", ends=[end("e1", "a")]),
        Item("ended", ends=[end("ended", "t")], progress=progress("ended")),
    )
    assert stores.writer.recover(ME, reason, 20) == 2
    stored = stores.get("e1")
    assert (stored.owner, stored.status) == (None, RUNNING)
    a, b = stored.attempts
    assert (a.state, a.reason) == (AttemptState.COMPLETED, None)
    assert (b.state, b.reason, b.finished) == (AttemptState.INTERRUPTED, reason, 20)
    assert stores.reader.runners() == []
    after = stores.get("e1"), stores.get("e2"), stores.get("ended")
    assert stores.writer.recover(ME, reason, 30) == 0
    assert (stores.get("e1"), stores.get("e2"), stores.get("ended")) == after


def test_recovering_leaves_others_alone(stores: Stores) -> None:
    stores.writer.register_runner(runner("runner-2"))
    stores.writer.insert_unowned([new("theirs")])
    stores.writer.commit(Group("runner-2", 1, (), claim(1)))
    stores.commit(submit("mine", "a"))
    before = stores.get("mine")
    assert stores.writer.recover("runner-2", Reason.CRASH, 20) == 1
    assert stores.get("mine") == before
    assert [row.id for row in stores.reader.runners()] == [ME]


def test_a_recovered_execution_can_be_claimed_at_once(stores: Stores) -> None:
    stores.commit(submit("e1", "a"))
    stores.writer.recover(ME, Reason.CRASH, 20)
    stores.writer.register_runner(runner("runner-2"))
    (taken,) = stores.writer.commit(Group("runner-2", 1, (), claim(5)))
    assert taken.id == "e1"
    assert stores.writer.recover(ME, Reason.CRASH, 30) == 0, "the dead runner has nothing any more"
    assert stores.get("e1").owner == "runner-2"


def test_orphans_are_executions_whose_owner_is_not_alive(stores: Stores) -> None:
    stores.commit(submit("mine", "a"), submit("lost", "a", owner="nobody"))
    assert stores.writer.free_orphans(20) == 1
    assert (stores.get("mine").owner, stores.get("lost").owner) == (ME, None)
    assert stores.writer.free_orphans(30) == 0


def test_an_orphan_s_attempts_are_interrupted(stores: Stores) -> None:
    orphan = submit("lost", "a", owner="nobody")
    orphan.starts[0] = orphan.starts[0]._replace(runner="nobody")
    stores.commit(orphan)
    stores.writer.free_orphans(20)
    (attempt,) = stores.get("lost").attempts
    assert (attempt.state, attempt.reason) == (AttemptState.INTERRUPTED, Reason.CRASH)
