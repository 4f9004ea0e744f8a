"""A database on PostgreSQL: the schema of one tenant, and the stores over it."""

from __future__ import annotations

from collections.abc import Sequence

from cloacina.errors import ValidationError
from cloacina.model.status import ExecutionStatus, Reason
from cloacina.store.migrations import MIGRATIONS, outdated
from cloacina.store.nouns import checkpoints, commands, forks, reads, retention, runners
from cloacina.store.nouns import versions as version_rows
from cloacina.store.port import JoiningStore
from cloacina.store.postgres import claims, executions, groups, unowned
from cloacina.store.postgres.joining.statements import joining
from cloacina.store.postgres.location import ServerLocation
from cloacina.store.postgres.prepare import prepare, schema_version
from cloacina.store.postgres.server.checks import check_server
from cloacina.store.postgres.server.connection import Connection
from cloacina.store.rows import (
    ClaimRequest,
    Command,
    ExecutionFilter,
    Expired,
    ExpiryLook,
    Fork,
    Group,
    InFlight,
    NewExecution,
    Rewrite,
    RunnerRow,
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


class PostgresWriter:
    """`WriteStore` on PostgreSQL."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def commit(self, group: Group) -> list[StoredExecution]:
        return groups.commit(self._connection, group)

    def claimable(self, request: ClaimRequest) -> bool:
        return claims.claimable(self._connection, request)

    def insert_unowned(self, rows: Sequence[NewExecution]) -> list[StoredExecution | None]:
        return unowned.insert(self._connection, rows)

    def register_runner(self, row: RunnerRow) -> None:
        runners.register(self._connection, row)

    def register_versions(self, runner: str, versions: Sequence[tuple[str, str, str]], now: int) -> None:
        version_rows.offer(self._connection, runner, versions, now)

    def rewrite(self, runner: str, rewrites: Sequence[Rewrite], now: int) -> list[str]:
        return version_rows.rewrite(self._connection, runner, rewrites, now)

    def insert_forks(self, made: Sequence[Fork], once: bool) -> list[str | None]:
        return forks.insert(self._connection, made, once)

    def recover(self, runner: str, reason: Reason, now: int) -> int:
        return runners.recover(self._connection, runner, reason, now)

    def free_orphans(self, now: int) -> int:
        return runners.free_orphans(self._connection, now)

    def send(self, command: Command, *, again: bool = False) -> tuple[ExecutionStatus, bool] | None:
        return commands.send(self._connection, command, again)

    def missing(self, executions: Sequence[str]) -> list[str]:
        return reads.missing(self._connection, executions)

    def instance(self) -> str:
        return reads.instance(self._connection)

    def joining(self) -> JoiningStore:
        return joining(self._connection)

    def prune(self, executions: Sequence[str]) -> list[str]:
        return retention.prune(self._connection, executions)

    def forget_runners(self, before: int) -> int:
        return retention.forget_runners(self._connection, before)

    def checkpoint_if_due(self) -> None:
        """The server does its own."""

    def close(self) -> None:
        self._connection.close()


class PostgresReader:
    """`ReadStore` on PostgreSQL."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def execution(self, id: str) -> StoredExecution | None:
        found = executions.load(self._connection, [id], attempts=True)
        return found[0] if found else None

    def executions(self, filter: ExecutionFilter) -> list[StoredExecution]:
        with self._connection.snapshot():
            ids = reads.listed_ids(self._connection, filter)
            return executions.load(self._connection, ids, attempts=False)

    def commands(self, runner: str) -> list[Command]:
        return commands.of_owner(self._connection, runner)

    def checkpoints(self, execution: str, task: str) -> dict[str, str]:
        return checkpoints.stored(self._connection, execution, task)

    def outstanding(self, command: str) -> bool:
        return commands.outstanding(self._connection, command)

    def workflows(self) -> list[str]:
        return version_rows.workflows(self._connection)

    def dag(self, workflow: str, version: str | None) -> tuple[str, str] | None:
        return version_rows.dag(self._connection, workflow, version)

    def stranded(
        self, versions: Sequence[tuple[str, str]], known: Sequence[str], limit: int
    ) -> list[InFlight]:
        return version_rows.stranded(self._connection, versions, known, limit)

    def in_flight(self, after: str, limit: int) -> list[InFlight]:
        return version_rows.in_flight(self._connection, after, limit)

    def forks_of(self, executions: Sequence[str]) -> dict[str, str]:
        return forks.forks_of(self._connection, executions)

    def expired(self, look: ExpiryLook) -> Expired:
        return retention.expired(self._connection, look)

    def ended(self, ids: Sequence[str]) -> list[str]:
        return reads.ended(self._connection, ids)

    def pending(self) -> int:
        return reads.pending(self._connection)

    def next_wake_up(self, versions: Sequence[tuple[str, str]]) -> int | None:
        return reads.next_wake_up(self._connection, versions)

    def instance(self) -> str:
        return reads.instance(self._connection)

    def runners(self) -> list[RunnerRow]:
        return runners.alive(self._connection)

    def versions(self, workflow: str) -> list[str]:
        return version_rows.versions(self._connection, workflow)

    def offered(self, workflow: str, version: str) -> list[str]:
        return version_rows.offered(self._connection, workflow, version)

    def close(self) -> None:
        self._connection.close()
