"""Preparing a schema: once, whoever comes, with no more rights than needed, and never in somebody else's."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import pytest

from cloacina.errors import SchemaTooNew, StoreCorrupt, StoreUnavailable
from cloacina.store.migrations import MIGRATIONS
from cloacina.store.postgres import prepare as preparing
from cloacina.store.postgres.database import PostgresDatabase
from cloacina.store.postgres.location import server_location
from cloacina.store.postgres.prepare import prepare
from cloacina.store.postgres.server.connect import SETTINGS
from cloacina.store.postgres.server.connection import Connection
from support.postgres.server import PostgresServer


def opened(server: PostgresServer, schema: str) -> Connection:
    return Connection(server_location(server.url(), schema))


def shape(server: PostgresServer, schema: str) -> list[tuple[Any, ...]]:
    """Every column of every table, and every index."""
    return server.execute(
        "SELECT table_name, column_name, data_type, is_nullable FROM information_schema.columns"
        " WHERE table_schema = %s UNION ALL"
        " SELECT tablename, indexname, replace(indexdef, %s, ''), '' FROM pg_indexes WHERE schemaname = %s"
        " ORDER BY 1, 2",
        schema, f"{schema}.", schema,
    )  # fmt: skip


def test_eight_starters_make_it_once(postgres: PostgresServer, schema: str) -> None:
    connections = [opened(postgres, schema) for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(prepare, connections))
    [(instances,)] = postgres.execute(f"SELECT count(*) FROM {schema}.meta WHERE key = 'instance'")
    [(version,)] = postgres.execute(f"SELECT value FROM {schema}.meta WHERE key = 'schema_version'")
    assert (instances, version) == (1, str(len(MIGRATIONS)))
    for connection in connections:
        connection.close()


def test_eight_starters_migrate_once(
    postgres: PostgresServer, schema: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(opened(postgres, schema)) as first:
        prepare(first)
    more = "CREATE TABLE counted (n INTEGER NOT NULL); /*pg INSERT INTO counted VALUES (1);*/"
    monkeypatch.setattr(
        preparing, "MIGRATIONS", (*MIGRATIONS, more.replace("INTO counted", f"INTO {schema}.counted"))
    )
    connections = [opened(postgres, schema) for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(prepare, connections))
    assert postgres.execute(f"SELECT count(*) FROM {schema}.counted") == [(1,)]
    for connection in connections:
        connection.close()


def test_a_migration_that_fails_changes_nothing(
    postgres: PostgresServer, schema: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(opened(postgres, schema)) as connection:
        prepare(connection)
        before = shape(postgres, schema)
        broken = "CREATE TABLE counted (n INTEGER NOT NULL); SELECT nonsense;"
        monkeypatch.setattr(preparing, "MIGRATIONS", (*MIGRATIONS, broken))
        with pytest.raises(StoreUnavailable, match="42703"):
            prepare(connection)
    assert shape(postgres, schema) == before


def test_a_migration_may_take_longer_than_a_statement(
    postgres: PostgresServer, schema: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That of a large database would else be tried again and again, and never done."""
    with closing(opened(postgres, schema)) as connection:
        prepare(connection)
    seen = "CREATE TABLE seen AS SELECT current_setting('statement_timeout') AS limits;"
    monkeypatch.setattr(preparing, "MIGRATIONS", (*MIGRATIONS, seen))
    deadlines: list[float | None] = []
    answered = Connection._answered

    async def asked(connection: Connection, job: Any, deadline: float | None) -> Any:
        deadlines.append(deadline)
        return await answered(connection, job, deadline)

    monkeypatch.setattr(Connection, "_answered", asked)
    with closing(opened(postgres, schema)) as connection:
        prepare(connection)
        assert postgres.execute(f"SELECT limits FROM {schema}.seen") == [("0",)]
        assert deadlines.count(None) == 1, "nor does the client hang up"
        [(after,)] = connection.records("SELECT current_setting('statement_timeout')")
    assert after == SETTINGS["statement_timeout"]


def test_no_more_than_the_right_to_create_is_needed(postgres: PostgresServer, schema: str) -> None:
    url = postgres.create_database(f"bare_{schema}")
    postgres.execute(f"CREATE ROLE maker_{schema} LOGIN PASSWORD 'x'")
    postgres.execute(f'GRANT CREATE ON DATABASE "bare_{schema}" TO maker_{schema}')
    location = server_location(url.replace("postgres:hush-7f3a@", f"maker_{schema}:x@"), schema)
    writer = PostgresDatabase(location).writer()
    assert len(writer.instance()) == 32
    writer.close()


def test_a_role_without_that_right_is_refused_and_nothing_is_made(
    postgres: PostgresServer, schema: str
) -> None:
    postgres.execute(f"CREATE ROLE guest_{schema} LOGIN PASSWORD 'x'")
    location = server_location(postgres.url(user=f"guest_{schema}", password="x"), schema)
    with pytest.raises(StoreUnavailable, match="no such schema.*may not create it"):
        PostgresDatabase(location).writer()
    assert postgres.execute("SELECT 1 FROM pg_namespace WHERE nspname = %s", schema) == []


def test_a_schema_that_is_there_and_empty_is_used(postgres: PostgresServer, schema: str) -> None:
    postgres.execute(f"CREATE SCHEMA {schema}")
    with closing(opened(postgres, schema)) as connection:
        prepare(connection)
        assert connection.value("SELECT count(*) FROM executions") == 0


@pytest.mark.parametrize("table", ["theirs (a int)", "meta (a int)", "executions (id text)"])
def test_a_schema_of_somebody_else_is_left_alone(postgres: PostgresServer, schema: str, table: str) -> None:
    postgres.execute(f"CREATE SCHEMA {schema}")
    postgres.execute(f"CREATE TABLE {schema}.{table}")
    before = shape(postgres, schema)
    with (
        closing(opened(postgres, schema)) as connection,
        pytest.raises(StoreCorrupt, match="another program"),
    ):
        prepare(connection)
    assert shape(postgres, schema) == before


@pytest.mark.parametrize("made", [False, True])
def test_whoever_makes_none_leaves_what_is_missing_or_empty(
    postgres: PostgresServer, schema: str, made: bool
) -> None:
    if made:
        postgres.execute(f"CREATE SCHEMA {schema}")
    with (
        closing(opened(postgres, schema)) as connection,
        pytest.raises(StoreUnavailable, match="start a runner"),
    ):
        prepare(connection, make=False)
    assert bool(postgres.execute("SELECT 1 FROM pg_namespace WHERE nspname = %s", schema)) is made
    assert shape(postgres, schema) == []


def test_a_newer_schema_is_refused(postgres: PostgresServer, schema: str) -> None:
    with closing(opened(postgres, schema)) as connection:
        prepare(connection)
        postgres.execute(f"UPDATE {schema}.meta SET value = '99' WHERE key = 'schema_version'")
        with pytest.raises(SchemaTooNew, match="version 99.*upgrade cloacina"):
            prepare(connection)


def test_a_schema_that_is_prepared_is_only_read(postgres: PostgresServer, schema: str) -> None:
    with closing(opened(postgres, schema)) as connection:
        prepare(connection)
        connection.script("SET default_transaction_read_only = on")
        prepare(connection)
