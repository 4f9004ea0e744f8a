"""SQL stands in the store only, and every state word in it is a member of an enum."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable

import pytest

from cloacina.model.status import AttemptState, ExecutionStatus, Reason, RunnerState
from shape.source import SOURCES, Source

STATEMENT = re.compile(
    r"\s*(SELECT|INSERT|UPDATE|DELETE|REPLACE|CREATE|ALTER|DROP|PRAGMA|VACUUM|ATTACH|BEGIN|COMMIT|ROLLBACK|WITH)\b"
    r"(?=[\s;]|$)"
)
DRIVERS = {"apsw", "sqlite3", "asyncpg", "psycopg"}
WORDS: dict[str, set[str]] = {
    "status": {*ExecutionStatus},
    "state": {*AttemptState, *RunnerState},
    "reason": {*Reason},
}
NO_STATES = {"instance", "epoch", "schema_version"}
"""Quoted words in SQL that are no states: keys of ``meta``."""

COMPARED = re.compile(
    r"\b(?P<column>status|state|reason)\s*(?:=|<>|!=|IS(?: NOT)?|(?:NOT )?IN)\s*(?P<words>\([^()]*\)|'[^']*')"
)
QUOTED = re.compile(r"'([^']*)'")

inside = [source for source in SOURCES if source.name.startswith("store/")]
outside = [source for source in SOURCES if not source.name.startswith("store/")]


def name_of(source: Source) -> str:
    return source.name


@pytest.mark.parametrize("source", outside, ids=name_of)
def test_there_is_no_sql_outside_the_store(source: Source) -> None:
    assert [(line, text) for line, text in source.texts() if STATEMENT.match(text)] == []


@pytest.mark.parametrize("source", outside, ids=name_of)
def test_no_driver_is_imported_outside_the_store(source: Source) -> None:
    imported: set[str] = set()
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Import):
            imported |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add((node.module or "").partition(".")[0])
    assert imported.isdisjoint(DRIVERS)


def test_the_store_has_statements_with_states() -> None:
    """Else the tests here would look at nothing."""
    texts = [text for source in inside for _, text in source.texts() if STATEMENT.match(text)]
    assert len(texts) >= 10
    assert any(COMPARED.search(text) for text in texts)


@pytest.mark.parametrize("source", inside, ids=name_of)
def test_state_words_in_sql_are_members_of_an_enum(source: Source) -> None:
    assert [wrong for line, text in sql(source) for wrong in wrong_words(text)] == []


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("SELECT id FROM executions WHERE status IN ('pending', 'done')", ["status: done"]),
        ("UPDATE runners SET state = 'gone' WHERE id = ?", ["state: gone"]),
        ("UPDATE runners SET state = 'pending' WHERE id = ?", ["state: pending"]),
        ("UPDATE runners SET state = 'dead' WHERE state = 'alive'", []),
        ("SELECT CASE WHEN owner IS NULL THEN 'free' END", ["free"]),
        ("INSERT INTO meta VALUES ('epoch', '1')", []),
    ],
)
def test_a_wrong_state_word_is_found(text: str, wrong: list[str]) -> None:
    assert wrong_words(text) == wrong


def sql(source: Source) -> Iterable[tuple[int, str]]:
    """Texts that are SQL, or a part of it: quoted words between small pieces count too."""
    return ((line, text) for line, text in source.texts() if STATEMENT.match(text) or COMPARED.search(text))


def wrong_words(text: str) -> list[str]:
    wrong: list[str] = []
    compared: set[str] = set()
    for match in COMPARED.finditer(text):
        for word in QUOTED.findall(match["words"]):
            compared.add(word)
            if word not in WORDS[match["column"]]:
                wrong.append(f"{match['column']}: {word}")
    known = set().union(*WORDS.values(), NO_STATES, compared)
    return wrong + [word for word in QUOTED.findall(text) if re.search("[a-z]", word) and word not in known]
