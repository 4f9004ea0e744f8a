"""SQL on the engine's tables: beside a runner, elsewhere, and nothing but reading."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import apsw
import pytest

import cloacina
from cloacina.errors import (
    CloacinaError,
    ForeignConnection,
    SchemaTooNew,
    StoreCorrupt,
    StoreError,
    ValidationError,
)
from cloacina.store.migrations import MIGRATIONS
from cloacina.store.sqlite.copies.readonly import open_readonly
from cloacina.store.sqlite.file import connection
from cloacina.store.sqlite.file.prepare import APPLICATION_ID
from store.make import Stores, runner, submit
from support.clock import HandClock
from support.script import Script

IDS = "SELECT id FROM executions ORDER BY id"


def close(stores: Stores) -> None:
    stores.reader.close()
    stores.writer.close()


def sql(path: Path, text: str) -> None:
    stranger = apsw.Connection(str(path))
    list(stranger.execute(text))
    stranger.close()


def test_rows_come_with_the_names_of_their_columns(stores: Stores, path: Path) -> None:
    stores.commit(submit("e1", "a", "b", input='{"n": 7}'))
    with open_readonly(path) as database:
        assert database.query(
            "SELECT executions.id, count(*) AS tasks, input ->> 'n' AS n FROM executions "
            "JOIN attempts ON execution = executions.id WHERE executions.id = ? GROUP BY 1",
            ("e1",),
        ) == [{"id": "e1", "tasks": 2, "n": 7}]
        assert database.query("SELECT :a + :b AS sum", {"a": 1, "b": 2}) == [{"sum": 3}]
        assert database.query("SELECT id FROM executions WHERE id = 'e2'") == []


@pytest.mark.parametrize("form", ["sqlite:///{}", "{}"])
def test_it_is_exported_and_takes_what_a_runner_takes(stores: Stores, path: Path, form: str) -> None:
    with cloacina.open_readonly(form.format(path)) as database:
        assert database.query(IDS) == []
        assert database.schema_version == len(MIGRATIONS)


def test_every_query_sees_what_was_committed_before_it(stores: Stores, path: Path) -> None:
    with open_readonly(path) as database:
        for number in range(3):
            assert len(database.query(IDS)) == number
            stores.commit(submit(f"e{number}"))
        for _ in range(100):
            stores.writer.register_versions("r", [("w", str(_), "{}")], 1)
        stores.writer._connection.rows("PRAGMA wal_checkpoint(TRUNCATE)")  # type: ignore[attr-defined]
        assert path.with_name("test.db-wal").stat().st_size == 0, "between queries it holds nothing"
    stores.commit(submit("e9"))
    assert stores.get("e9")


@pytest.mark.parametrize("log", [False, True])
def test_a_database_that_nobody_has_open(stores: Stores, path: Path, log: bool) -> None:
    """With ``log`` its last process died, and the newest commits are in the log only."""
    stores.commit(submit("e1"))
    stores.reader.close()
    stores.writer._connection.close(checkpoint=not log)  # type: ignore[attr-defined]
    content = path.read_bytes()
    with open_readonly(path) as database:
        assert database.query(IDS) == [{"id": "e1"}]
    assert path.read_bytes() == content


def test_a_file_that_may_only_be_read(stores: Stores, path: Path) -> None:
    stores.commit(submit("e1"))
    close(stores)
    path.chmod(0o444)
    with open_readonly(path) as database:
        assert database.query(IDS) == [{"id": "e1"}]


WRITES = [
    "DELETE FROM executions",
    "INSERT INTO meta VALUES ('a', 'b')",
    "UPDATE executions SET status = 'failed'",
    "CREATE TABLE t (a)",
    "CREATE TEMP TABLE t (a)",
    "DROP TABLE executions",
    "ATTACH ':memory:' AS other",
    "PRAGMA user_version = 9",
    "PRAGMA query_only = OFF",
    "PRAGMA journal_mode = DELETE",
    "PRAGMA wal_checkpoint",
    "BEGIN",
    "SAVEPOINT s",
    "VACUUM",
    "VACUUM INTO '/tmp/never.db'",
    "ANALYZE",
    "REINDEX",
    "EXPLAIN DELETE FROM executions",
    "WITH gone AS (SELECT 1) DELETE FROM executions",
]


@pytest.mark.parametrize("text", WRITES)
def test_what_does_not_only_read_is_refused(stores: Stores, path: Path, text: str) -> None:
    stores.commit(submit("e1"))
    with open_readonly(path) as database:
        with pytest.raises(ValidationError, match="only statements that read"):
            database.query(text)
        assert database.query(IDS) == [{"id": "e1"}]
    stores.commit(submit("e2"))


@pytest.mark.parametrize(
    ("text", "params", "says"),
    [
        ("SELECT * FROM nowhere", (), "no such table: nowhere"),
        ("SELECT missing FROM executions", (), "no such column: missing"),
        ("SELEKT 1", (), 'near "SELEKT": syntax error'),
        ("SELECT ?", (), "bindings"),
        ("SELECT :a", {}, "no value"),
        ("SELECT ?", ("\ud800",), "surrogates"),
        ("SELECT ?", (1 << 70,), "too (large|big)"),
        ("SELECT ?", (object(),), "binding"),
        ("SELECT json('{')", (), "malformed JSON"),
        ("SELECT 1; SELECT 2", (), "one statement at a time"),
        ("SELECT 1; DELETE FROM executions", (), "one statement at a time|only statements that read"),
        ("SELECT id, id FROM executions JOIN attempts ON execution = id", (), "two columns are named 'id'"),
    ],
)
def test_sql_that_is_wrong_is_refused_with_what_sqlite_says(
    stores: Stores, path: Path, text: str, params: Any, says: str
) -> None:
    stores.commit(submit("e1", "a"))
    with open_readonly(path) as database:
        with pytest.raises(ValidationError, match=f"(?i){says}"):
            database.query(text, params)
        assert database.query(IDS) == [{"id": "e1"}]


@pytest.mark.parametrize(
    "text", ["PRAGMA user_version", "PRAGMA table_info(executions)", "EXPLAIN QUERY PLAN " + IDS]
)
def test_looks_at_the_schema_are_reading(stores: Stores, path: Path, text: str) -> None:
    with open_readonly(path) as database:
        assert database.query(text)


def test_a_query_that_takes_too_long_is_given_up(
    stores: Stores, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "TICK_STEPS", 1000)
    clock = HandClock()
    monotonic = clock.monotonic
    monkeypatch.setattr(clock, "monotonic", lambda: monotonic() + (clock.advance(1.0) or 0))
    for_ever = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) AS top FROM n"
    with open_readonly(path, timeout=40, clock=clock) as database:
        with pytest.raises(StoreError, match="longer than 40 s"):
            database.query(for_ever)
        assert database.query(for_ever.replace("n)", "n LIMIT 10)", 1)) == [{"top": 10}]


@pytest.mark.parametrize("timeout", [0, -1, "5", None, True, float("nan")])
def test_bad_timeouts(stores: Stores, path: Path, timeout: Any) -> None:
    with pytest.raises(ValidationError, match="timeout"):
        open_readonly(path, timeout=timeout)


def missing(path: Path) -> None:
    path.unlink()


def empty(path: Path) -> None:
    path.write_bytes(b"")


def foreign(path: Path) -> None:
    path.unlink()
    sql(path, "CREATE TABLE mine (a)")


def newer(path: Path) -> None:
    sql(path, f"PRAGMA user_version = {len(MIGRATIONS) + 1}")


@pytest.mark.parametrize(
    ("harm", "error", "says"),
    [
        (missing, ValidationError, "there is no database"),
        (empty, ValidationError, "is empty"),
        (foreign, StoreCorrupt, "belongs to another program"),
        (newer, SchemaTooNew, "upgrade cloacina"),
    ],
)
def test_what_cannot_be_read(
    stores: Stores, path: Path, harm: Callable[[Path], None], error: type[CloacinaError], says: str
) -> None:
    close(stores)
    harm(path)
    with pytest.raises(error, match=says) as refusal:
        open_readonly(path)
    assert str(path) in str(refusal.value)
    assert harm is not missing or not path.exists()


def test_memory_is_refused() -> None:
    with pytest.raises(ValidationError, match="belongs to its runner"):
        open_readonly(":memory:")


def test_an_older_schema_is_read_as_it_is(path: Path) -> None:
    sql(path, f"{MIGRATIONS[0]}; PRAGMA user_version = 1; PRAGMA application_id = {APPLICATION_ID}")
    with open_readonly(path) as database:
        assert (database.schema_version, database.query(IDS)) == (1, [])
        with pytest.raises(ValidationError, match="no such table: checkpoints .*schema version 1"):
            database.query("SELECT * FROM checkpoints")
        assert database.query("PRAGMA user_version") == [{"user_version": 1}]


def test_the_file_is_guarded_while_it_is_open(stores: Stores, path: Path) -> None:
    close(stores)
    with open_readonly(path), pytest.raises(ForeignConnection, match="open_readonly"):
        path.read_bytes()
    assert path.read_bytes()


def test_closing_it_takes_nothing_away_from_a_runner_beside_it(stores: Stores, path: Path) -> None:
    """A stranger's connection would drop the runner's locks here, and remove its log."""
    stores.commit(submit("e1"))
    open_readonly(path).close()
    holder = apsw.Connection(str(path))
    holder.set_busy_timeout(0)
    with pytest.raises(apsw.BusyError):
        list(holder.execute("PRAGMA journal_mode = DELETE"))
    holder.close()
    stores.commit(submit("e2"))
    assert path.with_name("test.db-wal").stat().st_size


def test_several_threads_take_turns(stores: Stores, path: Path) -> None:
    stores.commit(*(submit(f"e{number}") for number in range(200)))
    found: list[int] = []
    with open_readonly(path) as database:
        threads = [threading.Thread(target=lambda: found.append(len(database.query(IDS)))) for _ in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
    assert found == [200] * 20


def test_a_closed_one_says_so(stores: Stores, path: Path) -> None:
    database = open_readonly(path)
    database.close()
    database.close()
    with pytest.raises(StoreError, match="closed"):
        database.query(IDS)


def test_another_process_reads_beside_a_runner(stores: Stores, path: Path, script: Script) -> None:
    stores.commit(submit("e1"))
    stores.writer.register_runner(runner("runner-2"))
    ended = script(f"""
        import cloacina
        with cloacina.open_readonly({os.fspath(path)!r}) as database:
            print(database.query({IDS!r}))
    """)
    assert (ended.stdout.strip(), ended.stderr) == ("[{'id': 'e1'}]", "")
    stores.commit(submit("e2"))
