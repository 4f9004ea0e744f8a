"""Groups on a server: what is committed, what is read back apart from it, and what a second try finds."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest

from cloacina.engine.committer import Batch, WriteJob
from cloacina.errors import StoreTimeout, StoreUnavailable
from cloacina.model.status import CommandKind, ExecutionStatus
from cloacina.store.nouns import commands
from cloacina.store.postgres import claims, groups
from cloacina.store.postgres.database import PostgresDatabase
from cloacina.store.postgres.location import server_location
from cloacina.store.rows import Command, Group, Item
from store.make import ME, RUNNING, Stores, claim, end, new, progress, runner, start, submit
from support.postgres.server import PostgresServer

OTHER = "runner-2"


@pytest.fixture
def stores(postgres: PostgresServer, schema: str) -> Iterator[Stores]:
    """Two stores that write, each on a session of its own; `ME` and `OTHER` are alive."""
    database = PostgresDatabase(server_location(postgres.url(), schema))
    stores = Stores(database.writer(), database.reader())
    for id in (ME, OTHER):
        stores.writer.register_runner(runner(id))
    yield stores
    stores.reader.close()
    stores.writer.close()


def rows(stores: Stores, sql: str) -> list[tuple[Any, ...]]:
    store: Any = stores.writer
    found: list[tuple[Any, ...]] = store._connection.rows(sql)
    return found


def damage(stores: Stores, id: str) -> None:
    """Store an execution that nobody owns and nobody can read."""
    stores.writer.insert_unowned([new(id)])
    store: Any = stores.writer
    store._connection.change(
        "INSERT INTO attempts (execution, task, attempt, state) VALUES (?1, 'a', 1, 'bogus')", (id,)
    )


def gives_up(id: str, **changes: object) -> Item:
    """The owner gives an execution up until it is due."""
    return Item(
        id, progress=progress(id, RUNNING, next_owner=None, finished=None, result=None, wake_at=50, **changes)
    )


def test_a_claim_that_takes_too_long_to_read_is_read_again_and_its_group_is_not_halved(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The group is stored by then: its halves under the next numbers would be refused."""
    stores.commit(submit("begun"))
    stores.commit(gives_up("begun"))
    batch = Batch((submit("e1", "a"), submit("e2", "a")), claim(9))
    write, attach = WriteJob(ME, stores.number, batch), commands.attach

    def slow(*_: object) -> Any:
        raise StoreTimeout("the disk is cold")

    monkeypatch.setattr(commands, "attach", slow)
    for _ in range(3):
        with pytest.raises(StoreUnavailable, match="the group is stored.*the disk is cold"):
            write(stores.writer)
    monkeypatch.setattr(commands, "attach", attach)
    written = write(stores.writer)
    assert (written.number, written.refused) == (stores.number + 1, {})
    assert {"begun", "e1", "e2"} == {one.id for one in written.claimed}
    assert rows(stores, "SELECT DISTINCT owner FROM executions") == [(ME,)]


def test_a_group_that_comes_again_settles_nothing_under_the_next_owner(stores: Stores) -> None:
    stores.commit(submit("e", "a"))
    ended = end("e", "a", state="failed", retry_at=50)
    group = Group(ME, 2, (Item("e", ends=[ended], progress=gives_up("e").progress),))
    stores.writer.commit(group)  # its answer is lost
    (taken,) = stores.writer.commit(Group(OTHER, 1, (), claim(1)))
    again = start("e", "a", 2)._replace(runner=OTHER)
    stores.writer.commit(Group(OTHER, 2, (Item("e", starts=[again]),)))
    left = stores.writer.send(Command("c1", "e", CommandKind.CANCEL, 70))
    assert (taken.owner, left) == (OTHER, (RUNNING, True))
    stores.writer.commit(group)
    assert rows(stores, "SELECT status, owner FROM executions") == [("running", OTHER)]
    assert rows(stores, "SELECT attempt, state FROM attempts ORDER BY 1") == [(1, "failed"), (2, "running")]
    assert rows(stores, "SELECT id FROM commands") == [("c1",)], "its owner obeys it"


@pytest.mark.parametrize("stored", [True, False])
def test_a_group_that_is_on_its_way_is_waited_for_before_it_is_void(
    stores: Stores, postgres: PostgresServer, schema: str, stored: bool
) -> None:
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE %s"
    with (
        psycopg.connect(postgres.url()) as group,
        psycopg.connect(postgres.url(), autocommit=True) as looking,
        ThreadPoolExecutor(1) as pool,
    ):
        group.execute(f"UPDATE {schema}.runners SET group_no = 1 WHERE id = '{ME}'".encode())

        def end_it() -> None:
            while looking.execute(waiting, [f"%{schema}%group_no%"]).fetchone() == (0,):
                pass
            group.commit() if stored else group.rollback()

        ended = pool.submit(end_it)
        assert stores.writer.void(ME, 1) is not stored
        ended.result()
    assert rows(stores, f"SELECT group_no FROM runners WHERE id = '{ME}'") == [(1 if stored else 2,)]


def test_what_is_set_aside_as_it_is_claimed_commits_no_half_of_the_group(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    stores.commit(submit("e", "a"))
    stores.writer.send(Command("c1", "e", CommandKind.CANCEL, 70))
    damage(stores, "damaged")
    group = Group(ME, 2, (gives_up("e"),), claim(9))

    def dies(*_: object) -> None:
        raise RuntimeError("the process dies here")

    with monkeypatch.context() as patch, pytest.raises(RuntimeError):
        patch.setattr(commands, "settle", dies)
        stores.writer.commit(group)
    owned = [("damaged", "pending", None), ("e", "running", ME)]
    assert rows(stores, "SELECT id, status, owner FROM executions ORDER BY id") == owned
    assert stores.writer.commit(group) == []
    settled = [("damaged", "parked", None), ("e", "cancelled", None)]
    assert rows(stores, "SELECT id, status, owner FROM executions ORDER BY id") == settled
    assert rows(stores, "SELECT id FROM commands") == []


def test_nobody_sets_aside_what_has_another_owner_by_now(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who was declared dead between its claim and its look at what it took has nothing to say about it."""
    damage(stores, "e")
    claimed = claims.claimed

    def late(*arguments: Any) -> Any:
        stores.writer.commit(Group(ME, 2, (Item("e", progress=progress("e", ExecutionStatus.PENDING,
            next_owner=OTHER, finished=None, result=None)),)))  # fmt: skip
        return claimed(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(groups.claims, "claimed", late)
        assert stores.writer.commit(Group(ME, 1, (), claim(1))) == []
    assert rows(stores, "SELECT status, owner FROM executions") == [("pending", OTHER)]
    assert rows(stores, "SELECT kind FROM events") == []
