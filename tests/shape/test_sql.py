"""SQL stands in the store only, and every state word in it is a member of an enum."""

from __future__ import annotations

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
NO_STATES = {"instance", "epoch", "schema_version", "bell", "commands"}
"""Quoted words in SQL that are no states: keys of ``meta``, a table. Paths into JSON are no words."""

COMPARED = re.compile(
    r"\b(?P<column>status|state|reason)\s*(?:=|<>|!=|IS(?: NOT)?|(?:NOT )?IN)\s*(?P<words>\([^()]*\)|'[^']*')"
)
QUOTED = re.compile(r"(?P<path>->>?\s*)?'(?P<word>[^']*)'")

INSIDE = [source for source in SOURCES if source.name.startswith("store/")]
OUTSIDE = [source for source in SOURCES if not source.name.startswith("store/")]


def test_there_is_no_sql_outside_the_store() -> None:
    found = [
        f"{source.name}:{line}: {text}"
        for source in OUTSIDE
        for line, text in source.texts()
        if STATEMENT.match(text)
    ]
    assert found == []


def test_no_driver_is_imported_outside_the_store() -> None:
    found = {source.name: source.imports() & DRIVERS for source in OUTSIDE}
    assert {name: drivers for name, drivers in found.items() if drivers} == {}


def test_the_store_has_statements_with_states() -> None:
    """Else the tests here would look at nothing."""
    texts = [text for source in INSIDE for _, text in source.texts() if STATEMENT.match(text)]
    assert len(texts) >= 10
    assert any(COMPARED.search(text) for text in texts)


def test_state_words_in_sql_are_members_of_an_enum() -> None:
    found = [
        f"{source.name}:{line}: {word}"
        for source in INSIDE
        for line, text in sql(source)
        for word in wrong_words(text)
    ]
    assert found == []


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("SELECT id FROM executions WHERE status IN ('pending', 'done')", ["status: done"]),
        ("UPDATE runners SET state = 'gone' WHERE id = ?", ["state: gone"]),
        ("UPDATE runners SET state = 'pending' WHERE id = ?", ["state: pending"]),
        ("UPDATE runners SET state = 'dead' WHERE state = 'alive'", []),
        ("SELECT CASE WHEN owner IS NULL THEN 'free' END", ["free"]),
        ("INSERT INTO meta VALUES ('epoch', '1')", []),
        ("SELECT value ->> 'id', 'skipt' FROM json_each(dag, '$.tasks')", ["skipt"]),
    ],
)
def test_a_wrong_state_word_is_found(text: str, wrong: list[str]) -> None:
    assert wrong_words(text) == wrong


def sql(source: Source) -> Iterable[tuple[int, str]]:
    """Texts that are SQL, or a part of it: quoted words between small pieces count too."""
    return ((line, text) for line, text in source.texts() if STATEMENT.match(text) or COMPARED.search(text))


def wrong_words(text: str) -> list[str]:
    """Words that are no state of the column that they are compared with, and words that are no state at all."""
    compared = {
        (match["column"], word) for match in COMPARED.finditer(text) for word in quoted(match["words"])
    }
    wrong = [f"{column}: {word}" for column, word in sorted(compared) if word not in WORDS[column]]
    known = set().union(*WORDS.values(), NO_STATES, (word for _, word in compared))
    return wrong + [word for word in quoted(text) if word not in known]


def quoted(text: str) -> list[str]:
    """The words in quotes; paths into JSON, numbers, letters and sentences are none."""
    found = [match["word"] for match in QUOTED.finditer(text) if not match["path"]]
    return [word for word in found if re.fullmatch(r"[a-z_]{2,}", word)]
