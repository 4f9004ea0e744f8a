"""Restoring: the backup becomes the database of a new epoch, and nobody is alive in it."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path

import apsw
import pytest

from cloacina.errors import (
    CloacinaError,
    ForeignConnection,
    SchemaTooNew,
    StoreBusy,
    StoreCorrupt,
    StoreUnavailable,
    ValidationError,
)
from cloacina.model.status import AttemptState, ExecutionStatus, Reason
from cloacina.store.location import Location, parse_location
from cloacina.store.migrations import MIGRATIONS
from cloacina.store.rows import Group, Item
from cloacina.store.sqlite.copies import partial, restore
from cloacina.store.sqlite.copies.backup import back_up, payload_files
from cloacina.store.sqlite.copies.restore import Restored
from cloacina.store.sqlite.database import Database
from cloacina.store.sqlite.file.connection import Connection
from cloacina.store.sqlite.file.prepare import APPLICATION_ID
from store.make import Stores, claim, end, new, progress, runner, submit


@pytest.fixture
def copy(stores: Stores, path: Path) -> Path:
    """A backup with an execution that has ended, one that runs and one that waits; more came after it."""
    stores.commit(submit("done", "a"), submit("runs", "a", "b"))
    stores.commit(Item("done", ends=[end("done", "a")], progress=progress("done")))
    stores.writer.insert_unowned([new("waits")])
    copy = path.with_name("copy.db")
    back_up(Location(path), Location(copy), overwrite=False)
    stores.commit(submit("later", "a"))
    return copy


def put_back(copy: Path, path: Path, refuse_live: Callable[[], None] = lambda: None) -> Restored:
    return restore.restore(Location(copy), Location(path), 77, refuse_live)


def close(stores: Stores) -> None:
    stores.reader.close()
    stores.writer.close()


def rows(path: Path, text: str) -> list[tuple[object, ...]]:
    """What a stranger reads, or does."""
    stranger = apsw.Connection(str(path))
    try:
        return list(stranger.execute(text))
    finally:
        stranger.close()


def names(path: Path) -> list[str]:
    return sorted(file.name for file in path.parent.iterdir())


def test_the_database_is_what_it_was_and_nobody_is_alive_in_it(
    stores: Stores, path: Path, copy: Path, open_stores: Callable[[], Stores]
) -> None:
    close(stores)
    done = put_back(copy, path)
    assert done == Restored(2, path.with_name("test.db.before-restore-1"))
    assert names(path) == ["copy.db", "test.db", "test.db.before-restore-1"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    again = open_stores()
    assert again.reader.execution("later") is None
    assert again.get("done").status is ExecutionStatus.COMPLETED
    ran = again.get("runs")
    assert (ran.owner, ran.status) == (None, ExecutionStatus.RUNNING)
    assert {(row.state, row.reason, row.finished) for row in ran.attempts} == {
        (AttemptState.INTERRUPTED, Reason.LOST_LEASE, 77)
    }, "which is no crash"
    assert again.reader.runners() == []
    again.writer.register_runner(runner("runner-2"))
    taken = again.writer.commit(Group("runner-2", 1, (), claim(10)))
    assert {row.id for row in taken} == {"runs", "waits"}


def test_the_old_database_is_kept_whole(stores: Stores, path: Path, copy: Path) -> None:
    close(stores)
    for number in (1, 2):
        kept = put_back(copy, path).kept
        assert kept == path.with_name(f"test.db.before-restore-{number}")
    first = path.with_name("test.db.before-restore-1")
    assert rows(first, "SELECT count(*) FROM executions") == [(4,)]
    assert rows(first, "PRAGMA integrity_check") == [("ok",)]


def test_the_epoch_is_above_that_of_both(stores: Stores, path: Path, copy: Path) -> None:
    close(stores)
    assert [put_back(copy, path).epoch for _ in range(3)] == [2, 3, 4]
    rows(copy, "UPDATE meta SET value = '9' WHERE key = 'epoch'")
    assert put_back(copy, path).epoch == 10
    assert rows(path, "SELECT value FROM meta WHERE key = 'epoch'") == [("10",)]


def test_a_backup_can_be_put_where_nothing_is(path: Path, copy: Path) -> None:
    place = path.with_name("elsewhere.db")
    assert put_back(copy, place) == Restored(2, None)
    assert rows(place, "SELECT count(*) FROM executions") == [(3,)]


def test_what_crashed_last_is_in_the_file_that_is_kept(stores: Stores, path: Path, copy: Path) -> None:
    """A process that died left commits in the log, which is emptied into the file before that is set aside."""
    stores.reader.close()
    stores.writer._connection.close(checkpoint=False)  # type: ignore[attr-defined]
    assert path.with_name("test.db-wal").stat().st_size
    kept = put_back(copy, path).kept
    assert kept and rows(kept, "SELECT count(*) FROM executions") == [(4,)]
    assert names(path) == ["copy.db", "test.db", "test.db.before-restore-1"]
    assert rows(path, "SELECT count(*) FROM executions") == [(3,)]


def test_a_damaged_database_is_set_aside_with_its_log(stores: Stores, path: Path, copy: Path) -> None:
    stores.writer._connection.rows("PRAGMA wal_checkpoint(TRUNCATE)")  # type: ignore[attr-defined]
    stores.writer.register_runner(runner("runner-2"))
    stores.reader.close()
    stores.writer._connection.close(checkpoint=False)  # type: ignore[attr-defined]
    path.write_bytes(b"\xff" * 50_000)
    wal = path.with_name("test.db-wal").read_bytes()
    assert wal
    done = put_back(copy, path)
    assert done.epoch == 2 and done.kept
    assert done.kept.read_bytes() == b"\xff" * 50_000
    assert done.kept.with_name(done.kept.name + "-wal").read_bytes() == wal
    assert rows(path, "PRAGMA integrity_check; SELECT count(*) FROM executions") == [("ok",), (3,)]


def test_a_log_without_a_database_is_not_played_back(stores: Stores, path: Path, copy: Path) -> None:
    stores.reader.close()
    stores.writer._connection.close(checkpoint=False)  # type: ignore[attr-defined]
    path.unlink()
    put_back(copy, path)
    assert rows(path, "SELECT count(*) FROM executions") == [(3,)]


@pytest.mark.parametrize("reading", [False, True])
def test_a_database_that_somebody_has_open_is_left_alone(
    stores: Stores, path: Path, copy: Path, reading: bool
) -> None:
    close(stores)
    other = apsw.Connection(str(path))
    list(other.execute("BEGIN; SELECT * FROM meta" if reading else "SELECT * FROM meta"))
    with pytest.raises(StoreBusy, match="is open in another program"):
        put_back(copy, path)
    other.close()
    assert rows(path, "SELECT count(*) FROM executions") == [(4,)]
    assert names(path) == ["copy.db", "test.db"]
    assert put_back(copy, path).kept


def test_a_runner_that_is_alive_is_asked_about_first(stores: Stores, path: Path, copy: Path) -> None:
    close(stores)
    before = path.read_bytes()

    def refuse() -> None:
        with pytest.raises(StoreUnavailable, match="is being restored"):
            Database(parse_location(path)).writer()
        raise StoreBusy("somebody is alive")

    with pytest.raises(StoreBusy, match="alive"):
        put_back(copy, path, refuse)
    assert path.read_bytes() == before and names(path) == ["copy.db", "test.db"]
    Database(parse_location(path)).writer().close()


def test_nobody_can_open_either_file_meanwhile(
    stores: Stores, path: Path, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even one who did not look whether the database is being restored."""
    close(stores)
    seen: list[CloacinaError] = []
    finish = partial.finish

    def try_to_open(made: Path, place: Path) -> None:
        monkeypatch.setattr("cloacina.store.sqlite.database.being_made", lambda path: False)
        try:
            Database(parse_location(path), busy_timeout=0.0).writer()
        except CloacinaError as error:
            seen.append(error)
        finish(made, place)

    monkeypatch.setattr(restore, "finish", try_to_open)
    put_back(copy, path)
    assert [type(error) for error in seen] == [StoreBusy]


