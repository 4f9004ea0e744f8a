"""Retention: what is found to be old enough, what is removed with it, and what never is."""

from __future__ import annotations

from typing import Any

import pytest

from cloacina.model.status import AttemptState, ExecutionStatus, Reason
from cloacina.store.rows import Event, ExpiryLook, Item
from store.make import COMPLETED, ME, RUNNING, Stores, end, new, progress, runner, skip, submit

FAILED = ExecutionStatus.FAILED
LIVE = [status for status in ExecutionStatus if not status.terminal]
ENDED = [status for status in ExecutionStatus if status.terminal]

SECOND = 1_000_000
NOW = 1_750_000_000 * SECOND


def id_of(made: int, number: int = 0) -> str:
    """An id of an execution made then."""
    text = f"{made // 1000:012x}"
    return f"{text[:8]}-{text[8:]}-7000-8000-{number:012x}"


def made(stores: Stores, ago: int, status: ExecutionStatus = COMPLETED, **changes: Any) -> str:
    """Store an execution with one task, made so many seconds ago; it ended one second later unless said."""
    id = id_of(NOW - ago * SECOND, stores.number)
    stores.commit(submit(id, "a", **{"created": NOW - ago * SECOND, "key": id, **changes}))
    if status is not RUNNING:
        ended = {"finished": NOW - ago * SECOND + SECOND} if status.terminal else {"finished": None}
        stores.commit(Item(id, ends=[end(id, "a")], progress=progress(id, status, **ended)))
    return id


def found(stores: Stores, before: int, status: ExecutionStatus = COMPLETED, rows: int = 100) -> list[str]:
    """The ids that are old enough, with as many looks as it takes."""
    ids: list[str] = []
    after: str | None = ""
    while after is not None:
        look = stores.reader.expired(ExpiryLook(status, before, after, rows))
        ids += [id for id, _ in look.executions]
        assert after < (look.last or "z"), "each look goes on after the last"
        after = look.last
    return ids


@pytest.mark.parametrize("rows", [1, 2, 3, 100])
def test_what_ended_before_a_moment_is_found_oldest_first(stores: Stores, rows: int) -> None:
    ids = [made(stores, ago) for ago in (50, 40, 30, 20, 10)]
    assert found(stores, NOW - 29 * SECOND, rows=rows) == ids[:2]
    assert found(stores, NOW - 28 * SECOND, rows=rows) == ids[:3]
    assert found(stores, NOW, rows=rows) == ids
    assert found(stores, 0, rows=rows) == []


@pytest.mark.parametrize("status", ENDED)
def test_each_outcome_is_looked_for_by_itself(stores: Stores, status: ExecutionStatus) -> None:
    ids = {ended: made(stores, 100 - n, ended) for n, ended in enumerate(ENDED)}
    assert found(stores, NOW, status) == [ids[status]]


@pytest.mark.parametrize("status", ENDED)
def test_age_counts_from_the_end(stores: Stores, status: ExecutionStatus) -> None:
    """It was made long ago, and ended just now."""
    id = made(stores, 1000, RUNNING)
    stores.commit(Item(id, ends=[end(id, "a")], progress=progress(id, status, finished=NOW - SECOND)))
    assert found(stores, NOW - SECOND, status) == []
    assert found(stores, NOW, status) == [id]


@pytest.mark.parametrize("status", LIVE)
def test_what_is_live_is_neither_found_nor_removed(stores: Stores, status: ExecutionStatus) -> None:
    id = made(stores, 10**6, status)
    assert [found(stores, NOW, ended) for ended in ENDED] == [[], [], []]
    before = stores.get(id)
    assert stores.writer.prune([id]) == []
    assert stores.get(id) == before and before.attempts


def test_a_look_tells_how_many_attempts_there_are(stores: Stores) -> None:
    id = made(stores, 10)
    stores.commit(submit("z", "a"))
    stores.writer.insert_unowned([new(id_of(NOW), status=COMPLETED)])
    look = stores.reader.expired(ExpiryLook(COMPLETED, NOW, "", 10))
    assert look.executions == ((id, 1),)


