"""URLs and paths: what they lead to, and what is refused in one clear sentence."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cloacina.errors import ValidationError
from cloacina.store.location import Location, parse_location


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:///relative.db", "relative.db"),
        ("sqlite:///./folder/relative.db", "folder/relative.db"),
        ("sqlite:////absolute/path.db", "/absolute/path.db"),
        ("sqlite://./relative.db", "relative.db"),
        ("sqlite://../relative.db", "../relative.db"),
        ("SQLite:///relative.db", "relative.db"),
        ("sqlite:///with%20percent and space#.db", "with%20percent and space#.db"),
        ("relative.db", "relative.db"),
        ("./relative.db", "relative.db"),
        ("/absolute/path.db", "/absolute/path.db"),
        ("odd:name?.db", "odd:name?.db"),
        (Path("relative.db"), "relative.db"),
        (Path("sqlite:/odd"), "sqlite:/odd"),
    ],
)
def test_forms_of_a_location(
    url: str | Path, path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert parse_location(url) == Location(tmp_path / path)


@pytest.mark.parametrize("url", ["sqlite://:memory:", "sqlite:///:memory:", ":memory:"])
def test_in_memory(url: str) -> None:
    location = parse_location(url)
    assert location == location.resolved() == Location(None)
    assert (location.runners, location.wal, str(location)) == (None, None, ":memory:")


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("", "names no file"),
        ("   ", "names no file"),
        ("sqlite://", "names no file"),
        ("sqlite:///", "names no file"),
        ("sqlite:relative.db", "lacks its slashes"),
        ("sqlite:/relative.db", "lacks its slashes"),
        ("sqlite://relative.db", "names a host"),
        ("sqlite:///x.db?mode=ro", "query string"),
        ("postgres://localhost/db", "only an SQLite database is a file"),
        ("postgresql://localhost/db", "only an SQLite database is a file"),
        ("postgresql+asyncpg://localhost/db", "only an SQLite database is a file"),
        ("postgres:db", "only an SQLite database is a file"),
        ("mysql://localhost/db", "'mysql' is unknown"),
        ("sqlite+aiosqlite:///x.db", "is unknown"),
        ("file:x.db", "'file' is unknown"),
        ("file:///x.db", "'file' is unknown"),
        ("a\0b", "NUL"),
        (None, "not NoneType"),
        (b"x.db", "not bytes"),
        (5, "not int"),
    ],
)
def test_refused(url: str, says: str) -> None:
    with pytest.raises(ValidationError, match=says) as refusal:
        parse_location(url)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    "url",
    [
        "sqlite://user:s3cret@host/x.db",
        "sqlite://user:s3@cret@host/x.db",
        "sqlite:///x.db?password=s3cret",
        "postgresql://user:s3cret@host/db",
        "mysql://user:s3cret@host/db",
        "sqlite:user:s3cret@host",
        "sqlite:/user:s3cret@host",
    ],
)
def test_no_password_is_repeated(url: str) -> None:
    with pytest.raises(ValidationError) as refusal:
        parse_location(url)
    assert "s3" not in str(refusal.value) and "cret" not in str(refusal.value)


def test_neighbours_of_the_file(tmp_path: Path) -> None:
    location = Location(tmp_path / "x.db")
    assert (location.runners, location.wal, location.shm) == (
        tmp_path / "x.db-runners", tmp_path / "x.db-wal", tmp_path / "x.db-shm",
    )  # fmt: skip


def test_links_are_followed(tmp_path: Path) -> None:
    (tmp_path / "link.db").symlink_to(tmp_path / "real.db")
    (tmp_path / "folder").symlink_to(tmp_path)
    assert Location(tmp_path / "folder" / "link.db").resolved() == Location(tmp_path / "real.db")


def test_what_cannot_be_a_database_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for name, says in [
        (".", "is a folder"),
        ("pipe", "not an ordinary file"),
        ("missing/x.db", "no folder .*missing"),
        ("file/x.db", "no folder"),
        ("loop/x.db", "symbolic links"),
        ("n" * 300, "too long"),
    ]:
        with pytest.raises(ValidationError, match=says):
            Location(tmp_path / name).resolved()
