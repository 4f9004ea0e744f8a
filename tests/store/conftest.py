"""The stores that the conformance suite runs against: every test that takes ``stores`` is part of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cloacina.store.location import parse_location
from cloacina.store.payloads import PayloadHome
from cloacina.store.payloads.stores import decoding_store, encoding_store
from cloacina.store.sqlite.database import Database
from store.make import Stores, runner
from support.payloads import everything


@pytest.fixture(params=["memory", "file", "encoded"])
def stores(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Stores]:
    """An empty database with one runner that is alive; in a third form, all its payloads are encoded."""
    url = "sqlite://:memory:" if request.param == "memory" else f"sqlite:///{tmp_path}/test.db"
    database = Database(parse_location(url))
    stores = Stores(database.writer(), database.reader())
    if request.param == "encoded":
        home = PayloadHome(stores.writer.instance(), database.payloads)
        stores.writer = encoding_store(stores.writer, everything(), home)
        stores.reader = decoding_store(stores.reader, everything(), home)
    stores.writer.register_runner(runner())
    yield stores
    stores.reader.close()
    stores.writer.close()