def test_everything_of_an_execution_is_removed_with_it_and_nothing_else(stores: Stores) -> None:
    old, kept = made(stores, 20), made(stores, 10)
    for id in (old, kept):
        connection = stores.writer._connection  # type: ignore[attr-defined]
        connection.change("INSERT INTO checkpoints VALUES (?1, 'a', 'c', '1', 1)", (id,))
        connection.change("INSERT INTO commands VALUES (?1, ?1, 'cancel', 1)", (id,))
        stores.commit(Item(id, events=[Event(id, 1, "recovered", "")]))
    tables = ("executions", "attempts", "checkpoints", "events", "commands")
    assert counts(stores, *tables) == [2] * 5
    assert stores.writer.prune([old, "unheard of"]) == [old]
    assert counts(stores, *tables) == [1] * 5
    assert stores.reader.execution(old) is None
    assert stores.get(kept).attempts
    assert stores.writer.prune([old]) == []
    assert stores.writer.prune([]) == []


def test_a_key_may_be_used_again_once_its_execution_is_gone(stores: Stores) -> None:
    id = made(stores, 10, key="k")
    again = new("again", key="k")
    assert stores.writer.insert_unowned([again]) != [None]
    stores.writer.prune([id])
    assert stores.writer.insert_unowned([again]) == [None]


def test_runners_that_are_gone_are_forgotten_when_nobody_asks_for_them(stores: Stores) -> None:
    for name, started in (("dead", 5), ("stopped", 5), ("young", 50), ("alive", 5)):
        stores.writer.register_runner(runner(name)._replace(started=started))
    stores.writer.register_versions("alive", [("wf", "v1", "{}")], 1)
    for name in ("dead", "young"):
        stores.writer.recover(name, Reason.CRASH, 10)
    stores.writer.recover("stopped", Reason.SHUTDOWN, 10)
    stores.writer.register_versions("dead", [("wf", "v1", "{}")], 1)
    assert stores.writer.forget_runners(5) == 0
    assert stores.writer.forget_runners(6) == 2
    connection = stores.writer._connection  # type: ignore[attr-defined]
    assert connection.rows("SELECT id FROM runners ORDER BY id") == [("alive",), (ME,), ("young",)]
    assert connection.rows("SELECT runner FROM runner_workflows") == [("alive",)]
    assert stores.writer.forget_runners(6) == 0


def test_a_runner_that_still_owns_something_is_not_forgotten(stores: Stores) -> None:
    stores.writer.register_runner(runner("lost"))
    stores.writer.recover("lost", Reason.CRASH, 10)
    stores.writer.insert_unowned([new("e1", owner="lost", status=RUNNING)])
    assert stores.writer.forget_runners(NOW) == 0
    assert stores.writer.free_orphans(NOW) == 1
    assert stores.writer.forget_runners(NOW) == 1


def test_skips_and_large_executions_go_whole(stores: Stores) -> None:
    id = id_of(NOW - 10 * SECOND)
    tasks = [f"t{n}" for n in range(300)]
    stores.commit(submit(id, *tasks))
    ends = [end(id, task, state=AttemptState.COMPLETED) for task in tasks]
    stores.commit(Item(id, ends=ends, verdicts=[skip(id, "s")], progress=progress(id, finished=NOW - 5)))
    assert stores.reader.expired(ExpiryLook(COMPLETED, NOW, "", 10)).executions == ((id, 301),)
    assert stores.writer.prune([id]) == [id]
    assert counts(stores, "attempts") == [0]


def counts(stores: Stores, *tables: str) -> list[int]:
    connection = stores.writer._connection  # type: ignore[attr-defined]
    return [connection.value(f"SELECT count(*) FROM {table}") for table in tables]
