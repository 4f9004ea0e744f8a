"""The guard: nothing else in the process may open the files of a database that is open."""

from __future__ import annotations

import gc
import io
import os
import shutil
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import apsw
import pytest

from cloacina.errors import ForeignConnection
from cloacina.store.location import parse_location
from cloacina.store.sqlite.database import Database
from store.make import Stores, submit

WAYS: dict[str, Callable[[Path], object]] = {
    "sqlite3": lambda path: sqlite3.connect(path).close(),
    "sqlite3, as text": lambda path: sqlite3.connect(str(path)).close(),
    "sqlite3, as bytes": lambda path: sqlite3.connect(os.fsencode(path)).close(),
    "sqlite3, file URI": lambda path: sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True).close(),
    "sqlite3, URI with host": lambda path: sqlite3.connect(f"file://localhost{path}", uri=True).close(),
    "sqlite3, path.as_uri": lambda path: sqlite3.connect(path.as_uri(), uri=True).close(),
    "open": lambda path: open(path, "rb").close(),
    "Path.read_bytes": lambda path: path.read_bytes(),
    "os.open": lambda path: os.close(os.open(path, os.O_RDONLY)),
    "io.FileIO": lambda path: io.FileIO(path).close(),
    "copy": lambda path: shutil.copy(path, path.with_name("copy")),
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "test é.db"


@pytest.mark.parametrize("way", WAYS)
def test_refused_while_open_and_allowed_afterwards(stores: Stores, path: Path, way: str) -> None:
    stores.commit(submit("e1"))
    with pytest.raises(ForeignConnection) as refusal:
        WAYS[way](path)
    assert str(path) in str(refusal.value) and "through the runner" in str(refusal.value)
    stores.commit(submit("e2"))
    stores.writer.close()
    with pytest.raises(ForeignConnection):
        WAYS[way](path)  # the reader still has it
    stores.reader.close()
    WAYS[way](path)


@pytest.mark.parametrize("suffix", ["-wal", "-shm"])
def test_the_log_and_its_index_are_watched_too(database: Database, path: Path, suffix: str) -> None:
    writer = database.writer()
    with pytest.raises(ForeignConnection, match=suffix):
        open(f"{path}{suffix}", "rb").close()
    writer.close()


def test_every_name_of_the_file_is_refused(
    stores: Stores, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "symbolic").symlink_to(path)
    (tmp_path / "hard").hardlink_to(path)
    monkeypatch.chdir(tmp_path)
    for name in ("symbolic", "hard", path.name, f"../{tmp_path.name}/{path.name}"):
        with pytest.raises(ForeignConnection):
            open(name, "rb").close()


def test_other_files_and_other_databases_are_left_alone(stores: Stores, tmp_path: Path) -> None:
    (tmp_path / "other").write_text("free")
    assert (tmp_path / "other").read_text() == "free"
    sqlite3.connect(tmp_path / "other.db").close()
    sqlite3.connect(":memory:").close()
    sqlite3.connect("file::memory:?cache=shared", uri=True).close()
    with pytest.raises(FileNotFoundError):
        (tmp_path / "missing").open()
    with pytest.raises(ValueError, match="null"):
        os.open("a\0b", os.O_RDONLY)
    descriptor = os.open(tmp_path / "other", os.O_RDONLY)
    os.fdopen(descriptor).close()


def test_the_same_library_may_open_it(stores: Stores, path: Path) -> None:
    stores.commit(submit("e1"))
    connection = apsw.Connection(str(path))
    assert list(connection.execute("SELECT id FROM executions")) == [("e1",)]
    connection.close()
    stores.commit(submit("e2"))


def test_two_databases_in_one_process(stores: Stores, path: Path, tmp_path: Path) -> None:
    second = tmp_path / "second.db"
    writer = Database(parse_location(second)).writer()
    for file in (path, second):
        with pytest.raises(ForeignConnection, match=file.name):
            open(file, "rb").close()
    writer.close()
    open(second, "rb").close()
    with pytest.raises(ForeignConnection):
        open(path, "rb").close()


def test_a_store_that_was_forgotten_watches_no_longer(path: Path) -> None:
    writer = Database(parse_location(path)).writer()
    del writer
    gc.collect()
    open(path, "rb").close()


def test_opening_twice_opens_no_descriptor_on_the_file(stores: Stores, database: Database) -> None:
    """Creating the file again would close a descriptor on it, and drop the locks of the first store."""
    second = database.writer()
    second.close()
    stores.commit(submit("e1"))


def test_one_hook_is_installed_once(
    stores: Stores, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    added: list[object] = []
    monkeypatch.setattr(sys, "addaudithook", added.append)
    database.writer().close()
    assert added == []
