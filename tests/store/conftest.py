"""The stores that the conformance suite runs against: every test that takes ``stores`` is part of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cloacina.store.location import parse_location
from cloacina.store.sqlite.database import Database
from store.make import Stores, runner


@pytest.fixture(params=["memory", "file"])
def stores(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Stores]:
    """An empty database with one runner that is alive."""
    url = {"memory": "sqlite://:memory:", "file": f"sqlite:///{tmp_path}/test.db"}[request.param]
    database = Database(parse_location(url))
    stores = Stores(database.writer(), database.reader())
    stores.writer.register_runner(runner())
    yield stores
    stores.reader.close()
    stores.writer.close()
