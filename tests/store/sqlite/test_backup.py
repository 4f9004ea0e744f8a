"""Backups: whole, consistent, for their owner only; what is refused, and that nothing half is left."""

from __future__ import annotations

import errno
import itertools
import os
import resource
import signal
import stat
from collections.abc import Callable
from pathlib import Path

import apsw
import pytest

from cloacina.errors import RunnerClosed, StoreBusy, StoreCorrupt, StoreUnavailable, ValidationError
from cloacina.store.location import Location, parse_location
from cloacina.store.sqlite.copies import backup, partial
from cloacina.store.sqlite.copies.backup import back_up, payload_files
from cloacina.store.sqlite.database import Database
from cloacina.store.sqlite.file import connection
from store.make import Stores, runner, submit


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy of little is looked after as often as one of much."""
    monkeypatch.setattr(connection, "TICK_STEPS", 100)
    monkeypatch.setattr(backup, "SYNC_BYTES", 100_000)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """Where the backup goes: a folder of its own."""
    (tmp_path / "backups").mkdir()
    return tmp_path / "backups" / "copy.db"


def make(
    path: Path, copy: Path, *, overwrite: bool = False, go_on: Callable[[], bool] = lambda: True
) -> Path:
    return back_up(Location(path), Location(copy), overwrite=overwrite, go_on=go_on)


def rows(path: Path, text: str) -> list[tuple[object, ...]]:
    """What a stranger reads from a file that nobody else has open."""
    stranger = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        return list(stranger.execute(text))
    finally:
        stranger.close()


def much(stores: Stores) -> None:
    """More than fits in a connection's memory."""
    stores.commit(*(submit(f"e{number}", input="x" * 100_000) for number in range(120)))


def names(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


def test_a_backup_is_one_file_with_all_that_was_committed(stores: Stores, path: Path, copy: Path) -> None:
    stores.commit(submit("e1", "a", input="x" * 9000))
    before = os.umask(0)
    try:
        assert make(path, copy) == copy
    finally:
        os.umask(before)
    stores.commit(submit("e2", "a"))
    assert names(copy.parent) == ["copy.db"]
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    assert rows(copy, "SELECT id, task FROM executions JOIN attempts ON execution = id") == [("e1", "a")]
    assert rows(copy, "PRAGMA integrity_check") == [("ok",)]
    assert rows(copy, "PRAGMA journal_mode") == [("delete",)], (
        "else it could not be read from a read-only disk"
    )
    assert rows(copy, "SELECT key, value FROM meta") == rows(path, "SELECT key, value FROM meta")
    assert names(copy.parent) == ["copy.db"]


def test_a_backup_can_be_opened_as_it_is(stores: Stores, path: Path, copy: Path) -> None:
    stores.commit(submit("e1", "a"))
    database = Database(parse_location(make(path, copy)))
    other = Stores(database.writer(), database.reader())
    assert other.get("e1").attempts
    other.reader.close()
    other.writer.close()


def test_free_pages_are_left_behind(stores: Stores, path: Path, copy: Path) -> None:
    for number in range(50):
        stores.commit(submit(f"e{number}", input="x" * 100_000))
    stores.writer._connection.rows("DELETE FROM executions")  # type: ignore[attr-defined]
    stores.writer._connection.rows("PRAGMA wal_checkpoint(TRUNCATE)")  # type: ignore[attr-defined]
    make(path, copy)
    assert path.stat().st_size > 5_000_000 > 1_000_000 > copy.stat().st_size


def test_writing_goes_on_while_a_backup_is_made_and_is_not_in_it(
    stores: Stores, path: Path, copy: Path
) -> None:
    for number in range(300):
        stores.commit(submit(f"e{number:03}", "a", input="x" * 3000))
    written: list[int] = []

    def write() -> bool:
        written.append(stores.number)
        stores.commit(submit(f"later{stores.number}", "a"))
        return True

    make(path, copy, go_on=write)
    assert len(written) > 3
    assert rows(copy, "SELECT count(*), max(id) FROM executions") == [(300, "e299")]
    assert rows(copy, "SELECT count(*) FROM attempts") == [(300,)]
    assert stores.get(f"later{written[-1]}")


def test_the_copy_is_brought_to_the_disk_in_parts(
    stores: Stores, path: Path, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    monkeypatch.setattr(backup, "sync", lambda path: sizes.append(path.stat().st_size))
    much(stores)
    make(path, copy)
    assert len(sizes) > 3 and all(b - a >= 100_000 for a, b in itertools.pairwise(sizes))


@pytest.mark.parametrize(
    ("place", "says"),
    [
        ("test.db", "in use"),
        ("test.db-wal", "in use"),
        ("link.db", "in use"),
        ("there.db", "exists: give another path, or overwrite=True"),
        ("missing/copy.db", "there is no folder"),
        ("backups", "is a folder"),
        (":memory:", "in memory"),
    ],
)
@pytest.mark.parametrize("overwrite", [False, True])
def test_what_must_not_be_written_is_refused(
    stores: Stores, path: Path, copy: Path, place: str, says: str, overwrite: bool
) -> None:
    (path.parent / "there.db").write_text("something")
    (path.parent / "link.db").symlink_to(path)
    target = parse_location(place if place == ":memory:" else path.parent / place)
    if place == "there.db" and overwrite:
        back_up(Location(path), target, overwrite=True)
        assert rows(path.parent / place, "SELECT count(*) FROM executions") == [(0,)]
        return
    with pytest.raises(ValidationError, match=says):
        back_up(Location(path), target, overwrite=overwrite)
    assert (path.parent / "there.db").read_text() == "something"
    stores.commit(submit("e1"))


def test_a_database_that_is_open_here_is_not_overwritten(stores: Stores, path: Path, copy: Path) -> None:
    other = Database(parse_location(copy)).writer()
    with pytest.raises(ValidationError, match="in use"):
        make(path, copy, overwrite=True)
    other.register_runner(runner("r"))
    other.close()


def test_what_lay_beside_an_older_backup_is_not_played_back_into_the_new_one(
    stores: Stores, path: Path, copy: Path
) -> None:
    """A log by the name of the new file would become a part of it."""
    other = apsw.Connection(str(copy))
    list(other.execute("PRAGMA journal_mode = wal; CREATE TABLE t (a); INSERT INTO t VALUES (1)"))
    other.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
    other.close()
    assert copy.with_name("copy.db-wal").stat().st_size
    stores.commit(submit("e1", "a"))
    make(path, copy, overwrite=True)
    assert names(copy.parent) == ["copy.db"]
    assert rows(copy, "SELECT id FROM executions") == [("e1",)]


def test_a_backup_that_is_given_up_leaves_nothing(stores: Stores, path: Path, copy: Path) -> None:
    with pytest.raises(RunnerClosed, match="given up"):
        make(path, copy, go_on=lambda: False)
    assert names(copy.parent) == []
    stores.commit(submit("e1"))


def fails(error: Exception) -> Callable[..., None]:
    def raise_(*_: object) -> None:
        raise error

    return raise_


@pytest.mark.parametrize("where", ["check", "finish", "sync"])
@pytest.mark.parametrize(
    ("error", "says"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "the disk is full; free some space"),
        (apsw.FullError("database or disk is full"), "the disk is full; free some space"),
        (OSError(errno.EIO, "Input/output error"), "Input/output error"),
        (PermissionError(errno.EACCES, "Permission denied"), "Permission denied"),
    ],
)
def test_a_disk_that_fails_is_named_and_keeps_nothing_half(
    stores: Stores,
    path: Path,
    copy: Path,
    monkeypatch: pytest.MonkeyPatch,
    where: str,
    error: Exception,
    says: str,
) -> None:
    make(path, copy)
    much(stores)
    monkeypatch.setattr(backup, where, fails(error))
    with pytest.raises(StoreUnavailable, match=says) as refusal:
        make(path, copy, overwrite=True)
    assert f"backup {copy} was not made" in str(refusal.value)
    assert names(copy.parent) == ["copy.db"]
    assert rows(copy, "SELECT count(*) FROM executions") == [(0,)], "the older backup is still there"


def test_a_full_disk(stores: Stores, path: Path, copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit is the process's own on the size of a file, which looks the same to SQLite."""
    for number in range(100):
        stores.commit(submit(f"e{number}", input="x" * 10_000))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, before[1]))
    try:
        with pytest.raises(StoreUnavailable, match=f"backup {copy} was not made"):
            make(path, copy)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert names(copy.parent) == []
    assert make(path, copy)


