"""Tenants for tests: an administrator of a database that no other test uses."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any

from cloacina.tenants import BlockingDatabaseAdmin
from support.postgres.server import PostgresServer

_numbers = count(1)


@contextmanager
def tenants_on(server: PostgresServer, **options: Any) -> Iterator[BlockingDatabaseAdmin]:
    """The administrator of a new database; it and its tenants go at the end."""
    number = next(_numbers)
    name = f"tenants_{number}"
    admin = BlockingDatabaseAdmin(server.create_database(name), **{"role_prefix": f"t{number}", **options})
    try:
        yield admin
        for tenant in admin.list_tenants():
            admin.remove_tenant(tenant)
    finally:
        server.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


def database_of(admin: BlockingDatabaseAdmin) -> str:
    """The name of the database that ``admin`` administers."""
    return repr(admin).rpartition("/")[2].rstrip("')")
