"""One connection: what it does when the server goes away, is slow, or answers never."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from contextlib import closing

import asyncpg
import pytest

from cloacina.errors import ForkedProcess, StoreBusy, StoreRefused, StoreTimeout, StoreUnavailable
from cloacina.store.postgres.location import ServerLocation, server_location
from cloacina.store.postgres.server.connection import Connection
from support.postgres.proxy import TcpProxy
from support.postgres.server import PostgresServer


@pytest.fixture
def location(postgres: PostgresServer, schema: str) -> ServerLocation:
    postgres.execute(f"CREATE SCHEMA {schema}")
    postgres.execute(f"CREATE TABLE {schema}.meta (key text PRIMARY KEY, value text)")
    return server_location(postgres.url(), schema)


@pytest.fixture
def connection(location: ServerLocation) -> Iterator[Connection]:
    with closing(Connection(location)) as opened:
        yield opened


def backend(connection: Connection) -> int:
    number: int = connection.records("SELECT pg_backend_pid()")[0][0]
    return number


def test_rows_and_changes(connection: Connection) -> None:
    assert connection.change("INSERT INTO meta (key, value) VALUES (?1, ?2), ('b', NULL)", ("a", "1")) == 2
    assert connection.rows("SELECT key, value FROM meta ORDER BY key") == [("a", "1"), ("b", None)]
    assert connection.row("SELECT key FROM meta WHERE key = ?1", ("b",)) == ("b",)
    assert connection.row("SELECT key FROM meta WHERE key = ?1", ("c",)) is None
    assert connection.value("SELECT count(*) FROM meta") == 2


def test_a_transaction_is_all_or_nothing(connection: Connection) -> None:
    with connection.transaction():
        connection.change("INSERT INTO meta (key) VALUES ('kept')")
    with pytest.raises(RuntimeError), connection.transaction():
        connection.change("INSERT INTO meta (key) VALUES ('lost')")
        raise RuntimeError
    with pytest.raises(StoreRefused), connection.transaction():
        connection.change("INSERT INTO meta (key) VALUES ('lost')")
        connection.change("INSERT INTO meta (key) VALUES ('kept')")
    assert connection.rows("SELECT key FROM meta") == [("kept",)]


def test_a_snapshot_does_not_move(connection: Connection, location: ServerLocation) -> None:
    with closing(Connection(location)) as other, connection.snapshot():
        assert connection.value("SELECT count(*) FROM meta") == 0
        other.change("INSERT INTO meta (key) VALUES ('new')")
        assert connection.value("SELECT count(*) FROM meta") == 0
    assert connection.value("SELECT count(*) FROM meta") == 1


def test_nothing_is_found_by_a_search_path(connection: Connection) -> None:
    with pytest.raises(StoreUnavailable, match="42P01"):
        connection.records("SELECT * FROM meta")


def test_a_lost_connection_is_told_once_and_opened_again(
    connection: Connection, postgres: PostgresServer
) -> None:
    before = backend(connection)
    postgres.kill_backends(f"pid = {before}")
    with pytest.raises(StoreUnavailable):
        backend(connection)
    assert backend(connection) != before


def test_a_connection_that_is_lost_within_a_transaction_does_not_go_on_in_another(
    connection: Connection, postgres: PostgresServer
) -> None:
    with pytest.raises(StoreBusy), connection.transaction():
        connection.change("INSERT INTO meta (key) VALUES ('lost')")
        postgres.kill_backends(f"pid = {backend(connection)}")
        with pytest.raises(StoreUnavailable):
            backend(connection)
        connection.change("INSERT INTO meta (key) VALUES ('half')")
    assert connection.rows("SELECT key FROM meta") == []


def test_a_server_that_answers_never_is_given_up(
    location: ServerLocation, postgres: PostgresServer, proxied: Callable[[PostgresServer], TcpProxy]
) -> None:
    proxy = proxied(postgres)
    with closing(Connection(server_location(proxy.url(), location.schema), deadline=0.2)) as connection:
        proxy.blackhole()
        with pytest.raises(StoreUnavailable, match="no answer in time"):
            connection.value("SELECT count(*) FROM meta")
        proxy.heal()
        assert connection.value("SELECT count(*) FROM meta") == 0


def test_a_statement_that_takes_too_long_is_a_timeout(location: ServerLocation) -> None:
    with closing(Connection(location, settings={"statement_timeout": "50ms"})) as connection:
        with pytest.raises(StoreTimeout, match="57014"):
            connection.records("SELECT pg_sleep(60)")
        assert connection.value("SELECT count(*) FROM meta") == 0


def test_a_lock_is_waited_for_a_while(connection: Connection, location: ServerLocation) -> None:
    connection.change("INSERT INTO meta (key) VALUES ('a')")
    with closing(Connection(location, settings={"lock_timeout": "50ms"})) as other, connection.transaction():
        connection.change("UPDATE meta SET value = '1'")
        with pytest.raises(StoreBusy, match="55P03"):
            other.change("UPDATE meta SET value = '2'")


def test_it_is_of_no_use_in_a_forked_child_and_stays_whole_in_the_parent(connection: Connection) -> None:
    before = backend(connection)
    child = os.fork()
    if child == 0:
        try:
            connection.value("SELECT count(*) FROM meta")
        except ForkedProcess:
            connection.close()
            os._exit(7)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    assert backend(connection) == before


async def test_it_needs_no_event_loop_of_the_caller(location: ServerLocation) -> None:
    def use() -> int:
        with closing(Connection(location)) as connection:
            count: int = connection.value("SELECT count(*) FROM meta")
            return count

    assert await asyncio.to_thread(use) == 0


def test_a_beginning_that_fails_leaves_no_transaction_behind(connection: Connection) -> None:
    with pytest.raises(StoreUnavailable):
        connection._begin("BEGIN; SELECT nonsense")
    assert connection.change("INSERT INTO meta (key) VALUES ('kept')") == 1


def test_a_commit_that_the_server_makes_a_rollback_is_told(connection: Connection) -> None:
    with pytest.raises(StoreBusy, match="rolled the transaction back"), connection.transaction():
        connection.change("INSERT INTO meta (key) VALUES ('lost')")
        with pytest.raises(StoreRefused):
            connection.change("INSERT INTO meta (key) VALUES ('lost')")
    assert connection.rows("SELECT key FROM meta") == []


def test_a_session_that_cannot_be_rolled_back_is_left(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else it would stay in its broken transaction, and refuse all that comes later."""
    before, execute = backend(connection), asyncpg.Connection.execute

    async def cancelled(raw: asyncpg.Connection, text: str, *more: object) -> str:
        if text == "ROLLBACK":
            raise asyncpg.QueryCanceledError("somebody cancels it")
        return str(await execute(raw, text, *more))

    with monkeypatch.context() as patch, pytest.raises(StoreUnavailable, match="42P01"):
        patch.setattr(asyncpg.Connection, "execute", cancelled)
        with connection.transaction():
            connection.records("SELECT * FROM nothing")
    assert connection.value("SELECT count(*) FROM meta") == 0
    assert backend(connection) != before


def test_there_is_no_transaction_within_another(connection: Connection) -> None:
    """The COMMIT of the inner one would end the outer one half way."""
    with pytest.raises(RuntimeError, match="within another"), connection.transaction():
        connection.change("INSERT INTO meta (key) VALUES ('lost')")
        with connection.transaction():
            pass
    with pytest.raises(RuntimeError, match="within another"), connection.snapshot(), connection.transaction():
        pass
    with connection.transaction(), connection.snapshot():
        connection.change("INSERT INTO meta (key) VALUES ('kept')")
    assert connection.rows("SELECT key FROM meta") == [("kept",)]
