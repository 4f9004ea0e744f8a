"""A database on PostgreSQL: the schema of one tenant, and the stores over it."""

from __future__ import annotations

from collections.abc import Sequence

from cloacina.errors import ValidationError
from cloacina.store.migrations import MIGRATIONS, outdated
from cloacina.store.nouns import reads
from cloacina.store.nouns.stores import CommonReader, CommonWriter
from cloacina.store.port import JoiningStore
from cloacina.store.postgres import claims, executions, groups, unowned
from cloacina.store.postgres.joining.statements import joining
from cloacina.store.postgres.location import ServerLocation
from cloacina.store.postgres.prepare import prepare, schema_version
from cloacina.store.postgres.server.checks import check_server
from cloacina.store.postgres.server.connection import Connection
from cloacina.store.rows import (
    ClaimRequest,
    ExecutionFilter,
    Group,
    NewExecution,
    StoredExecution,
)

KEY_TRY = "20ms"
"""How long one try of a submit waits for another transaction that stores the same idempotency key."""


class PostgresDatabase:
    """The schema at a location. Nothing is opened before `writer` is called; each store has a session of its own."""

    def __init__(self, location: ServerLocation, *, allow_unsafe: bool = False) -> None:
        """With ``allow_unsafe``, a server that may lose commits in a crash is only warned of."""
        self.location = location
        self._allow_unsafe = allow_unsafe

    def writer(self, *, make: bool = True) -> PostgresWriter:
        """Make the schema if there is none, check and migrate it, and open the store that writes.

        Raises `StoreError`, and leaves nothing open then. Unless it is to ``make`` a schema, one that is not there is
        `StoreUnavailable`.
        """
        connection = Connection(self.location)
        try:
            check_server(connection, allow_unsafe=self._allow_unsafe)
            prepare(connection, make=make)
        except BaseException:
            connection.close()
            raise
        return PostgresWriter(connection)

    def submitter(self) -> PostgresWriter:
        """Open the store for submits, which may wait for a key; the schema was prepared by `writer`."""
        return PostgresWriter(Connection(self.location, settings={"lock_timeout": KEY_TRY}))

    def reader(self) -> PostgresReader:
        """Open the store that reads; the schema was prepared by `writer`."""
        return PostgresReader(Connection(self.location))

    def looking(self) -> PostgresReader:
        """Open the store that reads where nobody prepares the schema.

        Raises `ValidationError` if there is none, and `StoreError` as `writer` does, also for an older schema.
        """
        connection = Connection(self.location)
        try:
            version = schema_version(connection)
            if not version:
                raise ValidationError(f"there is no database {self.location}: a runner makes it")
            if version < len(MIGRATIONS):
                raise outdated(self.location, version)
        except BaseException:
            connection.close()
            raise
        return PostgresReader(connection)


class PostgresWriter(CommonWriter[Connection]):
    """`WriteStore` on PostgreSQL."""

    def commit(self, group: Group) -> list[StoredExecution]:
        return groups.commit(self._connection, group)

    def claimable(self, request: ClaimRequest) -> bool:
        return claims.claimable(self._connection, request)

    def insert_unowned(self, rows: Sequence[NewExecution]) -> list[StoredExecution | None]:
        return unowned.insert(self._connection, rows)

    def joining(self) -> JoiningStore:
        return joining(self._connection)

    def checkpoint_if_due(self) -> None:
        """The server does its own."""

    def close(self) -> None:
        self._connection.close()


class PostgresReader(CommonReader[Connection]):
    """`ReadStore` on PostgreSQL."""

    def execution(self, id: str) -> StoredExecution | None:
        found = executions.load(self._connection, [id], attempts=True)
        return found[0] if found else None

    def executions(self, filter: ExecutionFilter) -> list[StoredExecution]:
        with self._connection.snapshot():
            ids = reads.listed_ids(self._connection, filter)
            return executions.load(self._connection, ids, attempts=False)

    def close(self) -> None:
        self._connection.close()
