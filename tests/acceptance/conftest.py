"""What the acceptance tests share: the nursery, and stages to play on."""

from __future__ import annotations

import os
import random
import re
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from acceptance.support.child import Nursery
from acceptance.support.stage import Stage, Theatre

if TYPE_CHECKING:
    from support.postgres.server import PostgresServer

SEED = os.environ.get("CLOACINA_TEST_SEED")


@pytest.fixture(scope="session")
def nursery() -> Iterator[Nursery]:
    nursery = Nursery()
    yield nursery
    nursery.close()


@pytest.fixture(scope="session")
def database_of(request: pytest.FixtureRequest) -> Callable[[str], str]:
    """Gives the URL of a database on a real server, one for each name; the server starts with the first of them."""

    @cache
    def url(name: str) -> str:
        server: PostgresServer = request.getfixturevalue("postgres")
        return server.create_database(re.sub(r"\W+", "_", name.lower()))

    return url


@pytest.fixture
def theatre(request: pytest.FixtureRequest, nursery: Nursery, tmp_path: Path) -> Iterator[Theatre]:
    """On SQLite; on PostgreSQL for tests that are parametrised so."""
    if getattr(request, "param", "sqlite") == "sqlite":
        yield Theatre(nursery, tmp_path)
        return
    from acceptance.support.server_homes import ServerHomes

    with closing(ServerHomes(request.getfixturevalue("postgres"))) as homes:
        yield Theatre(nursery, tmp_path, homes)


@pytest.fixture
def stage(theatre: Theatre) -> Iterator[Stage]:
    with theatre.stage("stage") as stage:
        yield stage


@pytest.fixture
def rng() -> random.Random:
    """Seeded by ``CLOACINA_TEST_SEED``, else anew; pytest shows the line if the test fails."""
    seed = int(SEED or random.SystemRandom().randrange(1_000_000))
    print(f"CLOACINA_TEST_SEED={seed}")
    return random.Random(seed)
