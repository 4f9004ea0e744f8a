"""A database in a file, and what the tests of its files need."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cloacina.store.location import parse_location
from cloacina.store.sqlite.database import Database
from store.make import Stores, runner


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the tests' database is."""
    return tmp_path / "test.db"


@pytest.fixture
def database(path: Path) -> Database:
    return Database(parse_location(path), busy_timeout=0.0)


@pytest.fixture
def open_stores(database: Database) -> Iterator[Callable[[], Stores]]:
    """Open the two stores, again and again; all are closed at the end."""
    opened: list[Stores] = []

    def open_() -> Stores:
        opened.append(Stores(database.writer(), database.reader()))
        return opened[-1]

    yield open_
    for stores in opened:
        stores.reader.close()
        stores.writer.close()


@pytest.fixture
def stores(open_stores: Callable[[], Stores]) -> Stores:
    """The stores of a new database in a file, with one runner that is alive."""
    stores = open_stores()
    stores.writer.register_runner(runner())
    return stores
