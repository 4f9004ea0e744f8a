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
from cloacina.store.postgres.location import ServerLocation
from cloacina.store.rows import NewExecution, StoredExecution
from cloacina.store.script import Rows, Script

PATIENCE = "2000"
"""Milliseconds that a submit waits for another transaction that stores the same key; less if the caller's session says so."""

_TRIES = 3

_LOOK = """
    SELECT relname,
        pg_catalog.has_schema_privilege(relnamespace, 'USAGE') AND pg_catalog.has_table_privilege(pg_class.oid, 'SELECT')
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
        CASE WHEN CAST(own AS interval) BETWEEN '00:00:00.001' AND CAST($1 AS interval) THEN own ELSE $2 END, true)
    FROM (SELECT pg_catalog.current_setting('LOCK_TIMEOUT') AS own) AS session"""
_WAIT_AS_BEFORE = "SELECT pg_catalog.set_config('LOCK_TIMEOUT', CAST($1 AS text), true)"

_STUCK = {"55P03", "40P01"}
"""SQLSTATEs of a lock that did not come in time, and of two transactions that wait for each other."""
