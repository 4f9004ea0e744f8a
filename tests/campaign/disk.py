"""Full disks: a small file system that fills up under a runner, and has room again."""

from __future__ import annotations

import contextlib
import errno
import os
import random
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from acceptance.support.child import Child
from acceptance.support.homes import FileHome
from acceptance.support.shapes import MIXED
from acceptance.support.stage import Stage
from campaign.place import Place, Skipped
from campaign.sizes import Sizes

SIZE = "24m"
A_FILL = 12
"""Executions for each time that the disk is full."""


def play(place: Place, sizes: Sizes) -> str:
    """Fill the disk so many times; return what was done."""
    if place.server is not None:
        raise Skipped("a server's disk is its own; what its errors come to is among the acceptance tests")
    rng, killed = place.rng("disk"), 0
    with (
        small_disk(place.folder / "disk") as disk,
        place.stage("disk-full", home=FileHome(disk / "work.db")) as stage,
    ):
        child = _program(stage, rng)
        for _ in range(sizes.fills):
            with _full(disk / "filler"):
                child.line("logged cloacina.store")
                if rng.random() < 0.3:
                    child.kill()
                    killed += 1
            if child.code is not None:
                child = _program(stage, rng)
            stage.wait_for_progress()
        child.kill()
        place.end(stage)
    return f"{sizes.fills} times full, {killed} kills meanwhile"


def _program(stage: Stage, rng: random.Random) -> Child:
    child = stage.start(stage.asks(*rng.choices(MIXED, k=40 * A_FILL)), stay=True, pace="to the end")
    child.line("up")
    return child


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """A file system of its own. Raises `Skipped` if it cannot be made."""
    folder.mkdir()
    if os.geteuid() != 0:
        raise Skipped("only root may mount the small file system that is filled")
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(folder)], capture_output=True, text=True
    )
    if done.returncode:
        raise Skipped(f"the small file system cannot be mounted: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=False)
        with contextlib.suppress(OSError):
            folder.rmdir()


@contextmanager
def _full(path: Path) -> Iterator[None]:
    """The disk has no room while this is open."""
    with path.open("wb", buffering=0) as filler:
        try:
            while True:
                for size in (65536, 4096, 512, 1):
                    with contextlib.suppress(OSError):
                        filler.write(bytes(size))
                        break
                else:
                    break
        except OSError as error:
            assert error.errno == errno.ENOSPC
    try:
        yield
    finally:
        path.unlink()
