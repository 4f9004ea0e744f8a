"""The checks of a server: what is refused, what is warned of, and what every session sets for itself."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from typing import Any

import pytest

from cloacina.errors import StoreUnavailable, UnsuitableServer
from cloacina.store.postgres.location import server_location
from cloacina.store.postgres.server.checks import check_server
from cloacina.store.postgres.server.connection import Connection
from support.postgres.server import PostgresServer

HEALTHY = {
    "server_version_num": "140000",
    "server_encoding": "UTF8",
    "default_transaction_read_only": "off",
    "fsync": "on",
    "full_page_writes": "on",
    "synchronous_commit": "on",
    "max_connections": "100",
}


class Told(Connection):
    """A connection to a server that says of itself what the test wants it to."""

    def __init__(self, *, standby: bool = False, pooled: bool = False, **settings: str) -> None:
        self.location = server_location("postgresql://u:canary-11b7@h/d", "s")
        self.pooled = pooled
        self._answer = [(name, value, standby) for name, value in {**HEALTHY, **settings}.items()]

    def rows(self, sql: str, params: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        assert {name for name, _, _ in self._answer} == {*params[0]}  # type: ignore[misc]
        return self._answer  # type: ignore[return-value]

    def close(self) -> None: ...


REFUSED: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"fsync": "off"}, UnsuitableServer, "lose commits.* fsync off"),
    ({"full_page_writes": "off"}, UnsuitableServer, "full_page_writes off"),
    ({"synchronous_commit": "off"}, UnsuitableServer, "synchronous_commit off"),
    (
        {"fsync": "off", "full_page_writes": "off"},
        UnsuitableServer,
        "fsync and full_page_writes off; .*allow_unsafe",
    ),
    ({"server_version_num": "130022"}, UnsuitableServer, "PostgreSQL 13; upgrade the server to 14"),
    ({"server_version_num": "90624"}, UnsuitableServer, "PostgreSQL 9;"),
    ({"server_encoding": "LATIN1"}, UnsuitableServer, "encoding LATIN1.*ENCODING 'UTF8'"),
    ({"server_encoding": "SQL_ASCII"}, UnsuitableServer, "encoding SQL_ASCII"),
    ({"default_transaction_read_only": "on"}, StoreUnavailable, "is read-only .*default_transaction_read"),
    ({"standby": True}, StoreUnavailable, "is read-only .*standby"),
]
FINE: list[dict[str, Any]] = [
    {},
    {"synchronous_commit": "local"},
    {"synchronous_commit": "remote_apply"},
    {"synchronous_commit": "off", "pooled": True},
    {"server_version_num": "180003"},
]


@pytest.mark.parametrize(("told", "error", "says"), REFUSED, ids=lambda value: str(value)[:50])
def test_a_server_that_cannot_keep_the_promises_is_refused(
    told: dict[str, Any], error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says) as caught:
        check_server(Told(**told))
    assert "canary-11b7" not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("told", FINE, ids=str)
def test_what_does_not_matter_is_not_mentioned(
    told: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    check_server(Told(**told))
    assert caplog.messages == []


@pytest.mark.parametrize(("told", "error", "says"), REFUSED, ids=lambda value: str(value)[:50])
def test_only_what_loses_commits_can_be_allowed(
    told: dict[str, Any], error: type[Exception], says: str, caplog: pytest.LogCaptureFixture
) -> None:
    if any(value == "off" for value in told.values()):
        check_server(Told(**told), allow_unsafe=True)
        assert "lose commits" in caplog.text
    else:
        with pytest.raises(error, match=says):
            check_server(Told(**told), allow_unsafe=True)


def test_few_connections_are_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    check_server(Told(max_connections="19"))
    check_server(Told(max_connections="20"))
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "takes 19 connections at most" in caplog.text


# On a real server.


@pytest.fixture(scope="module")
def odd() -> Iterator[PostgresServer]:
    """A server whose settings are changed here."""
    with closing(PostgresServer()) as server:
        yield server


def opened(url: str) -> closing[Connection]:
    return closing(Connection(server_location(url, "s")))


def test_a_healthy_server_passes(postgres: PostgresServer, caplog: pytest.LogCaptureFixture) -> None:
    with opened(postgres.url()) as connection:
        check_server(connection)
    assert caplog.messages == []


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("fsync", "off", UnsuitableServer),
        ("full_page_writes", "off", UnsuitableServer),
        ("default_transaction_read_only", "on", StoreUnavailable),
        ("synchronous_commit", "off", None),
        ("synchronous_commit", "local", None),
        ("statement_timeout", "1ms", None),
        ("lock_timeout", "1ms", None),
        ("idle_in_transaction_session_timeout", "1ms", None),
        ("default_transaction_isolation", "serializable", None),
        ("timezone", "Pacific/Apia", None),
        ("search_path", "evil, public", None),
        ("client_encoding", "LATIN1", None),
        ("standard_conforming_strings", "off", None),
        ("IntervalStyle", "sql_standard", None),
    ],
)
def test_an_odd_setting_is_refused_or_does_not_reach_a_session(
    odd: PostgresServer, name: str, value: str, error: type[Exception] | None
) -> None:
    with opened(odd.url()) as connection:
        usual = connection.rows(SESSION)
    odd.set(name, value)
    try:
        with opened(odd.url()) as connection:
            if error is None:
                check_server(connection)
                assert connection.rows(SESSION) == usual
            else:
                with pytest.raises(error, match=name):
                    check_server(connection)
    finally:
        odd.set(name, None)


SESSION = """
    SELECT name, setting FROM pg_settings WHERE name IN (
        'synchronous_commit', 'statement_timeout', 'lock_timeout', 'idle_in_transaction_session_timeout',
        'default_transaction_isolation', 'TimeZone', 'search_path', 'client_encoding') ORDER BY name"""


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
def test_another_encoding_is_refused(odd: PostgresServer, encoding: str) -> None:
    name = f"in_{encoding.lower()}"
    odd.execute(f"CREATE DATABASE {name} ENCODING '{encoding}' LOCALE 'C' TEMPLATE template0")
    with opened(odd.url(name)) as connection, pytest.raises(UnsuitableServer, match=encoding):
        check_server(connection)


def test_a_standby_is_read_only(own_postgres: Callable[..., PostgresServer]) -> None:
    server = own_postgres(max_connections=15)
    server.stop()
    (server.folder / "data" / "standby.signal").touch(mode=0o644)
    server.start()
    with opened(server.url()) as connection, pytest.raises(StoreUnavailable, match="standby"):
        check_server(connection)