@pytest.mark.parametrize("by_hand", [False, True])
def test_a_database_that_was_replaced_while_it_was_opened_is_not_used(
    stores: Stores, path: Path, copy: Path, monkeypatch: pytest.MonkeyPatch, by_hand: bool
) -> None:
    """Somebody looked before the restore began, and opens what is set aside then."""
    close(stores)
    set_up = Connection._set_up

    def late(self: Connection) -> None:
        monkeypatch.setattr(Connection, "_set_up", set_up)
        if by_hand:
            copy.replace(path)
        else:
            put_back(copy, path)
        set_up(self)

    monkeypatch.setattr(Connection, "_set_up", late)
    with pytest.raises(ForeignConnection, match="replaced while"):
        Database(parse_location(path)).writer()
    path.with_name("test.db-wal").unlink(missing_ok=True)
    assert rows(path, "SELECT count(*) FROM executions") == [(3,)]


def nothing(path: Path) -> None:
    path.unlink()


def empty(path: Path) -> None:
    path.write_bytes(b"")


def text(path: Path) -> None:
    path.write_text("Dear diary, today I was not a database.\n" * 100)


def foreign(path: Path) -> None:
    path.unlink()
    rows(path, "CREATE TABLE mine (a)")


def newer(path: Path) -> None:
    rows(path, f"PRAGMA user_version = {len(MIGRATIONS) + 1}")