def test_a_damaged_database_gives_no_backup(stores: Stores, path: Path, copy: Path) -> None:
    for number in range(200):
        stores.commit(submit(f"e{number}", "a", input="x" * 900))
    stores.writer._connection.rows("PRAGMA wal_checkpoint(TRUNCATE)")  # type: ignore[attr-defined]
    stores.reader.close()
    stores.writer.close()
    content = bytearray(path.read_bytes())
    for page in range(8, len(content) // 4096):
        content[page * 4096 : page * 4096 + 200] = b"\xff" * 200
    path.write_bytes(content)
    with pytest.raises(StoreCorrupt, match="damaged"):
        make(path, copy)
    assert names(copy.parent) == []


def test_two_backups_to_one_place_do_not_mix(stores: Stores, path: Path, copy: Path) -> None:
    with partial.partial(copy), pytest.raises(StoreBusy, match="is being written by another process"):
        make(path, copy)
    assert names(copy.parent) == []
    assert make(path, copy)


def test_what_a_dead_process_left_is_taken_over(stores: Stores, path: Path, copy: Path) -> None:
    """Above all a journal, which SQLite would play back into the new file."""
    left = copy.with_name("copy.db.partial")
    for file in (left, left.with_name(f"{left.name}-journal"), left.with_name(f"{left.name}-wal")):
        file.write_bytes(b"half of something" * 1000)
    assert not partial.being_made(copy)
    with partial.partial(copy) as made:
        assert partial.being_made(copy)
        assert names(copy.parent) == [made.name] and made.stat().st_size == 0
    left.write_bytes(b"half of a database" * 1000)
    make(path, copy)
    assert names(copy.parent) == ["copy.db"]
    assert rows(copy, "PRAGMA integrity_check") == [("ok",)]


def test_payload_files_come_along_and_old_ones_go(stores: Stores, path: Path, copy: Path) -> None:
    folder = payload_files(path)
    folder.put("e1", "a" * 64, b"first")
    make(path, copy)
    folder.remove(["e1"])
    folder.put("e2", "b" * 64, b"second")
    make(path, copy, overwrite=True)
    copies = payload_files(copy)
    assert names(copies.path) == ["e2"]
    assert copies.get("e2", "b" * 64, 100) == b"second"


def test_payload_files_of_a_backup_that_failed_do_not_stay(
    stores: Stores, path: Path, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    payload_files(path).put("e1", "a" * 64, b"first")
    monkeypatch.setattr(backup, "finish", fails(OSError(errno.EIO, "Input/output error")))
    with pytest.raises(StoreUnavailable):
        make(path, copy)
    assert names(copy.parent) == []
