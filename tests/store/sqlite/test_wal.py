"""The write-ahead log: copied into the database in time, never at the cost of a reader."""

from __future__ import annotations

from pathlib import Path

import apsw
import pytest

from cloacina.store.sqlite.file import wal
from store.make import Stores, submit


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wal, "CHECKPOINT_PAGES", 50)
    monkeypatch.setattr(wal, "LARGE_PAGES", 200)
    monkeypatch.setattr(wal, "ALARM_PAGES", 300)


def fill(stores: Stores, kilobytes: int) -> None:
    stores.commit(submit(f"e{stores.number}", input="x" * kilobytes * 1000))


def length(path: Path) -> int:
    """The pages for which the log has room."""
    return path.with_name("test.db-wal").stat().st_size // 4120


def test_nothing_is_copied_within_a_commit_nor_before_it_is_due(stores: Stores, path: Path) -> None:
    stores.writer.checkpoint_if_due()
    before = path.stat().st_size
    fill(stores, 100)
    assert path.stat().st_size == before
    fill(stores, 150)
    assert path.stat().st_size == before, "a commit never copies"
    stores.writer.checkpoint_if_due()
    assert path.stat().st_size > before


def test_the_log_stays_short(stores: Stores, path: Path) -> None:
    for _ in range(30):
        fill(stores, 100)
        stores.writer.checkpoint_if_due()
    assert length(path) < 150


def test_a_reader_delays_the_copying_but_is_not_waited_for(
    stores: Stores, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    waits: list[int] = []
    raw: apsw.Connection = stores.writer._connection._raw  # type: ignore[attr-defined]
    reader = apsw.Connection(str(path))
    reader.execute("BEGIN")
    assert list(reader.execute("SELECT count(*) FROM executions")) == [(0,)]
    for _ in range(20):
        fill(stores, 100)
        raw.set_busy_handler(lambda count: bool(waits.append(count)))  # type: ignore[func-returns-value]
        stores.writer.checkpoint_if_due()
    assert length(path) > 400
    assert waits == []
    assert caplog.text.count("cannot be emptied: somebody has been reading") == 1
    assert list(reader.execute("SELECT count(*) FROM executions")) == [(0,)]
    reader.execute("COMMIT")
    reader.close()
    fill(stores, 250)
    stores.writer.checkpoint_if_due()
    assert length(path) == 0, "a large log is emptied once nobody reads from it"
    assert stores.get("e19")
    caplog.clear()
    for _ in range(5):
        fill(stores, 250)
        stores.writer.checkpoint_if_due()
    assert caplog.text == ""


def test_tries_that_a_reader_foils_are_not_repeated_with_every_group(
    stores: Stores, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[int] = []
    monkeypatch.setattr(wal.Wal, "_checkpoint", lambda self, mode: tried.append(mode))
    for _ in range(40):
        fill(stores, 20)
        stores.writer.checkpoint_if_due()
    assert 0 < tried.count(apsw.SQLITE_CHECKPOINT_PASSIVE) <= 40 * 10 // 50
