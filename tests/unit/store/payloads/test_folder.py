"""The folder of payload files: whole files for their owner only, none without warning, strays found."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from cloacina.errors import PayloadError, StoreUnavailable, ValidationError
from cloacina.store.payloads import Offload, PayloadPlace, Payloads, folder
from cloacina.store.payloads.folder import PayloadFolder
from support.payloads import id_made_at, place

BIG = os.urandom(5_000)


@pytest.fixture
def files(tmp_path: Path) -> PayloadFolder:
    return PayloadFolder(tmp_path / "c.db-payloads")


@pytest.fixture
def where(files: PayloadFolder) -> PayloadPlace:
    return place("x1", folder=files.path)


@pytest.fixture
def stored(where: PayloadPlace) -> bytes:
    made = Offload(over=1_000).encode(BIG, where)
    assert made is not None
    return made


def only_file(files: PayloadFolder) -> Path:
    (path,) = (path for path in files.path.rglob("*") if path.is_file())
    return path


def test_only_large_payloads_become_files(files: PayloadFolder, where: PayloadPlace) -> None:
    codec = Offload(over=len(BIG))
    assert codec.encode(BIG, where) is None
    assert not files.path.exists()
    assert codec.encode(BIG + b"1", where)
    assert only_file(files).parent.name == "x1"


def test_what_was_offloaded_comes_back(where: PayloadPlace, stored: bytes) -> None:
    assert len(stored) < 50
    assert Offload().decode(stored, where) == BIG


def test_a_missing_file_is_named(files: PayloadFolder, where: PayloadPlace, stored: bytes) -> None:
    path = only_file(files)
    path.unlink()
    with pytest.raises(PayloadError, match=f"its file {path} is missing: put it back from a backup"):
        Offload().decode(stored, where)


@pytest.mark.parametrize("damage", [BIG[:-1], BIG + b"1", b"", BIG[:100] + b"!" + BIG[101:]])
def test_another_content_is_refused(
    files: PayloadFolder, where: PayloadPlace, stored: bytes, damage: bytes
) -> None:
    only_file(files).write_bytes(damage)
    with pytest.raises(PayloadError, match="damaged or changed: restore it from a backup"):
        Offload().decode(stored, where)


def test_a_changed_reference_is_refused(where: PayloadPlace, stored: bytes) -> None:
    for position in range(len(stored)):
        changed = bytearray(stored)
        changed[position] ^= 1
        with pytest.raises(PayloadError, match="its file .* is missing|damaged"):
            Offload().decode(bytes(changed), where)
    for cut in (stored[:-1], stored + b"x", b""):
        with pytest.raises(PayloadError, match="damaged"):
            Offload().decode(cut, where)


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOMEM])
def test_a_lack_while_reading_may_pass(
    where: PayloadPlace, stored: bytes, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*args: Any) -> Any:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(folder, "open", fails, raising=False)
    with pytest.raises(StoreUnavailable, match=os.strerror(number)):
        Offload().decode(stored, where)


def test_a_bad_sector_is_this_payload_s_matter(
    where: PayloadPlace, stored: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*args: Any) -> Any:
        raise OSError(errno.EIO, "bad sector")

    monkeypatch.setattr(folder, "open", fails, raising=False)
    with pytest.raises(PayloadError, match="cannot be read: bad sector"):
        Offload().decode(stored, where)


@pytest.fixture(params=[0o000, 0o022, 0o077])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def test_files_and_folders_are_for_their_owner_only(
    umask: int, files: PayloadFolder, where: PayloadPlace
) -> None:
    Offload(over=1_000).encode(BIG, where)
    found = {path: stat.S_IMODE(path.stat().st_mode) for path in (files.path, *files.path.rglob("*"))}
    assert sorted(found.values()) == [0o600, 0o700, 0o700]


@pytest.mark.parametrize("step", ["write", "fsync", "rename", "sync"])
def test_what_could_not_be_stored_leaves_nothing_that_counts(
    step: str, files: PayloadFolder, where: PayloadPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: Any) -> Any:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    target, name = {
        "write": (folder, "_write"),
        "fsync": (os, "fsync"),
        "rename": (Path, "replace"),
        "sync": (folder, "_sync"),
    }[step]
    payloads = Payloads([Offload(over=1_000)])
    with monkeypatch.context() as patch:
        patch.setattr(target, name, full)
        with pytest.raises(
            StoreUnavailable, match=r"cannot be stored: .*No space left on device.*; it is tried again"
        ):
            payloads.encode(BIG.hex(), where)
    left = [path.name for path in files.path.rglob("*") if path.is_file()]
    assert [name for name in left if name.startswith(".")] == []
    assert payloads.decode(payloads.encode(BIG.hex(), where), where) == BIG.hex()


def test_the_file_is_synced_before_it_has_its_name(
    files: PayloadFolder, where: PayloadPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A power cut at any step leaves a whole file, or none of that name."""
    steps: list[str] = []
    sync, rename = os.fsync, Path.replace

    def note_sync(descriptor: int) -> None:
        steps.append(f"sync {Path(f'/proc/self/fd/{descriptor}').readlink().name[:6]}")
        sync(descriptor)

    def note_rename(self: Path, target: Path) -> Path:
        steps.append(f"rename {self.name[0]}")
        return rename(self, target)

    monkeypatch.setattr(os, "fsync", note_sync)
    monkeypatch.setattr(Path, "replace", note_rename)
    files.put("x1", "name", b"1")
    assert steps == [
        "sync .name.",
        "rename .",
        "sync x1",
        "sync c.db-p",
        f"sync {files.path.parent.name[:6]}",
    ]


