"""The database file: its rights, its schema, and what is said when it cannot be used."""

from __future__ import annotations

import contextlib
import multiprocessing
import multiprocessing.synchronize
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import apsw
import pytest

from cloacina.errors import (
    ForeignConnection,
    SchemaTooNew,
    StoreBusy,
    StoreCorrupt,
    StoreError,
    StoreUnavailable,
)
from cloacina.model.status import ExecutionStatus, Reason
from cloacina.store.location import parse_location
from cloacina.store.migrations import MIGRATIONS
from cloacina.store.rows import ExecutionFilter, Group
from cloacina.store.sqlite.database import Database
from cloacina.store.sqlite.file import connection
from cloacina.store.sqlite.file.prepare import APPLICATION_ID
from store.make import ME, Stores, claim, runner, submit


def sql(path: Path, text: str) -> list[tuple[object, ...]]:
    """Run SQL on a database that is not open here, as its owner might."""
    connection = apsw.Connection(str(path))
    try:
        return list(connection.execute(text))
    finally:
        connection.close()


def close(stores: Stores) -> None:
    stores.reader.close()
    stores.writer.close()


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077, 0o277])
def test_only_the_owner_may_read_and_write(path: Path, open_stores: Callable[[], Stores], umask: int) -> None:
    before = os.umask(umask)
    try:
        open_stores().writer.register_runner(runner())
    finally:
        os.umask(before)
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    assert modes == {"test.db": 0o600, "test.db-wal": 0o600, "test.db-shm": 0o600}


