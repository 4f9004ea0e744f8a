"""Versions in a store: work that nobody has the version of is found, taken over, set aside and freed."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from cloacina.model.status import AttemptState, ExecutionStatus, Reason
from cloacina.store.port import WriteStore
from cloacina.store.rows import Command, Group, InFlight, Item, LastAttempt, Rewrite
from store.make import ME, PENDING, RUNNING, Stores, claim, end, new, progress, runner, skip, start, submit

V2 = ("wf", "v2")
PAUSED, PARKED = ExecutionStatus.PAUSED, ExecutionStatus.PARKED


def offer(stores: Stores, *pairs: tuple[str, str], by: str = ME) -> None:
    stores.writer.register_versions(by, [(*pair, "{}") for pair in pairs], 5)


def found(stores: Stores, *pairs: tuple[str, str], known: tuple[str, ...] = (), limit: int = 10) -> list[str]:
    return [row.id for row in stores.reader.stranded(pairs or (V2,), known, limit)]


def rewrite(id: str, version: str | None = "v2", rows: int = 0, **changes: object) -> Rewrite:
    return Rewrite(id, "v1", rows, version, "why")._replace(**changes)  # type: ignore[arg-type]


def parked_for(stores: Stores, *ids: str) -> None:
    offer(stores, V2)
    assert stores.writer.rewrite(ME, [rewrite(id, None) for id in ids], 6) == list(ids)


def events(stores: Stores, id: str) -> list[tuple[str, str]]:
    connection = stores.writer._connection  # type: ignore[attr-defined]
    found: list[tuple[str, str]] = connection.rows(
        "SELECT kind, detail FROM events WHERE execution = ?1 ORDER BY id", (id,)
    )
    return found


# What is found.


def test_only_live_unowned_work_of_other_versions_is_stranded(stores: Stores) -> None:
    stores.writer.insert_unowned(
        [
            new("waits"),
            new("same", version="v2"),
            new("other", workflow="other"),
            new("over", status=ExecutionStatus.FAILED),
        ]
    )
    stores.commit(submit("owned", "a"), submit("asleep", "a"))
    stores.commit(
        Item(
            "asleep",
            ends=[end("asleep", "a", state="failed", retry_at=99)],
            progress=progress("asleep", RUNNING, finished=None, result=None, wake_at=99),
        )
    )
    assert found(stores) == ["asleep", "waits"]
    assert found(stores, ("other", "v2"), ("wf", "v1")) == ["other", "same"]


def test_what_was_touched_is_told(stores: Stores) -> None:
    stores.commit(submit("e1", "a", "b", "c"))
    stores.commit(
        Item(
            "e1",
            ends=[end("e1", "a"), end("e1", "b", state="failed", retry_at=50)],
            verdicts=[skip("e1", "d")],
        )
    )
    stores.commit(Item("e1", starts=[start("e1", "b", 2)]))
    stores.writer.recover(ME, Reason.CRASH, 20)
    assert stores.reader.stranded([V2], [], 5) == [
        InFlight(
            "e1",
            "wf",
            "v1",
            RUNNING,
            5,
            (
                LastAttempt("a", AttemptState.COMPLETED, None),
                LastAttempt("b", AttemptState.INTERRUPTED, None),
                LastAttempt("c", AttemptState.INTERRUPTED, None),
                LastAttempt("d", AttemptState.SKIPPED, None),
            ),
        )
    ]


def test_a_version_that_a_live_runner_offers_is_not_stranded(stores: Stores) -> None:
    stores.writer.insert_unowned([new("e1"), new("e2", version="v0")])
    stores.writer.register_runner(runner("other"))
    offer(stores, ("wf", "v1"), by="other")
    assert found(stores) == ["e2"]
    stores.writer.recover("other", Reason.SHUTDOWN, 9)
    assert found(stores) == ["e1", "e2"]


def test_there_is_a_limit_over_all_versions(stores: Stores) -> None:
    stores.writer.insert_unowned([new(f"e{n}", version=f"v{n // 2}") for n in range(8)])
    assert found(stores, ("wf", "v9"), limit=3) == ["e0", "e1", "e2"]
    assert found(stores, ("wf", "v0"), limit=3) == ["e2", "e3", "e4"]


def test_what_was_looked_into_is_left_out_only_while_it_is_set_aside(stores: Stores) -> None:
    stores.writer.insert_unowned([new("e1"), new("e2"), new("e3")])
    stores.writer.send(Command("c", "e2", "pause", 7))
    parked_for(stores, "e1")
    connection = stores.writer._connection  # type: ignore[attr-defined]
    connection.rows("UPDATE executions SET status = 'parked' WHERE id = 'e3'")  # for another reason
    assert found(stores) == ["e1", "e2"]
    assert found(stores, known=("e1", "e2")) == []
    stores.writer.send(Command("d", "e2", "resume", 8))
    assert found(stores, known=("e1", "e2")) == ["e2"]


def test_live_executions_come_page_by_page(stores: Stores) -> None:
    stores.commit(submit("e1", "a"), submit("e4"))
    stores.writer.insert_unowned([new("e2"), new("e3", status=ExecutionStatus.CANCELLED)])
    stores.writer.send(Command("c", "e2", "pause", 7))
    assert [(row.id, row.status) for row in stores.reader.in_flight("", 2)] == [
        ("e1", RUNNING),
        ("e2", PAUSED),
    ]
    assert [row.id for row in stores.reader.in_flight("e2", 2)] == ["e4"]
    assert stores.reader.in_flight("e4", 2) == []


# Taking over.


def test_an_adopted_execution_has_the_new_version_and_an_event(stores: Stores) -> None:
    stores.writer.insert_unowned([new("e1")])
    offer(stores, V2)
    assert stores.writer.rewrite(ME, [rewrite("e1")], 6) == ["e1"]
    assert (stores.get("e1").version, stores.get("e1").status) == ("v2", PENDING)
    assert events(stores, "e1") == [("adopted", "why")]
    assert stores.writer.rewrite(ME, [rewrite("e1")], 6) == [], "it has another version now"


def test_a_paused_one_stays_so_and_one_that_slept_is_awake(stores: Stores) -> None:
    stores.writer.insert_unowned([new("e1"), new("e2")])
    stores.writer.send(Command("c", "e1", "pause", 7))
    connection = stores.writer._connection  # type: ignore[attr-defined]
    connection.rows("UPDATE executions SET wake_at = 77")
    stores.writer.rewrite(ME, [rewrite("e1"), rewrite("e2")], 6)
    assert (stores.get("e1").status, stores.get("e1").wake_at) == (PAUSED, 77)
    assert (stores.get("e2").status, stores.get("e2").wake_at) == (PENDING, None)


def test_stale_checkpoints_are_removed_with_the_adoption(stores: Stores) -> None:
    stores.commit(submit("e1", "a", "b"))
    connection = stores.writer._connection  # type: ignore[attr-defined]
    for task in ("a", "b"):
        connection.rows("INSERT INTO checkpoints VALUES ('e1', ?1, 'n', '1', 1)", (task,))
    stores.writer.recover(ME, Reason.CRASH, 20)
    stores.writer.register_runner(runner("new"))
    stores.writer.rewrite("new", [rewrite("e1", rows=9, stale=("a", "b"))], 6)
    assert stores.reader.checkpoints("e1", "a") == {"n": "1"}, "nothing was adopted"
    stores.writer.rewrite("new", [rewrite("e1", rows=2, stale=("a",))], 6)
    assert (stores.reader.checkpoints("e1", "a"), stores.reader.checkpoints("e1", "b")) == ({}, {"n": "1"})


def _own(store: WriteStore) -> None:
    store.register_runner(runner("owner"))
    store.commit(Group("owner", 1, (), claim(1)))


def _offer_again(store: WriteStore) -> None:
    store.register_runner(runner("old"))
    store.register_versions("old", [("wf", "v1", "{}")], 7)


def _adopt(store: WriteStore) -> None:
    store.register_runner(runner("x"))
    store.rewrite("x", [rewrite("e1", "v3")], 6)


MEANWHILE: dict[str, Callable[[WriteStore], object]] = {
    "claimed": _own,
    "offered again": _offer_again,
    "cancelled": lambda store: store.send(Command("c", "e1", "cancel", 7)),
    "adopted by another": _adopt,
    "the runner died": lambda store: store.recover(ME, Reason.CRASH, 8),
}


@pytest.mark.parametrize("version", ["v2", None])
@pytest.mark.parametrize("name", MEANWHILE)
def test_nothing_is_rewritten_that_is_not_as_it_was_seen(
    stores: Stores, name: str, version: str | None
) -> None:
    stores.writer.insert_unowned([new("e1")])
    MEANWHILE[name](stores.writer)
    before, told = stores.get("e1"), events(stores, "e1")
    assert stores.writer.rewrite(ME, [rewrite("e1", version)], 9) == []
    assert (stores.get("e1"), events(stores, "e1")) == (before, told)


@pytest.mark.parametrize("version", ["v2", None])
def test_one_that_went_on_meanwhile_is_left_alone(stores: Stores, version: str | None) -> None:
    stores.commit(submit("e1", "a"))
    stores.writer.recover(ME, Reason.CRASH, 20)
    stores.writer.register_runner(runner("new"))
    assert stores.writer.rewrite("new", [rewrite("e1", version, rows=0)], 9) == []
    assert stores.writer.rewrite("new", [rewrite("e1", version, rows=1)], 9) == ["e1"]


# Setting aside, and releasing.


def test_a_parked_one_says_why_and_is_not_claimed(stores: Stores) -> None:
    stores.writer.insert_unowned([new("e1")])
    parked_for(stores, "e1")
    stored = stores.get("e1")
    assert (stored.status, stored.error, stored.version) == (PARKED, "why", "v1")
    assert events(stores, "e1") == [("parked", "why")]
    assert stores.commit(claim=claim(5)) == []


def test_a_runner_that_registers_its_version_frees_it(stores: Stores) -> None:
    stores.writer.insert_unowned([new("e1"), new("e2", started=11, status=RUNNING), new("e3", version="v0")])
    parked_for(stores, "e1", "e2")
    stores.writer.rewrite(ME, [Rewrite("e3", "v0", 0, None, "why")], 6)
    offer(stores, ("wf", "v1"))
    assert [stores.get(id).status for id in ("e1", "e2", "e3")] == [PENDING, RUNNING, PARKED]
    assert stores.get("e1").error is None
    assert events(stores, "e1")[1:] == [("freed", f"runner {ME} has its version")]
    assert [row.id for row in stores.commit(claim=claim(5))] == ["e1", "e2"]


def test_one_that_was_parked_for_another_reason_is_not_freed(stores: Stores) -> None:
    stores.writer.insert_unowned([new("e1")])
    connection = stores.writer._connection  # type: ignore[attr-defined]
    connection.rows("UPDATE executions SET status = 'parked', error = 'damaged'")
    offer(stores, ("wf", "v1"))
    assert (stores.get("e1").status, stores.get("e1").error) == (PARKED, "damaged")
    assert stores.writer.rewrite(ME, [rewrite("e1")], 6) == []


def test_a_parked_one_can_be_adopted(stores: Stores) -> None:
    stores.writer.insert_unowned([new("e1"), new("e2", status=RUNNING, started=5)])
    parked_for(stores, "e1", "e2")
    assert stores.writer.rewrite(ME, [rewrite("e1"), rewrite("e2")], 7) == ["e1", "e2"]
    assert [(stores.get(id).status, stores.get(id).error) for id in ("e1", "e2")] == [
        (PENDING, None),
        (RUNNING, None),
    ]
