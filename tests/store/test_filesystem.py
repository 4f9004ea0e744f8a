"""Which file systems other machines may share, and what is said of a database on one."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from cloacina.store import filesystem
from cloacina.store.filesystem import shared
from support.runners import in_memory, runner_on

LINE = "{number} 1 0:{number} / {point} rw,relatime shared:1 - {kind} source rw"


@pytest.fixture
def mounts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "mountinfo"
    monkeypatch.setattr(filesystem, "MOUNTS", path)
    return path


def mount(mounts: Path, *pairs: tuple[str, str]) -> None:
    mounts.write_text(
        "\n".join(
            LINE.format(number=number, point=point, kind=kind) for number, (point, kind) in enumerate(pairs)
        )
    )


@pytest.mark.parametrize("kind", ["nfs", "nfs4", "cifs", "smb3", "9p", "fuse.sshfs", "virtiofs", "ceph"])
def test_shared_file_systems_are_known(mounts: Path, kind: str) -> None:
    mount(mounts, ("/", "ext4"), ("/srv/data", kind), ("/srv/data/local", "xfs"))
    assert shared(Path("/srv/data/deep/work.db")) == kind
    assert shared(Path("/srv/data/local/work.db")) is None
    assert shared(Path("/srv/database/work.db")) is None
    assert shared(Path("/work.db")) is None


@pytest.mark.parametrize(
    "kind", ["ext4", "xfs", "btrfs", "zfs", "tmpfs", "overlay", "fuseblk", "apfs", "f2fs"]
)
def test_local_file_systems_are_not_complained_of(mounts: Path, kind: str) -> None:
    mount(mounts, ("/", kind))
    assert shared(Path("/work.db")) is None


def test_the_last_mount_at_a_place_counts(mounts: Path) -> None:
    mount(mounts, ("/", "ext4"), ("/data", "ext4"), ("/data", "nfs"))
    assert shared(Path("/data/work.db")) == "nfs"


def test_spaces_in_names_and_optional_fields(mounts: Path) -> None:
    mounts.write_text(
        "1 0 8:1 / / rw - ext4 /dev/sda rw\n"
        "2 1 0:2 / /my\\040data rw shared:7 master:1 propagate_from:2 - nfs4 host:/a rw\n"
        "a line that makes no sense\n"
    )
    assert shared(Path("/my data/work.db")) == "nfs4"


def test_nothing_is_known_where_nothing_is_told(mounts: Path) -> None:
    assert shared(Path("/work.db")) is None


async def test_a_runner_warns_once_at_its_start(
    mounts: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    mount(mounts, ("/", "nfs4"))
    async with runner_on(tmp_path / "db"):
        pass
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 1
    assert f"{tmp_path}/db is on a file system of type nfs4" in warnings[0]
    assert "put the file on a local disk" in warnings[0]


@pytest.mark.parametrize("kind", ["ext4", "memory"])
async def test_otherwise_nothing_is_said(
    mounts: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    mount(mounts, ("/", "ext4" if kind == "ext4" else "nfs"))
    async with in_memory() if kind == "memory" else runner_on(tmp_path / "db"):
        pass
    assert caplog.text == ""
