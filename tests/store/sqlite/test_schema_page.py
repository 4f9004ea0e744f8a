"""The page about the tables says what the tables are."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from cloacina.model.status import AttemptState, CommandKind, ExecutionStatus, RunnerState
from cloacina.store.migrations import MIGRATIONS
from store.make import Stores

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "reference" / "schema.md").read_text("utf-8")
SECTIONS = dict(re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL))


def table(section: str) -> list[tuple[str, ...]]:
    """The rows of the table in a section, without its head."""
    lines = [line for line in SECTIONS[section].splitlines() if line.startswith("|")]
    return [tuple(cell.strip() for cell in line.strip("|").split("|")) for line in lines[2:]]


def rows(stores: Stores, text: str) -> list[tuple[Any, ...]]:
    found: list[tuple[Any, ...]] = stores.writer._connection.rows(text)  # type: ignore[attr-defined]
    return found


def names(stores: Stores) -> list[str]:
    return [row[0] for row in rows(stores, "SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY 1")]


def test_every_table_has_its_section(stores: Stores) -> None:
    assert sorted(SECTIONS.keys() - {"Indexes"}) == names(stores)


def test_every_column_is_there_as_it_is(stores: Stores) -> None:
    for name in names(stores):
        columns = rows(
            stores,
            f"SELECT name, type, \"notnull\" OR (pk AND type = 'INTEGER') FROM pragma_table_info('{name}')",
        )
        described = [(row[0], row[1], row[2] == "no") for row in table(name)]
        assert described == [(name, kind, bool(needed)) for name, kind, needed in columns], name
        assert all(row[3] for row in table(name))


def test_every_index_is_there(stores: Stores) -> None:
    found: set[tuple[str, str, str]] = set()
    for name in names(stores):
        for index, text in rows(
            stores,
            f"SELECT list.name, sql FROM pragma_index_list('{name}') AS list JOIN sqlite_schema "
            "ON sqlite_schema.name = list.name AND type = 'index'",
        ):
            columns = ", ".join(
                row[0] for row in rows(stores, f"SELECT name FROM pragma_index_info('{index}')")
            )
            condition = " ".join((text or "").partition("WHERE")[2].split())
            found.add((name, columns, condition))
        key = rows(stores, f"SELECT name FROM pragma_table_info('{name}') WHERE pk ORDER BY pk")
        found.add((name, ", ".join(row[0] for row in key), ""))
    described = {(table, columns, only.strip("`")) for table, columns, only in table_of_indexes()}
    assert described == found - {("events", "id", "")}


def table_of_indexes() -> list[tuple[str, ...]]:
    return table("Indexes")


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
    assert table("meta")[0][3].split(", ") == ["instance", "epoch", "schema_version"]
    assert {row[0] for row in rows(stores, "SELECT key FROM meta")} == {"instance", "epoch", "schema_version"}
