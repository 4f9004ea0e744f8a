"""The page about the tables says what they are on SQLite."""

from __future__ import annotations

import re
from typing import Any

import pytest

from cloacina.model.status import AttemptState, CommandKind, ExecutionStatus, RunnerState
from cloacina.store.migrations import MIGRATIONS
from store.make import Stores
from store.schema_page import PAGE, POSTGRES_ONLY, SECTIONS, columns, indexes, table


def rows(stores: Stores, text: str) -> list[tuple[Any, ...]]:
    found: list[tuple[Any, ...]] = stores.writer._connection.rows(text)  # type: ignore[attr-defined]
    return found


def names(stores: Stores) -> list[str]:
    return [row[0] for row in rows(stores, "SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY 1")]


def test_every_table_has_its_section(stores: Stores) -> None:
    assert sorted(SECTIONS.keys() - {"Indexes"} - POSTGRES_ONLY) == names(stores)


def test_every_column_is_there_as_it_is(stores: Stores) -> None:
    for name in names(stores):
        found = rows(
            stores,
            f"SELECT name, type, \"notnull\" OR (pk AND type = 'INTEGER') FROM pragma_table_info('{name}')",
        )
        assert columns(name) == [(name, kind, bool(needed)) for name, kind, needed in found], name
        assert all(row[3] for row in table(name))


def test_every_index_is_there(stores: Stores) -> None:
    found: set[tuple[str, str, str]] = set()
    for name in names(stores):
        for index, text in rows(
            stores,
            f"SELECT list.name, sql FROM pragma_index_list('{name}') AS list JOIN sqlite_schema "
            "ON sqlite_schema.name = list.name AND type = 'index'",
        ):
            order = rows(stores, f"SELECT name FROM pragma_index_info('{index}')")
            condition = " ".join((text or "").partition("WHERE")[2].split())
            found.add((name, ", ".join(row[0] for row in order), condition))
        key = rows(stores, f"SELECT name FROM pragma_table_info('{name}') WHERE pk ORDER BY pk")
        found.add((name, ", ".join(row[0] for row in key), ""))
    assert {index for index in indexes() if index[0] not in POSTGRES_ONLY} == found - {("events", "id", "")}


@pytest.mark.parametrize(
    ("section", "column", "words"),
    [
        ("executions", "status", ExecutionStatus),
        ("attempts", "state", AttemptState),
        ("runners", "state", RunnerState),
        ("commands", "kind", CommandKind),
    ],
)
def test_every_state_is_named(section: str, column: str, words: type[ExecutionStatus]) -> None:
    meaning = next(row[3] for row in table(section) if row[0] == column)
    assert sorted(re.split("[,;] ", meaning)) == sorted(words)


def test_the_version_and_the_keys_of_meta(stores: Stores) -> None:
    assert f"describes version {len(MIGRATIONS)}" in PAGE
    keys, _, _ = table("meta")[0][3].partition("; ")
    assert {row[0] for row in rows(stores, "SELECT key FROM meta")} == set(keys.split(", "))