@pytest.mark.parametrize("id", ["..", ".", "", "a/b", "../x", "a.b", "x\0", "ü"])
def test_an_id_that_leads_elsewhere_is_refused(files: PayloadFolder, id: str) -> None:
    with pytest.raises(PayloadError, match="cannot name a folder"):
        files.put(id, "name", b"1")
    with pytest.raises(PayloadError, match="cannot name a folder"):
        files.get(id, "name", 1)
    files.remove([id])
    assert not files.path.exists()


def test_a_database_in_memory_has_no_files() -> None:
    with pytest.raises(ValidationError, match="Offload needs a database in a file"):
        Offload(over=100).encode(BIG, place(folder=None))


def test_removing_removes_what_is_there(files: PayloadFolder) -> None:
    for id in ("x1", "x2", "x3"):
        files.put(id, "name", b"1")
    files.remove(["x1", "never", "x3", "x1"])
    assert [path.name for path in files.path.iterdir()] == ["x2"]


def test_what_cannot_be_removed_is_said(files: PayloadFolder, caplog: pytest.LogCaptureFixture) -> None:
    files.put("x1", "name", b"1")
    (files.path / "x1" / "somebody's folder").mkdir()
    files.put("x2", "name", b"1")
    files.remove(["x1", "x2"])
    assert "payload files could not be removed" in caplog.text
    assert [path.name for path in files.path.iterdir()] == ["x1"]


def test_older_ones_are_told_by_their_ids(files: PayloadFolder) -> None:
    assert files.older(10**18) == []
    ids = {second: id_made_at(second) for second in (100, 200, 300)}
    for id in ids.values():
        files.put(id, "name", b"1")
    (files.path / "a file.txt").touch()
    (files.path / "link").symlink_to(files.path / ids[100])
    assert sorted(files.older(250_000_000)) == [ids[100], ids[200]]
    assert files.older(200_000_000) == [ids[100]]
    assert files.older(0) == []


def test_what_is_not_kept_is_removed(files: PayloadFolder) -> None:
    for id in ("x1", "x2"):
        files.put(id, "name", b"1")
    files.keep_only({"x1"})
    assert [path.name for path in files.path.iterdir()] == ["x1"]
    files.keep_only(())
    assert not files.path.exists()
    files.keep_only(())


def test_a_copy_has_what_it_lacked(files: PayloadFolder, tmp_path: Path) -> None:
    copy = PayloadFolder(tmp_path / "backup.db-payloads")
    assert files.copy_to(copy) == set()
    assert not copy.path.exists()
    one, two, three = (put(files, id, text) for id, text in (("x1", b"1"), ("x1", b"2"), ("x2", b"3")))
    assert files.copy_to(copy) == {"x1", "x2"}
    inode = copy.file("x1", one).stat().st_ino
    copy.file("x1", two).write_bytes(b"damaged")
    copy.file("x2", three).unlink()
    (files.path / "x2" / f".{three}.unfinished").touch()
    assert files.copy_to(copy) == {"x1", "x2"}
    assert copy.file("x1", one).stat().st_ino == inode
    found = {path.name: path.read_bytes() for path in copy.path.rglob("*") if path.is_file()}
    assert found == {one: b"1", two: b"2", three: b"3"}
    assert stat.S_IMODE(copy.file("x2", three).stat().st_mode) == 0o600


def put(files: PayloadFolder, execution: str, data: bytes) -> str:
    name = sha256(data).hexdigest()
    files.put(execution, name, data)
    return name
