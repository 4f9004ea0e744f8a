"""The page about the tables says what they are on PostgreSQL."""

from __future__ import annotations

from typing import Any

import pytest

from cloacina.store.postgres.database import PostgresDatabase
from cloacina.store.postgres.location import server_location
from store.schema_page import SECTIONS, columns, indexes, table
from support.postgres.server import PostgresServer

TYPES = {("text", "C"): "TEXT", ("bigint", None): "INTEGER", ("boolean", None): "BOOLEAN"}

COLUMNS = """
    SELECT column_name, data_type, collation_name, is_nullable FROM information_schema.columns
    WHERE table_schema = %s AND table_name = %s ORDER BY ordinal_position"""

INDEXES = """
    SELECT relname, (
            SELECT string_agg(pg_get_indexdef(indexrelid, place::int, true), ', ' ORDER BY place)
            FROM generate_series(1, indnkeyatts) AS place),
        indpred IS NOT NULL
    FROM pg_index JOIN pg_class ON pg_class.oid = indrelid WHERE relnamespace = %s::text::regnamespace"""


class Tables:
    """What the server says of the tables in a schema."""

    def __init__(self, server: PostgresServer, schema: str) -> None:
        self._server = server
        self._schema = schema

    def ask(self, text: str, *params: str) -> list[tuple[Any, ...]]:
        return self._server.execute(text, self._schema, *params)

    def names(self) -> list[str]:
        text = "SELECT table_name FROM information_schema.tables WHERE table_schema = %s ORDER BY 1"
        return [name for (name,) in self.ask(text)]


@pytest.fixture
def tables(postgres: PostgresServer, schema: str) -> Tables:
    """Those that a runner makes."""
    PostgresDatabase(server_location(postgres.url(), schema)).writer().close()
    return Tables(postgres, schema)


def test_every_table_has_its_section(tables: Tables) -> None:
    assert sorted(SECTIONS.keys() - {"Indexes"}) == tables.names()


def test_every_column_is_there_as_it_is(tables: Tables) -> None:
    for name in tables.names():
        found = tables.ask(COLUMNS, name)
        assert columns(name) == [
            (column, TYPES[kind, order], null == "NO") for column, kind, order, null in found
        ]
        assert all(row[3] for row in table(name))


def test_every_index_is_there(tables: Tables) -> None:
    found = set(tables.ask(INDEXES))
    assert {(name, columns, only != "") for name, columns, only in indexes()} == found - {
        ("events", "id", False)
    }


def test_the_keys_of_meta(postgres: PostgresServer, schema: str, tables: Tables) -> None:
    words = table("meta")[0][3].replace("; on PostgreSQL also", ",")
    keys = postgres.execute(f'SELECT key FROM "{schema}".meta')
    assert {key for (key,) in keys} == set(words.split(", "))
