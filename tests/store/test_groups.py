"""The commit of a group: all of it or nothing, once, and only from a runner that is alive."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cloacina.engine.committer import Batch, WriteJob
from cloacina.errors import Fenced, StoreRefused, StoreTimeout, StoreUnavailable
from cloacina.model.status import AttemptState, ExecutionStatus, Reason
from cloacina.store.rows import Event, Group, Item, StoredAttempt, Verdict
from store.make import ME, RUNNING, Stores, claim, end, new, progress, runner, skip, start, submit
from support.stores import Interference, fails, unsure


def test_one_item_writes_every_kind_of_row(stores: Stores) -> None:
    stores.commit(submit("e1", "a", "b", priority=5, tags='["x"]', key="k", input='{"i": 1}'))
    stores.commit(
        Item(
            "e1",
            ends=[
                end("e1", "a", delta='{"set": {}}'),
                end("e1", "b", state="failed", error="boom", retry_at=99),
            ],
            starts=[start("e1", "c")],
            verdicts=[skip("e1", "d")],
            progress=progress("e1", RUNNING, next_owner=ME, started=77, finished=None, result=None),
            events=[Event("e1", 12, "parked", "why")],
        )
    )
    stored = stores.get("e1")
    assert stored[:10] == ("e1", "wf", "v1", RUNNING, '{"i": 1}', None, "k", 5, '["x"]', ME)
    assert stored.started == 10, "the first start stays"
    completed, failed = AttemptState.COMPLETED, AttemptState.FAILED
    running, skipped = AttemptState.RUNNING, AttemptState.SKIPPED
    assert stored.attempts == (
        StoredAttempt("a", 1, completed, ME, 11, 12, None, '{"set": {}}', None, None, 0),
        StoredAttempt("b", 1, failed, ME, 11, 12, 99, None, "boom", None, 0),
        StoredAttempt("c", 1, running, ME, 11, None, None, None, None, None, 0),
        StoredAttempt("d", 0, skipped, None, None, 12, None, None, None, Reason.DEPENDENCY_FAILED, 0),
    )


@pytest.mark.parametrize("status", [s for s in ExecutionStatus if s.terminal])
def test_an_ended_execution_has_no_owner(stores: Stores, status: ExecutionStatus) -> None:
    stores.commit(submit("e1"))
    stores.commit(Item("e1", progress=progress("e1", status, next_owner=ME, error="why")))
    stored = stores.get("e1")
    assert (stored.status, stored.owner, stored.finished, stored.result, stored.error) == (
        status, None, 13, '{"a": 1}', "why",
    )  # fmt: skip


def test_a_new_execution_may_end_in_its_first_group(stores: Stores) -> None:
    item = submit("e1")
    item = item._replace(progress=progress("e1"))
    stores.commit(item)
    assert stores.get("e1").status is ExecutionStatus.COMPLETED


def test_a_verdict_keeps_its_reason_and_error(stores: Stores) -> None:
    stores.commit(submit("e1"))
    poisoned = Verdict("e1", "t", 4, AttemptState.FAILED, 12, Reason.POISONED, "three crashes")
    stores.commit(Item("e1", verdicts=[poisoned]))
    (attempt,) = stores.get("e1").attempts
    assert (attempt.attempt, attempt.state, attempt.reason, attempt.error) == (
        4, AttemptState.FAILED, Reason.POISONED, "three crashes",
    )  # fmt: skip


UNFIT = {
    "execution there": (submit("e1"), "e1"),
    "key there": (submit("other", key="k1"), "other"),
    "attempt there": (Item("e1", starts=[start("e1", "a")]), "e1/a/1"),
    "verdict there": (Item("e1", verdicts=[skip("e1", "done")._replace(attempt=1)]), "e1/done/1"),
    "start twice": (Item("e1", starts=[start("e1", "n"), start("e1", "n")]), "twice"),
    "end of nothing": (Item("e1", ends=[end("e1", "a", 2)]), "e1/a/2"),
    "end of an ended one": (Item("e1", ends=[end("e1", "done")]), "e1/done/1"),
    "end twice": (Item("e1", ends=[end("e1", "a"), end("e1", "a")]), "twice"),
    "progress of nothing": (Item("e9", progress=progress("e9")), "e9"),
    "progress of another's": (Item("e1", progress=progress("e1", owner="else")), "e1"),
    "progress of an ended one": (Item("ended", progress=progress("ended")), "ended"),
    "no input": (submit("e9", input=None), "input"),
    "text for a number": (submit("e9", priority="high"), "priority"),
    "lone surrogate": (submit("e9", input="\ud800"), "surrogates"),
    "huge number": (submit("e9", priority=2**70), "stored"),
}


@pytest.mark.parametrize("case", UNFIT)
def test_a_group_that_does_not_fit_is_refused_by_name_and_writes_nothing(stores: Stores, case: str) -> None:
    item, named = UNFIT[case]
    ended = submit("ended")
    ended = ended._replace(progress=progress("ended"))
    stores.commit(submit("e1", "a", "done", key="k1"), ended)
    stores.commit(Item("e1", ends=[end("e1", "done")]))
    before = stores.get("e1"), stores.get("ended")
    innocent = submit("innocent", "t")
    with pytest.raises(StoreRefused, match=named):
        stores.commit(innocent, item, claim=claim(5))
    assert (stores.get("e1"), stores.get("ended")) == before
    assert stores.reader.execution("innocent") is None
    stores.commit(innocent)
    assert stores.get("innocent").attempts, "the number of a refused group is free"


def test_a_group_that_was_applied_is_not_applied_again(stores: Stores) -> None:
    stores.writer.insert_unowned([new("waiting")])
    group = Group(ME, 1, (submit("e1", "a"),), claim(1))
    assert [taken.id for taken in stores.writer.commit(group)] == ["waiting"]
    before = stores.get("e1")
    again = stores.writer.commit(group)
    assert {owned.id for owned in again} == {"e1", "waiting"}, "everything that the runner owns"
    assert {len(owned.attempts) for owned in again} == {0, 1}
    assert stores.get("e1") == before
    assert stores.writer.commit(Group(ME, 1, ())) == []


@pytest.mark.parametrize("number", [0, 1, 4, 5])
def test_a_number_out_of_turn_is_fenced(stores: Stores, number: int) -> None:
    stores.commit()
    stores.commit()
    with pytest.raises(Fenced, match=ME):
        stores.writer.commit(Group(ME, number, (submit("late"),)))
    assert stores.reader.execution("late") is None


@pytest.mark.parametrize("reason", [Reason.CRASH, Reason.SHUTDOWN])
@pytest.mark.parametrize("number", [1, 2])
def test_a_runner_that_is_gone_is_fenced_even_under_its_last_number(
    stores: Stores, reason: Reason, number: int
) -> None:
    stores.commit()
    stores.writer.recover(ME, reason, 20)
    with pytest.raises(Fenced, match=f"{ME} is (dead|stopped)"):
        stores.writer.commit(Group(ME, number, (submit("late"),)))
    assert stores.reader.execution("late") is None


def test_a_runner_that_is_unknown_is_fenced(stores: Stores) -> None:
    with pytest.raises(Fenced, match="not registered"):
        stores.writer.commit(Group("nobody", 1, ()))


def test_runners_count_their_groups_apart(stores: Stores) -> None:
    stores.writer.register_runner(runner("runner-2"))
    stores.commit()
    stores.commit()
    stores.writer.commit(Group("runner-2", 1, ()))
    assert {row.id: row.group_no for row in stores.reader.runners()} == {ME: 2, "runner-2": 1}


def test_long_rows_are_written_and_read_though_no_single_text_could_hold_them(stores: Stores) -> None:
    document = '{"text": "' + "x" * 3_000_000 + '"}'
    names = [f"e{number}" for number in range(8)]
    stores.commit(*(submit(name, "a", input=document) for name in names))
    stores.commit(*(Item(name, ends=[end(name, "a", delta=document)]) for name in names))
    stores.writer.recover(ME, Reason.SHUTDOWN, 20)
    stores.writer.register_runner(runner("runner-2"))
    taken = stores.writer.commit(Group("runner-2", 1, (), claim(8)))
    assert [(row.id, row.input, row.attempts[0].delta) for row in taken] == [
        (name, document, document) for name in names
    ]


# What stands at the edge refuses NUL and lone surrogates; PostgreSQL cannot store them.
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(text=TEXT, other=TEXT, number=st.integers(-(2**63), 2**63 - 1))
def test_texts_and_numbers_come_back_as_they_were(stores: Stores, text: str, other: str, number: int) -> None:
    id = f"e{stores.number}"
    stores.commit(submit(id, text, input=other, priority=number, tags=text))
    stores.commit(Item(id, ends=[end(id, text, delta=other, error=text, retry_at=number)]))
    stored = stores.get(id)
    assert (stored.input, stored.priority, stored.tags) == (other, number, text)
    (attempt,) = stored.attempts
    assert (attempt.task, attempt.delta, attempt.error, attempt.retry_at) == (text, other, text, number)


@pytest.mark.parametrize(
    "text", ["5", "05", "1e3", "true", "null", "[1]", '"q"', "a\x01b", "\\u0000", "é\U0001f600"]
)
def test_texts_that_look_like_something_else_stay_text(stores: Stores, text: str) -> None:
    stores.commit(submit("e1", input=text, key=text))
    stored = stores.get("e1")
    assert (stored.input, stored.key) == (text, text)


def test_a_group_that_takes_too_long_twice_is_halved(stores: Stores) -> None:
    slow = StoreTimeout("57014")
    store = Interference(stores.writer)
    store.plan("commit", fails(slow), fails(slow))
    job = WriteJob(ME, 0, Batch((submit("e1"), submit("e2")), None))
    with pytest.raises(StoreTimeout):
        job(store)  # type: ignore[arg-type]
    written = job(store)  # type: ignore[arg-type]
    assert [(group.number, len(group.items)) for group in store.groups] == [(1, 2), (1, 2), (1, 1), (2, 1)]
    assert (written.number, written.refused) == (2, {})
    assert stores.get("e1").owner == stores.get("e2").owner == ME


def test_a_group_of_unknown_outcome_is_never_halved_for_its_slowness(stores: Stores) -> None:
    store = Interference(stores.writer)
    lost, slow = unsure(StoreUnavailable("cut")), fails(StoreTimeout("57014"))
    store.plan("commit", lost, slow, slow, slow)
    job = WriteJob(ME, 0, Batch((submit("e1"), submit("e2")), None))
    for error in (StoreUnavailable, StoreTimeout, StoreTimeout, StoreTimeout):
        with pytest.raises(error):
            job(store)  # type: ignore[arg-type]
    written = job(store)  # type: ignore[arg-type]
    assert {(group.number, len(group.items)) for group in store.groups} == {(1, 2)}
    assert (written.number, written.refused) == (1, {})


def test_the_number_of_a_group_that_was_given_up_in_doubt_is_never_used_again(stores: Stores) -> None:
    """It may be on its way still, and must not count as another one that comes under its number."""
    stores.writer.insert_unowned([new("e1")])
    store = Interference(stores.writer)
    store.plan("commit", fails(StoreUnavailable("cut")))
    job = WriteJob(ME, 0, Batch((submit("e1"), submit("e2")), None))
    with pytest.raises(StoreUnavailable):
        job(store)  # type: ignore[arg-type]
    written = job(store)  # type: ignore[arg-type]
    sent = [(group.number, [item.execution for item in group.items]) for group in store.groups]
    assert sent == [(1, ["e1", "e2"]), (1, ["e1", "e2"]), (3, ["e1"]), (3, ["e2"])]
    assert (written.number, list(written.refused)) == (3, [0])


@pytest.mark.parametrize("answered", [True, False])
def test_a_group_that_was_stored_in_doubt_is_not_refused_afterwards(stores: Stores, answered: bool) -> None:
    stores.writer.insert_unowned([new("e3")])
    store = Interference(stores.writer)
    store.plan("commit", unsure(StoreUnavailable("cut")), fails(StoreRefused("no such right")))
    if not answered:
        store.plan("void", fails(StoreUnavailable("cut")), unsure(StoreUnavailable("cut")))
    job = WriteJob(ME, 0, Batch((submit("e1"), submit("e2")), claim(10)))
    for _ in range(1 if answered else 3):
        with pytest.raises(StoreUnavailable):
            job(store)  # type: ignore[arg-type]
    written = job(store)  # type: ignore[arg-type]
    assert (written.number, written.refused) == (1, {})
    assert "e3" in {claimed.id for claimed in written.claimed}
    assert stores.get("e1").owner == stores.get("e2").owner == ME


def test_a_void_group_is_never_stored(stores: Stores) -> None:
    assert stores.writer.void(ME, 1)
    assert stores.writer.void(ME, 1), "asked again, it is so already"
    with pytest.raises(Fenced):
        stores.writer.commit(Group(ME, 1, (submit("e1"),)))
    stores.writer.commit(Group(ME, 3, (submit("e1"),)))
    assert not stores.writer.void(ME, 3)
    with pytest.raises(Fenced):
        stores.writer.void("nobody", 1)
