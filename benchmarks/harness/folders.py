"""Fresh folders on a real disk: a file system in memory makes every commit look free."""

from __future__ import annotations

import tempfile
from pathlib import Path

IN_MEMORY = {"tmpfs", "ramfs", "devtmpfs"}


def file_system(folder: Path) -> str:
    """The type of the file system that holds ``folder``, from ``/proc/mounts``; "unknown" where there is none."""
    try:
        mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    except OSError:
        return "unknown"
    real = str(folder.resolve())
    holding = [mount for mount in mounts if real == mount[1] or real.startswith(mount[1].rstrip("/") + "/")]
    return max(holding, key=lambda mount: len(mount[1]), default=["", "", "unknown"])[2]


def choose(asked: str | None) -> Path:
    """The folder in which benchmarks make theirs: ``asked``, or the first of the usual ones that is on a disk.

    Raises `SystemExit` if it is in memory.
    """
    usual = [asked] if asked else [tempfile.gettempdir(), "/var/tmp", "."]
    for candidate in map(Path, usual):
        if candidate.is_dir() and file_system(candidate) not in IN_MEMORY:
            return candidate
    raise SystemExit(f"no folder on a disk among {', '.join(usual)}: give one with --folder")


def fresh(parent: Path) -> tempfile.TemporaryDirectory[str]:
    """A new folder in ``parent``, deleted at the end of its ``with`` statement."""
    return tempfile.TemporaryDirectory(prefix="benchmark-", dir=parent, ignore_cleanup_errors=True)
