"""Fixtures: one server for the whole session, a schema for each test, servers that a test may hurt.

The modules behind them are imported by the first test that asks, so that other tests start as fast as ever.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from itertools import count
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from support.postgres.bouncer import PgBouncer
    from support.postgres.proxy import TcpProxy, Upstream
    from support.postgres.server import PostgresServer

_numbers = count(1)


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """The server that tests share: never stop it, never change its settings."""
    from support.postgres.server import PostgresServer

    with closing(PostgresServer()) as server:
        yield server


@pytest.fixture
def schema(postgres: PostgresServer) -> Iterator[str]:
    """The name of a schema that does not exist yet, and does not after the test."""
    name = f"test_{next(_numbers)}"
    yield name
    postgres.drop_schema(name)


@pytest.fixture
def own_postgres() -> Iterator[Callable[..., PostgresServer]]:
    """Starts servers for this test alone, ``own_postgres(max_connections=20)``: it may do to them what it likes."""
    from support.postgres.server import PostgresServer

    with ExitStack() as servers:
        yield lambda **settings: servers.enter_context(closing(PostgresServer(**settings)))


@pytest.fixture
def proxied() -> Iterator[Callable[[Upstream], TcpProxy]]:
    """Puts a proxy before a server: ``proxied(postgres).url()``."""
    from support.postgres.proxy import TcpProxy

    with ExitStack() as proxies:
        yield lambda upstream: proxies.enter_context(closing(TcpProxy(upstream)))


@pytest.fixture(scope="session")
def pgbouncer(postgres: PostgresServer) -> Iterator[PgBouncer]:
    """PgBouncer in transaction mode before the server that tests share."""
    from support.postgres.bouncer import MISSING, PgBouncer, program

    if program() is None:
        pytest.skip(MISSING)
    with closing(PgBouncer(postgres)) as pooler:
        yield pooler