def test_one_thread_at_a_time_makes_files(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else closing the new file drops the locks of a connection that another thread has to it already."""
    held: list[bool] = []
    monkeypatch.setattr(os, "fchmod", lambda descriptor, mode: held.append(connection._creating.locked()))
    database.writer().close()
    assert held == [True]


def test_a_closed_database_is_one_file_and_keeps_everything(
    path: Path, open_stores: Callable[[], Stores]
) -> None:
    stores = open_stores()
    stores.writer.register_runner(runner())
    stores.commit(submit("e1", "a"))
    close(stores)
    assert [file.name for file in path.parent.iterdir()] == ["test.db"]
    assert open_stores().get("e1").attempts


def test_the_settings_of_a_connection(stores: Stores, path: Path) -> None:
    writer = stores.writer._connection  # type: ignore[attr-defined]
    pragmas = {
        "journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "trusted_schema": 0,
        "mmap_size": 0, "wal_autocheckpoint": 0, "application_id": APPLICATION_ID,
        "user_version": len(MIGRATIONS),
    }  # fmt: skip
    assert {name: writer.value(f"PRAGMA {name}") for name in pragmas} == pragmas
    meta = dict(writer.rows("SELECT key, value FROM meta"))
    assert meta.keys() == {"instance", "epoch", "schema_version"}
    assert (meta["epoch"], meta["schema_version"]) == ("1", str(len(MIGRATIONS)))
    assert len(meta["instance"]) == 32


def test_the_reader_cannot_write(stores: Stores) -> None:
    reader = stores.reader._connection  # type: ignore[attr-defined]
    with pytest.raises(StoreUnavailable, match="read-only"):
        reader.rows("DELETE FROM runners")


def foreign(path: Path) -> None:
    """Somebody's database, left by a process that died."""
    connection = apsw.Connection(str(path))
    list(connection.execute("PRAGMA journal_mode = wal; CREATE TABLE mine (a); INSERT INTO mine VALUES (1)"))
    connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
    connection.close()


def other_application(path: Path) -> None:
    sql(path, "PRAGMA application_id = 7")


def newer(path: Path) -> None:
    sql(path, f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {len(MIGRATIONS) + 1}")


def text_file(path: Path) -> None:
    path.write_text("Dear diary, today I was not a database.\n" * 100)


def short_file(path: Path) -> None:
    path.write_text("x")


def damaged(path: Path) -> None:
    database = Database(parse_location(path))
    writer = database.writer()
    writer.register_runner(runner())
    for number in range(1, 40):
        writer.commit(Group(ME, number, (submit(f"e{number}", "a", input="x" * 900),)))
    writer.close()
    content = bytearray(path.read_bytes())
    for page in range(3, len(content) // 4096):
        content[page * 4096 : page * 4096 + 200] = b"\xff" * 200
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("make", "error", "says"),
    [
        (foreign, StoreCorrupt, "belongs to another program"),
        (other_application, StoreCorrupt, "belongs to another program"),
        (newer, SchemaTooNew, "upgrade cloacina"),
        (text_file, StoreCorrupt, "is not an SQLite database"),
        (short_file, StoreCorrupt, "belongs to another program"),
        (damaged, StoreCorrupt, "is damaged"),
    ],
)
def test_a_file_that_is_refused_is_named_and_left_as_it_is(
    path: Path, database: Database, make: Callable[[Path], None], error: type[StoreError], says: str
) -> None:
    make(path)
    content = path.read_bytes()
    with pytest.raises(error, match=says) as refusal:
        database.writer()
    assert str(path) in str(refusal.value) and "\n" not in str(refusal.value)
    assert path.read_bytes() == content
    assert not refusal.value.retryable


def test_an_empty_file_becomes_a_database(path: Path, open_stores: Callable[[], Stores]) -> None:
    path.touch()
    assert open_stores().reader.pending() == 0


def as_nobody(action: Callable[[], object]) -> str:
    """What ``action`` raises in a child process that has the rights of nobody in particular."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            if os.getuid() == 0:
                os.setgid(65534)
                os.setuid(65534)
            action()
            message = "nothing was raised"
        except BaseException as error:
            message = f"{type(error).__name__}: {error}"
        os.write(write, message.encode())
        os._exit(0)
    os.close(write)
    os.waitpid(child, 0)
    with os.fdopen(read) as pipe:
        return pipe.read()


@pytest.fixture
def open_folder(tmp_path: Path) -> Path:
    """A folder that everybody can reach."""
    for folder in (tmp_path, *tmp_path.parents):
        if folder.owner() == Path.home().owner() and not folder.stat().st_mode & 0o001:
            folder.chmod(folder.stat().st_mode | 0o011)
    return tmp_path


def test_a_file_that_may_only_be_read(
    open_folder: Path, path: Path, open_stores: Callable[[], Stores]
) -> None:
    close(open_stores())
    path.chmod(0o444)
    message = as_nobody(lambda: Database(parse_location(path)).writer())
    assert message.startswith("StoreUnavailable: ") and "is read-only" in message and str(path) in message


def test_a_file_that_may_not_be_read(
    open_folder: Path, path: Path, open_stores: Callable[[], Stores]
) -> None:
    close(open_stores())
    path.chmod(0o000)
    message = as_nobody(lambda: Database(parse_location(path)).writer())
    assert message.startswith("StoreUnavailable: ") and "cannot be opened" in message and str(path) in message


def test_a_folder_that_may_not_be_written(open_folder: Path, path: Path) -> None:
    open_folder.chmod(0o555)
    message = as_nobody(lambda: Database(parse_location(path)).writer())
    assert (
        message.startswith("StoreUnavailable: ") and "cannot be created" in message and str(path) in message
    )


def open_at_once(path: Path, barrier: multiprocessing.synchronize.Barrier, name: str) -> None:
    barrier.wait()
    writer = Database(parse_location(path)).writer()
    writer.register_runner(runner(name))
    os._exit(0)  # without closing: the others never see the last connection go


def test_eight_processes_make_one_database(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    for turn in range(5):
        path = tmp_path / f"{turn}.db"
        barrier = context.Barrier(8)
        children = [context.Process(target=open_at_once, args=(path, barrier, f"r{n}")) for n in range(8)]
        for child in children:
            child.start()
        for child in children:
            child.join(60)
        assert [child.exitcode for child in children] == [0] * 8
        assert sql(path, "SELECT count(*) FROM runners") == [(8,)]
        assert sql(path, "SELECT count(*) FROM meta") == [(3,)]


def test_making_a_database_waits_for_others_that_do_the_same(
    path: Path, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    path.touch()
    other = apsw.Connection(str(path))
    assert list(other.execute("BEGIN; SELECT * FROM sqlite_schema")) == []
    paused: list[int] = []

    def pause(milliseconds: int) -> int:
        paused.append(milliseconds)
        if len(paused) == 3:
            other.execute("ROLLBACK")
        return milliseconds

    monkeypatch.setattr(apsw, "sleep", pause)
    database.writer().close()
    assert paused == [1, 2, 3]
    other.close()


def test_a_database_that_is_made_while_it_is_looked_at_is_not_a_stranger_s(
    path: Path, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody else makes the database between two of the looks at it, or would."""
    path.touch()
    monkeypatch.setattr(apsw, "sleep", lambda milliseconds: milliseconds)

    def interleave(connection: apsw.Connection) -> None:
        apsw.connection_hooks.remove(interleave)
        connection.exec_trace = trace

    def trace(cursor: apsw.Cursor, statement: str, bindings: object) -> bool:
        if "user_version" in statement:
            cursor.connection.exec_trace = None
            with contextlib.suppress(StoreBusy):
                Database(parse_location(path), busy_timeout=0).writer().close()
        return True

    apsw.connection_hooks.append(interleave)
    database.writer().close()
    assert interleave not in apsw.connection_hooks


def test_an_older_database_is_migrated_once(
    path: Path, open_stores: Callable[[], Stores], monkeypatch: pytest.MonkeyPatch
) -> None:
    stores = open_stores()
    stores.writer.register_runner(runner())
    stores.commit(submit("e1"))
    instance = stores.writer._connection.value("SELECT value FROM meta WHERE key = 'instance'")  # type: ignore[attr-defined]
    close(stores)
    next_ = "CREATE TABLE later (a TEXT) STRICT; UPDATE meta SET value = '2' WHERE key = 'epoch'"
    monkeypatch.setattr("cloacina.store.sqlite.file.prepare.MIGRATIONS", (*MIGRATIONS, next_))
    for _ in range(2):
        stores = open_stores()
        assert stores.get("e1")
        close(stores)
    meta = {"instance": instance, "epoch": "2", "schema_version": str(len(MIGRATIONS) + 1)}
    assert dict(sql(path, "SELECT key, value FROM meta")) == meta  # type: ignore[arg-type]


def test_a_migration_that_fails_changes_nothing(
    path: Path, open_stores: Callable[[], Stores], database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    close(open_stores())
    before = sql(path, "SELECT name, sql FROM sqlite_schema"), sql(path, "PRAGMA user_version")
    broken = "CREATE TABLE later (a TEXT); this is no SQL"
    monkeypatch.setattr("cloacina.store.sqlite.file.prepare.MIGRATIONS", (*MIGRATIONS, broken))
    with pytest.raises(StoreError, match="syntax error"):
        database.writer()
    assert (sql(path, "SELECT name, sql FROM sqlite_schema"), sql(path, "PRAGMA user_version")) == before


def test_a_lock_that_another_connection_holds_is_busy(stores: Stores, path: Path) -> None:
    other = apsw.Connection(str(path))
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreBusy, match="locked by another connection") as refusal:
        stores.commit(submit("e1"))
    assert refusal.value.retryable
    assert stores.reader.pending() == 0, "reading waits for nobody"
    other.execute("ROLLBACK")
    stores.commit(submit("e1"))
    other.close()


def test_another_connection_s_commit_is_seen(stores: Stores, open_stores: Callable[[], Stores]) -> None:
    assert not stores.writer.foreign_change()
    open_stores().writer.register_runner(runner("runner-2"))
    assert stores.writer.foreign_change()
    stores.commit()
    assert not stores.writer.foreign_change(), "one's own commits do not count"


def test_the_signature_of_the_log_changes_with_every_commit(stores: Stores, database: Database) -> None:
    seen = {database.wal_signature()}
    for number in range(5):
        stores.commit(submit(f"e{number}"))
        seen.add(database.wal_signature())
    assert len(seen) == 6
    close(stores)
    assert database.wal_signature() is None


def remove_wal(path: Path) -> None:
    path.with_name("test.db-wal").unlink()


def remove_shm(path: Path) -> None:
    path.with_name("test.db-shm").unlink()


def replace_wal(path: Path) -> None:
    wal = path.with_name("test.db-wal")
    wal.rename(wal.with_suffix(".old"))
    wal.touch()


def replace_database(path: Path) -> None:
    path.rename(path.with_suffix(".old"))
    path.touch()


def move_folder(path: Path) -> None:
    path.parent.rename(path.parent.with_suffix(".old"))


@pytest.mark.parametrize("harm", [remove_wal, remove_shm, replace_wal, replace_database, move_folder])
def test_a_commit_to_a_file_that_is_gone_is_not_acknowledged(
    stores: Stores, path: Path, harm: Callable[[Path], None]
) -> None:
    stores.commit(submit("e1"))
    harm(path)
    with pytest.raises(ForeignConnection, match="removed or replaced") as first:
        stores.commit(submit("e2"))
    assert str(path) in str(first.value) and not first.value.retryable
    for again in (
        lambda: stores.commit(submit("e3")),
        lambda: stores.writer.recover(ME, Reason.CRASH, 1),
    ):
        with pytest.raises(ForeignConnection):
            again()


def test_a_stopped_store_touches_nothing_when_it_closes(stores: Stores, path: Path) -> None:
    stores.commit(submit("e1"))
    replace_wal(path)
    with pytest.raises(ForeignConnection):
        stores.commit(submit("e2"))
    before = path.stat()
    close(stores)
    after = path.stat()
    assert (after.st_size, after.st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    assert path.with_name("test.db-wal").exists()


def test_damage_found_while_working_stops_the_store(stores: Stores, path: Path) -> None:
    stores.commit(*(submit(f"e{number}", "a", input="x" * 900) for number in range(50)))
    writer = stores.writer._connection  # type: ignore[attr-defined]
    writer.rows("PRAGMA wal_checkpoint(TRUNCATE)")
    overwrite = f"""
with open({str(path)!r}, "r+b") as file:
    size = file.seek(0, 2)
    for page in range(1, size // 4096):
        file.seek(page * 4096)
        file.write(b"\\xff" * 200)
"""
    subprocess.run([sys.executable, "-c", overwrite], check=True)
    writer.rows("PRAGMA shrink_memory")
    for _ in range(2):
        with pytest.raises(StoreCorrupt, match="restore a backup with cloacina.backup.restore"):
            stores.commit(submit("late"))


def test_use_after_close(stores: Stores) -> None:
    close(stores)
    close(stores)
    for use in (lambda: stores.commit(submit("e1")), lambda: stores.get("e1"), stores.reader.pending):
        with pytest.raises(StoreError, match="was closed") as refusal:
            use()
        assert not refusal.value.retryable


def test_an_execution_that_cannot_be_read_is_parked_by_whoever_claims_it(stores: Stores) -> None:
    """Else it would stop one runner after the other."""
    stores.commit(submit("e1", "a"), submit("e2", "a"), submit("e3", "a"))
    stores.writer.recover(ME, Reason.CRASH, 20)
    stores.writer.register_runner(runner("runner-2"))
    writer = stores.writer._connection  # type: ignore[attr-defined]
    writer.rows("UPDATE attempts SET state = 'nonsense' WHERE execution = 'e2'")
    group = Group("runner-2", 1, (), claim(5))
    assert [row.id for row in stores.writer.commit(group)] == ["e1", "e3"]
    (parked,) = stores.reader.executions(ExecutionFilter(status=(ExecutionStatus.PARKED,)))
    assert (parked.id, parked.owner) == ("e2", None)
    events = writer.rows("SELECT kind, detail FROM events WHERE execution = 'e2' ORDER BY id")
    assert events[-1][0] == "parked" and "nonsense" in events[-1][1]
    with pytest.raises(StoreCorrupt, match=r"execution.*e2.*nonsense"):
        stores.reader.execution("e2")
    writer.rows("UPDATE attempts SET state = 'nonsense' WHERE execution = 'e3'")
    assert [row.id for row in stores.writer.commit(group)] == ["e1"], "owned ones are read the same way"
    stores.writer.commit(Group("runner-2", 2, ()))
