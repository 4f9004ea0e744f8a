"""The stores that the conformance suite runs against: every test that takes ``stores`` is part of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from acceptance.support.campaign import campaign
from cloacina.store.location import parse_location
from cloacina.store.payloads import PayloadHome
from cloacina.store.payloads.stores import decoding_store, encoding_store
from cloacina.store.sqlite.database import Database
from store.make import Stores, runner
from support.payloads import everything

PLACES = ["memory", "file", "file, encoded", "postgres", "postgres, encoded", campaign("pgbouncer")]


@pytest.fixture(params=PLACES)
def stores(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Stores]:
    """An empty database with one runner that is alive; encoded: all its payloads are."""
    place, _, encoded = request.param.partition(", ")
    stores = _on_sqlite(place, tmp_path) if place in ("memory", "file") else _on_postgres(request, place)
    if encoded:
        folder = tmp_path / "test.db-payloads"
        home = PayloadHome(stores.writer.instance(), folder)
        stores.writer = encoding_store(stores.writer, everything(), home)
        stores.reader = decoding_store(stores.reader, everything(), home)
    stores.writer.register_runner(runner())
    yield stores
    stores.reader.close()
    stores.writer.close()


def _on_sqlite(place: str, folder: Path) -> Stores:
    database = Database(parse_location("sqlite://:memory:" if place == "memory" else folder / "test.db"))
    return Stores(database.writer(), database.reader())


def _on_postgres(request: pytest.FixtureRequest, place: str) -> Stores:
    """On the server itself, or through PgBouncer in transaction mode."""
    from cloacina.store.postgres.database import PostgresDatabase
    from cloacina.store.postgres.location import server_location

    server, schema = request.getfixturevalue(place), request.getfixturevalue("schema")
    database = PostgresDatabase(server_location(server.url(), schema))
    return Stores(database.writer(), database.reader())
