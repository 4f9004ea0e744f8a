"""What the tests of faults on PostgreSQL share: a server that may be hurt, and stages on it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from acceptance.support.child import Nursery
from acceptance.support.server_homes import ServerHomes
from acceptance.support.stage import Theatre
from support.postgres.server import PostgresServer


@pytest.fixture(scope="package")
def mortal() -> Iterator[PostgresServer]:
    """A server that these tests may stop, kill and change, and leave as it was: running, with its own settings."""
    with closing(PostgresServer()) as server:
        yield server


@pytest.fixture
def theatre(mortal: PostgresServer, nursery: Nursery, tmp_path: Path) -> Iterator[Theatre]:
    """Stages on the server that may be hurt."""
    with closing(ServerHomes(mortal)) as homes:
        yield Theatre(nursery, tmp_path, homes)
