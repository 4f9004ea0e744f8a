"""The statements with which a submit joins a transaction that is not the engine's.

The transaction belongs to the caller: whatever can be found out by looking is, so that a refusal leaves it as usable
as it was. A lock is waited for in one case only, an idempotency key that another open transaction is storing, and
that has a savepoint around it. Without a key there is none: a transaction with many savepoints slows the whole server.
"""

from __future__ import annotations

from collections.abc import Sequence

from cloacina.errors import KeyBusy, ValidationError
from cloacina.store.nouns.batches import encode
from cloacina.store.postgres import executions
from cloacina.store.postgres.joining.connections import sqlstate
from cloacina.store.postgres.leases import channel
from cloacina.store.postgres.location import ServerLocation
from cloacina.store.postgres.server.connection import Connection
from cloacina.store.rows import NewExecution, StoredExecution
from cloacina.store.script import Rows, Script

PATIENCE = "2s"
"""How long a submit waits for another transaction that stores the same key, unless the caller's session waits less."""

_TRIES = 3

_LOOK = """
    SELECT relname,
        pg_catalog.has_schema_privilege(relnamespace, 'USAGE')
            AND pg_catalog.has_table_privilege(pg_class.oid, 'SELECT')
            AND (relname = $2 OR pg_catalog.has_table_privilege(pg_class.oid, 'INSERT'))
    FROM pg_catalog.pg_class JOIN pg_catalog.pg_namespace ON pg_namespace.oid = relnamespace
    WHERE nspname = $1 AND relname IN ($2, $3)"""

# One text for all rows, whatever the driver makes of lists and numbers; read as text first, since a user may have
# taught it JSON. What is notified is heard at the commit, and never if there is none.
_INSERT = """
    WITH home AS (SELECT 1 FROM {s}.meta WHERE key = 'instance' AND value = CAST($1 AS text)),
    stored AS (
        INSERT INTO {s}.executions
            (id, workflow, version, status, input, key, priority, tags, owner, created, started)
        SELECT row.value ->> 0, row.value ->> 1, row.value ->> 2, row.value ->> 3, row.value ->> 4, row.value ->> 5,
            CAST(row.value ->> 6 AS bigint), row.value ->> 7, row.value ->> 8, CAST(row.value ->> 9 AS bigint),
            CAST(row.value ->> 10 AS bigint)
        FROM home, pg_catalog.json_array_elements(CAST(CAST($2 AS text) AS json)) AS row
        ON CONFLICT DO NOTHING RETURNING 1)
    SELECT (SELECT pg_catalog.count(*) FROM home), pg_catalog.count(*),
        CASE WHEN pg_catalog.count(*) > 0 THEN pg_catalog.pg_notify(CAST($3 AS text), '') IS NULL END
    FROM stored"""

_HOLDER = f"SELECT {executions.columns('held')} FROM {{s}}.executions AS held WHERE key = CAST($1 AS text)"

_SAVEPOINT = "SAVEPOINT cloacina_submit"
_ROLLBACK = "ROLLBACK TO SAVEPOINT cloacina_submit"
_RELEASE = "RELEASE SAVEPOINT cloacina_submit"

_LIMIT_WAITING = """
    SELECT own, pg_catalog.set_config('LOCK_TIMEOUT',
        CASE WHEN CAST(own AS interval) BETWEEN '00:00:00.001' AND CAST(CAST($1 AS text) AS interval)
            THEN own ELSE CAST($1 AS text) END, true)
    FROM (SELECT pg_catalog.current_setting('LOCK_TIMEOUT') AS own) AS session"""
_WAIT_AS_BEFORE = "SELECT pg_catalog.set_config('LOCK_TIMEOUT', CAST($1 AS text), true)"

_STUCK = {"55P03", "40P01"}
"""SQLSTATEs of a lock that did not come in time, and of two transactions that wait for each other."""

_META = "SELECT key, value FROM meta WHERE key IN ('instance', 'bell')"


def joining(connection: Connection) -> PostgresJoining:
    """What joins the transactions of others on the schema of ``connection``."""
    found = dict(connection.rows(_META))
    return PostgresJoining(connection.location, found["instance"], channel(found["bell"]))


class PostgresJoining:
    """`JoiningStore` for one schema, which ``instance`` tells from all others; its runners listen on ``channel``."""

    def __init__(self, location: ServerLocation, instance: str, channel: str) -> None:
        self.location = location
        self._instance = instance
        self._channel = channel
        schema = f'"{location.schema}"'
        self._insert_text = _INSERT.replace("{s}", schema)
        self._holder_text = _HOLDER.replace("{s}", schema)

    def insert_unowned(self, rows: Sequence[NewExecution]) -> Script[list[StoredExecution | None]]:
        self._check((yield _LOOK, (self.location.schema, "meta", "executions")))
        if rows[0].key is not None:
            return [(yield from self._insert_keyed(rows[0], rows[0].key))]
        yield from self._insert(rows)
        return [None] * len(rows)

    def _check(self, found: Rows) -> None:
        """Refuse a connection on which the next statement would fail, and end its transaction."""
        schema = self.location.schema
        allowed: dict[str, bool] = dict(found)
        if len(allowed) < 2:
            raise ValidationError(
                f"connection= leads to a database without our schema {schema}, and the executions are in "
                f"{self.location}: connect to that"
            )
        if not all(allowed.values()):
            raise ValidationError(
                f"connection= has a role without the rights to submit: grant it USAGE on schema {schema}, SELECT on "
                f"{schema}.meta, and SELECT and INSERT on {schema}.executions"
            )

    def _insert(self, rows: Sequence[NewExecution]) -> Script[int]:
        """Insert what has no conflict; return how many that are. Raises `ValidationError` in another database."""
        values = (self._instance, encode(rows), self._channel)
        [(homes, stored, _)] = yield self._insert_text, values
        if not homes:
            raise ValidationError(
                f"connection= leads to another database, whose schema {self.location.schema} has other executions; "
                f"connect to {self.location}"
            )
        count: int = stored
        return count

    def _insert_keyed(self, row: NewExecution, key: str) -> Script[StoredExecution | None]:
        """Insert ``row``, or return the execution that has its key. Raises `KeyBusy`."""
        yield _SAVEPOINT, ()
        try:
            [(patience, _)] = yield _LIMIT_WAITING, (PATIENCE,)
            holder = yield from self._store_or_find(row, key)
            yield _WAIT_AS_BEFORE, (patience,)
        except Exception as error:
            yield _ROLLBACK, ()
            yield _RELEASE, ()
            if sqlstate(error) not in _STUCK:
                raise
            raise KeyBusy(
                f"a transaction that has not ended stores the idempotency key {key!r} in database {self.location}, or "
                "has locked the table (CREATE INDEX, ALTER TABLE); nothing was stored, and your transaction is as it "
                "was: try again when that has ended"
            ) from error
        yield _RELEASE, ()
        return holder

    def _store_or_find(self, row: NewExecution, key: str) -> Script[StoredExecution | None]:
        for _ in range(_TRIES):
            if (yield from self._insert([row])):
                return None
            if found := (yield self._holder_text, (key,)):
                return executions.read(self.location, found)[0]
        raise KeyBusy(
            f"the execution that had the idempotency key {key!r} is being removed from database {self.location}; "
            "nothing was stored: try again"
        )
