"""The databases that the engine's tests run on: each test runs on SQLite and on PostgreSQL, from one text.

A test names a file or memory, as it would for SQLite. On PostgreSQL a schema of its own stands for each file that a
test names, and a new one for each database in memory. What has no meaning there is marked ``sqlite_only`` with the
reason. A test that asks for a server by itself (``postgres``, ``own_postgres``, ``pgbouncer``) is about PostgreSQL
alone: it runs once, and names its database as it likes.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from cloacina import versions
from cloacina.engine import machine
from cloacina.engine.liveness.server import observer
from cloacina.engine.storage import storage
from cloacina.engine.storage.backend import ServerBackend
from cloacina.logic.deaths import Look, Patience, Watch, suspects
from cloacina.model import ids
from cloacina.model.status import Reason
from cloacina.store.location import Location, read_location
from cloacina.store.postgres.location import ServerLocation, server_location

SERVERS = {"postgres", "own_postgres", "pgbouncer"}
_numbers = count(1)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give every test its backends."""
    if SERVERS & set(metafunc.fixturenames):
        return
    only = metafunc.definition.get_closest_marker("sqlite_only")
    assert only is None or only.args, f"{metafunc.definition.nodeid}: sqlite_only needs a reason"
    backends = ["sqlite"] if only else ["sqlite", "postgres"]
    if metafunc.definition.get_closest_marker("postgres_only"):
        backends = ["postgres"]
    metafunc.parametrize("backend", backends, indirect=True)


@pytest.fixture(autouse=True)
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Which database this test runs on: ``sqlite`` or ``postgres``."""
    monkeypatch.setattr(ids, "_last", 0)  # an earlier test's clock may have been ahead of this one's
    name = getattr(request, "param", "sqlite")
    if name == "sqlite":
        yield name
        return
    server = request.getfixturevalue("postgres")
    schemas: dict[Path, ServerLocation] = {}
    folders: dict[ServerLocation, Path | None] = {}
    """Where payloads are offloaded to: beside the file that the test names."""

    def read(url: str | os.PathLike[str], schema: str | None = None) -> Location | ServerLocation:
        location = read_location(url, schema)
        if isinstance(location, ServerLocation):
            return location
        name = f"engine_{next(_numbers)}"
        here = schemas.setdefault(location.path or Path(name), server_location(server.url(), name))
        folders[here] = location.payloads
        return here

    def backend_with_folder(location: ServerLocation, **options: Any) -> ServerBackend:
        backend = ServerBackend(location, **options)
        backend.payloads = folders.get(location)
        return backend

    def judge_at_once(watch: Watch, look: Look, patience: Patience) -> tuple[Watch, dict[str, Reason]]:
        """Who is suspect is dead: a file's free lock says so at once too. That it takes two looks is tested apart."""
        return replace(watch, last=look), suspects(look)

    for module in (storage, versions):
        monkeypatch.setattr(module, "read_location", read)
    monkeypatch.setattr(machine, "ServerBackend", backend_with_folder)
    monkeypatch.setattr(observer, "judge", judge_at_once)
    yield name
    for location in schemas.values():
        server.drop_schema(location.schema)
