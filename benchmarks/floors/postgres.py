"""The floor on PostgreSQL: one statement a group, which is its transaction: every kind of row behind the fence.

It is measured in two ways: in a thread with a loop of its own, as the engine does it, and on the main loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from functools import cache
from typing import Any, NamedTuple

import asyncpg

from benchmarks.floors.group import RUNNER, Group
from benchmarks.harness.database import Database, connected
from cloacina.store.postgres.database import PostgresDatabase
from cloacina.store.postgres.location import server_location
from cloacina.store.postgres.server.connect import SETTINGS


class Kind(NamedTuple):
    """One kind of row: the types of its values, and how rows of them (``sent``, with the names) are written."""

    types: str
    names: str
    write: str


# In the order of the fields of a group.
KINDS = {
    "ends": Kind(
        "text text bigint text bigint text",
        "execution, task, attempt, state, finished, delta",
        """
        UPDATE {s}.attempts AS own SET state = sent.state, finished = sent.finished, delta = sent.delta
        FROM fence, {sent}
        WHERE own.execution = sent.execution AND own.task = sent.task AND own.attempt = sent.attempt
            AND own.state = 'running' RETURNING 1""",
    ),
    "finishes": Kind(
        "text text text bigint text",
        "id, owner, status, finished, result",
        """
        UPDATE {s}.executions AS own
        SET status = sent.status, owner = NULL, finished = sent.finished, result = sent.result
        FROM fence, {sent} WHERE own.id = sent.id AND own.owner IS NOT DISTINCT FROM sent.owner RETURNING 1""",
    ),
    "new": Kind(
        "text text text text text bigint text text bigint bigint",
        "id, workflow, version, status, input, priority, tags, owner, created, started",
        """
        INSERT INTO {s}.executions
            (id, workflow, version, status, input, priority, tags, owner, created, started)
        SELECT sent.* FROM fence, {sent} RETURNING 1""",
    ),
    "starts": Kind(
        "text text bigint text text bigint",
        "execution, task, attempt, state, runner, started",
        """
        INSERT INTO {s}.attempts (execution, task, attempt, state, runner, started)
        SELECT sent.* FROM fence, {sent} RETURNING 1""",
    ),
}
FENCE = """
    UPDATE {s}.runners SET group_no = $1 WHERE id = $2 AND state = 'alive' AND group_no = $1 - 1 RETURNING 1"""


@cache
def statement(schema: str, present: tuple[bool, ...]) -> str:
    """The text for groups that have rows of these kinds; it answers how many rows of each were written."""
    parts, position = {"fence": FENCE}, 2
    for (name, kind), there in zip(KINDS.items(), present, strict=True):
        if there:
            arrays = [f"${position + n}::{type}[]" for n, type in enumerate(kind.types.split(), 1)]
            position += len(arrays)
            sent = f"unnest({', '.join(arrays)}) AS sent ({kind.names})"
            parts[name] = kind.write.replace("{sent}", sent)
    made = ", ".join(f"{name} AS ({part})" for name, part in parts.items())
    counts = ", ".join(f"(SELECT count(*) FROM {name})" for name in parts)
    return f"WITH {made} SELECT {counts}".replace("{s}", schema)


def create(database: Database) -> None:
    """Make the schema as the engine does, with one runner in it."""
    PostgresDatabase(server_location(database.url, database.schema)).writer().close()
    with connected(database.url) as server:
        server.execute(
            f"INSERT INTO {database.schema}.runners (id, host, pid, started, state, group_no)"
            " VALUES (%s, '', 0, 0, 'alive', 0)",
            (RUNNER,),
        )


class LoopFloor:
    """A connection to a schema that was made, on the running loop."""

    def __init__(self, schema: str, connection: asyncpg.Connection) -> None:
        self._schema, self._connection = schema, connection
        self._number = 0

    @classmethod
    async def open(cls, database: Database) -> LoopFloor:
        return cls(database.schema, await asyncpg.connect(database.url, server_settings=SETTINGS))

    async def write(self, group: Group) -> None:
        self._number += 1
        text = statement(self._schema, tuple(bool(rows) for rows in group))
        columns = [list(column) for rows in group for column in zip(*rows, strict=True)]
        [written] = await self._connection.fetch(text, self._number, RUNNER, *columns)
        if tuple(written) != (1, *(len(rows) for rows in group if rows)):
            raise AssertionError(f"other rows were written than sent: {written}")

    async def close(self) -> None:
        await self._connection.close()


class PostgresWriter:
    """The same for a thread, with a loop that runs only while it waits for the server."""

    def __init__(self, database: Database) -> None:
        self._loop = asyncio.new_event_loop()
        self._floor = self._run(LoopFloor.open(database))

    def commit(self, group: Group) -> None:
        self._run(self._floor.write(group))

    def close(self) -> None:
        self._run(self._floor.close())
        self._loop.close()

    def _run(self, job: Coroutine[Any, Any, Any]) -> Any:
        return self._loop.run_until_complete(job)