def damaged(path: Path) -> None:
    content = bytearray(path.read_bytes())
    for page in range(2, len(content) // 4096):
        content[page * 4096 : page * 4096 + 200] = b"\xff" * 200
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("harm", "error", "says"),
    [
        (nothing, ValidationError, "there is no backup"),
        (empty, ValidationError, "is empty"),
        (text, StoreCorrupt, "is not an SQLite database"),
        (foreign, StoreCorrupt, "belongs to another program"),
        (newer, SchemaTooNew, "upgrade cloacina"),
        (damaged, StoreCorrupt, "damaged"),
    ],
)
def test_what_is_no_backup_replaces_nothing(
    stores: Stores,
    path: Path,
    copy: Path,
    harm: Callable[[Path], None],
    error: type[CloacinaError],
    says: str,
) -> None:
    close(stores)
    harm(copy)
    with pytest.raises(error, match=says) as refusal:
        put_back(copy, path)
    assert str(copy) in str(refusal.value)
    assert set(names(path)) - {"copy.db"} == {"test.db"}
    assert rows(path, "SELECT count(*) FROM executions") == [(4,)]
    Database(parse_location(path)).writer().close()


def test_a_database_of_another_program_is_not_replaced(path: Path, copy: Path) -> None:
    theirs = path.with_name("theirs.db")
    foreign_rows = rows(theirs, "CREATE TABLE mine (a); INSERT INTO mine VALUES (1); SELECT * FROM mine")
    with pytest.raises(ValidationError, match="belongs to another program"):
        put_back(copy, theirs)
    assert rows(theirs, "SELECT * FROM mine") == foreign_rows == [(1,)]


@pytest.mark.parametrize(
    "pair", [(None, "x.db"), ("x.db", None), ("copy.db", "copy.db"), ("copy.db", "link.db")]
)
def test_paths_that_cannot_be_meant(path: Path, copy: Path, pair: tuple[str | None, str | None]) -> None:
    path.with_name("link.db").symlink_to(copy)
    origin, place = (Location(None if name is None else path.with_name(name)) for name in pair)
    with pytest.raises(ValidationError):
        restore.restore(origin, place, 1, lambda: None)


def test_a_backup_of_an_older_schema_is_restored_as_it_is(stores: Stores, path: Path, copy: Path) -> None:
    """The runner that opens it brings it to its own schema."""
    close(stores)
    old = path.with_name("old.db")
    rows(
        old,
        f"{MIGRATIONS[0]}; INSERT INTO meta VALUES ('instance', 'i'), ('epoch', '4'), ('schema_version', '1'); "
        "INSERT INTO runners VALUES ('r', 'h', 1, 1, 'alive', 1); "
        f"PRAGMA user_version = 1; PRAGMA application_id = {APPLICATION_ID}",
    )
    assert put_back(old, path).epoch == 5
    assert rows(path, "PRAGMA user_version") == [(1,)]
    writer = Database(parse_location(path)).writer()
    assert writer._connection.rows("SELECT state FROM runners") == [("dead",)]
    writer.close()


@pytest.mark.parametrize("where", ["copy", "check", "_begin_epoch", "finish"])
def test_a_disk_that_fails_changes_nothing(
    stores: Stores, path: Path, copy: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    close(stores)

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(restore, where, fail)
    with pytest.raises(StoreUnavailable, match=r"was not restored .* disk is full"):
        put_back(copy, path)
    assert names(path) == ["copy.db", "test.db"]
    assert rows(path, "SELECT count(*) FROM executions") == [(4,)]


def test_a_file_system_without_second_names(
    stores: Stores, path: Path, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    close(stores)

    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    kept = put_back(copy, path).kept
    assert kept and rows(kept, "SELECT count(*) FROM executions") == [(4,)]
    monkeypatch.setattr(restore, "finish", refuse)
    with pytest.raises(StoreUnavailable):
        put_back(copy, path)
    assert rows(path, "SELECT count(*) FROM executions") == [(3,)]
    assert names(path) == ["copy.db", "test.db", "test.db.before-restore-1"]


def test_a_second_name_that_a_dead_restore_left_is_taken_away(stores: Stores, path: Path, copy: Path) -> None:
    close(stores)
    os.link(path, path.with_name("test.db.before-restore-1"))
    assert put_back(copy, path).kept == path.with_name("test.db.before-restore-1")
    assert path.with_name("test.db.before-restore-1").stat().st_nlink == 1


def test_payload_files_come_back(stores: Stores, path: Path, copy: Path) -> None:
    close(stores)
    payload_files(copy).put("done", "a" * 64, b"content")
    payload_files(path).put("later", "b" * 64, b"other")
    put_back(copy, path)
    assert payload_files(path).get("done", "a" * 64, 100) == b"content"
    assert payload_files(path).get("later", "b" * 64, 100) == b"other", (
        "the old database is kept, and needs it"
    )
