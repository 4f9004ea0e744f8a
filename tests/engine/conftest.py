"""The databases that the engine's tests run on: each test runs on SQLite and on PostgreSQL, from one text.

A test names a file or memory, as it would for SQLite. On PostgreSQL a schema of its own stands for each file that a
test names, and a new one for each database in memory. What is about SQLite's files, processes or SQL is marked
``sqlite_only`` with the reason.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from cloacina.engine.storage import storage
from cloacina.store.location import Location, read_location
from cloacina.store.postgres.location import ServerLocation, server_location

_numbers = count(1)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give every test its backends."""
    only = metafunc.definition.get_closest_marker("sqlite_only")
    assert only is None or only.args, f"{metafunc.definition.nodeid}: sqlite_only needs a reason"
    metafunc.parametrize("backend", ["sqlite"] if only else ["sqlite", "postgres"], indirect=True)


@pytest.fixture(autouse=True)
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Which database this test runs on: ``sqlite`` or ``postgres``."""
    if request.param == "sqlite":
        yield "sqlite"
        return
    server = request.getfixturevalue("postgres")
    schemas: dict[Path, ServerLocation] = {}

    def read(url: str | os.PathLike[str], schema: str | None = None) -> Location | ServerLocation:
        location = read_location(url, schema)
        if isinstance(location, ServerLocation):
            return location
        number = next(_numbers)
        return schemas.setdefault(
            location.path or Path(f"in memory {number}"), server_location(server.url(), f"engine_{number}")
        )

    monkeypatch.setattr(storage, "read_location", read)
    yield "postgres"
    for location in schemas.values():
        server.drop_schema(location.schema)
