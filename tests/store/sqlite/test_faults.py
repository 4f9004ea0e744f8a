"""Every I/O call of every write fails once, in every way: the state is before or after, never between."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import apsw
import pytest

from cloacina.errors import Fenced, StoreError
from cloacina.model.status import AttemptState, Reason
from cloacina.store.location import parse_location
from cloacina.store.rows import Checkpoint, Command, Group, Item, Shift
from cloacina.store.sqlite.database import Database, SqliteWriter
from store.make import ME, claim, end, new, progress, runner, start, submit
from store.sqlite.faulty import FaultyVfs

SUBMIT = Group(ME, 3, tuple(submit(f"new{n}", "a", "b", input="x" * 3000) for n in range(4)))
SETTLE = Group(
    ME, 3,
    (
        Item("e1", ends=[end("e1", "a", delta="d" * 3000), end("e1", "b", state="failed", error="e" * 3000)],
             starts=[start("e1", "c")]),
        Item("e2", ends=[end("e2", "a")], progress=progress("e2", result="r" * 3000)),
    ),
)  # fmt: skip
CLAIM = Group(ME, 3, (), claim(10))
ASK = Group(
    ME, 3,
    (
        Item("e1", checkpoints=[Checkpoint("e1", "a", f"c{n}", '"' + "v" * 3000 + '"', 12) for n in range(3)]),
        Item("e2", shifts=[Shift("e2", "a", 1, AttemptState.RUNNING, AttemptState.DEFERRED)]),
    ),
)  # fmt: skip

OPERATIONS: dict[str, Callable[[SqliteWriter], object]] = {
    "submit": lambda store: store.commit(SUBMIT),
    "settle": lambda store: store.commit(SETTLE),
    "claim": lambda store: store.commit(CLAIM),
    "checkpoint and defer": lambda store: store.commit(ASK),
    "insert unowned": lambda store: store.insert_unowned([new(f"u{n}", input="x" * 3000) for n in range(4)]),
    "recover": lambda store: store.recover(ME, Reason.CRASH, 20),
    "cancel": lambda store: store.send(Command("c1", "w1", "cancel", 20)),
    "submit and checkpoint": lambda store: [
        store.commit(SUBMIT),
        store._connection.rows("PRAGMA wal_checkpoint(TRUNCATE)"),
    ],
}


@dataclass
class Bench:
    """A folder of databases that all begin as the same file, opened through the faulty file system."""

    folder: Path
    vfs: FaultyVfs
    number: int = 0

    def writer(self) -> SqliteWriter:
        """A writer on a fresh copy."""
        self.number += 1
        shutil.copyfile(self.folder / "origin.db", self.path)
        return self.reopen()

    def reopen(self) -> SqliteWriter:
        return Database(parse_location(self.path)).writer()

    @property
    def path(self) -> Path:
        return self.folder / f"{self.number}.db"


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    before = apsw.vfs_names()[0]
    writer = Database(parse_location(tmp_path / "origin.db")).writer()
    writer.register_runner(runner())
    writer.commit(Group(ME, 1, (submit("e1", "a", "b"), submit("e2", "a"), submit("e3", "a"))))
    writer.commit(Group(ME, 2, (submit("e4", "a"),)))
    writer.insert_unowned([new("w1"), new("w2")])
    writer.close()
    vfs = FaultyVfs("faulty", before)
    apsw.set_default_vfs("faulty")
    yield Bench(tmp_path, vfs)
    vfs.disarm()
    apsw.set_default_vfs(before)
    vfs.unregister()


def state(writer: SqliteWriter) -> list[object]:
    """Everything that is stored, but the order of rows."""
    connection = writer._connection
    assert connection.value("PRAGMA integrity_check") == "ok"
    tables = [name for (name,) in connection.rows("SELECT name FROM sqlite_schema WHERE type = 'table'")]
    return [(table, sorted(connection.rows(f"SELECT * FROM {table}"), key=repr)) for table in sorted(tables)]


def crash(writer: SqliteWriter) -> None:
    """End the connection as if the process had died: the log stays as it is."""
    writer._connection.close(checkpoint=False)


@pytest.mark.parametrize(
    ("kind", "for_ever", "torn"),
    [("EIO", False, False), ("EIO", True, False), ("EIO", False, True), ("ENOSPC", True, True)],
    ids=["once", "for ever", "torn", "disk full"],
)
@pytest.mark.parametrize("operation", OPERATIONS)
def test_before_or_after(bench: Bench, operation: str, kind: str, for_ever: bool, torn: bool) -> None:
    run = OPERATIONS[operation]
    writer = bench.writer()
    before = state(writer)
    run(writer)
    after = state(writer)
    writer.close()
    failed, number = 0, 0
    while True:
        writer = bench.writer()
        assert state(writer) == before  # also reads everything once, so that the cache is warm
        bench.vfs.arm(number, kind=kind, for_ever=for_ever, torn=torn)
        try:
            run(writer)
        except StoreError as error:
            failed += 1
            assert error.retryable, error
        finally:
            bench.vfs.disarm()
        reached = number < len(bench.vfs.calls)
        if number % 2:
            crash(writer)
            writer = bench.reopen()
        assert state(writer) in (before, after)
        run(writer)  # what the engine does after an unknown outcome
        assert state(writer) == after
        writer.close()
        if not reached:
            break
        number += 1
    assert failed >= 2, "no call has failed, so nothing was tested"


@pytest.mark.parametrize("for_ever", [False, True])
def test_opening_and_migrating(bench: Bench, for_ever: bool) -> None:
    failed, number = 0, 0
    while True:
        bench.number += 1
        bench.vfs.arm(number, kind="EIO", for_ever=for_ever, torn=True)
        try:
            bench.reopen().close()
        except StoreError:
            failed += 1
        finally:
            bench.vfs.disarm()
        reached = number < len(bench.vfs.calls)
        writer = bench.reopen()
        writer.register_runner(runner())
        assert len(state(writer)) == 9
        writer.close()
        if not reached:
            break
        number += 3 if for_ever else 1
    assert failed >= 10


def test_a_fenced_runner_stays_fenced_under_faults(bench: Bench) -> None:
    writer = bench.writer()
    writer.recover(ME, Reason.CRASH, 20)
    before = state(writer)
    for number in range(4):
        bench.vfs.arm(number, kind="EIO", for_ever=False, torn=False)
        with pytest.raises(StoreError):
            writer.commit(SETTLE)
        bench.vfs.disarm()
    with pytest.raises(Fenced):
        writer.commit(SETTLE)
    assert state(writer) == before
    writer.close()
