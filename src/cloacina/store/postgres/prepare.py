"""Preparing a schema: make it if there is none, recognise it, and bring it to the schema of this version, once.

Any number of processes may do so at the same time. The work is one transaction behind a lock on the table ``meta``.
Who comes second while that is being made is told so by the server, whichever object he was about to make, and
begins again: he finds the work done. A schema that needs nothing is only read, so no right to change it is needed.
"""

from __future__ import annotations

import os

from cloacina.errors import SchemaTooNew, StoreBusy, StoreCorrupt, StoreRefused, StoreUnavailable
from cloacina.store.migrations import MIGRATIONS
from cloacina.store.postgres.render import render_script
from cloacina.store.postgres.server.connection import Connection

_TRIES = 100

_TABLES = """
    SELECT relname FROM pg_catalog.pg_class JOIN pg_catalog.pg_namespace ON pg_namespace.oid = relnamespace
    WHERE nspname = $1 AND relkind IN ('r', 'p', 'v', 'm', 'f')"""
_MAY_CREATE = "SELECT has_database_privilege(current_database(), 'CREATE')"
_MAY_CHANGE = "SELECT has_schema_privilege(oid, 'CREATE') FROM pg_catalog.pg_namespace WHERE nspname = $1"
_VERSION = "SELECT value FROM meta WHERE key = 'schema_version'"
_LOCK = 'LOCK TABLE "{schema}".meta IN ACCESS EXCLUSIVE MODE'
_KNOW = """
    INSERT INTO meta (key, value) VALUES ('schema_version', ?1)
    ON CONFLICT (key) DO UPDATE SET value = excluded.value"""
_DRAWN = "INSERT INTO meta (key, value) VALUES ('instance', ?1), ('epoch', '1'), ('bell', ?2)"


def prepare(connection: Connection, *, make: bool = True) -> None:
    """Check that the schema is ours, and make or migrate it if that is needed.

    Raises `StoreCorrupt` if it is somebody else's, `SchemaTooNew`, and `StoreUnavailable` if the schema is not there
    and the role may not create it, or is not to ``make`` it.
    """
    for left in reversed(range(_TRIES)):
        try:
            version = schema_version(connection)
            if not version and not make:
                raise StoreUnavailable(
                    f"database {connection.location} has no such schema, or an empty one: start a runner, which makes "
                    "it, or create the tenant (cloacina.tenants), or correct schema="
                )
            if version < len(MIGRATIONS):
                _make_or_migrate(connection)
            return
        except (StoreBusy, StoreRefused):  # somebody makes the same objects just now
            if not left:
                raise


def migrate(connection: Connection) -> None:
    """Bring the schema, which is there, to this version, within the current transaction."""
    schema = connection.location.schema
    version = schema_version(connection)
    if version:
        connection.script(_LOCK.format(schema=schema))
        version = schema_version(connection)
    for script in MIGRATIONS[version:]:
        connection.script(f"SET LOCAL statement_timeout = 0; {render_script(script, schema)}", patient=True)
    if version == 0:
        connection.change(_DRAWN, (os.urandom(16).hex(), os.urandom(32).hex()))
    connection.change(_KNOW, (str(len(MIGRATIONS)),))


def schema_version(connection: Connection) -> int:
    """The version of the schema, 0 if there is none or nothing in it. Raises `StoreCorrupt`, `SchemaTooNew`."""
    schema = connection.location.schema
    tables = {record[0] for record in connection.records(_TABLES, (schema,))}
    if not tables:
        return 0
    known = connection.value(_VERSION) if {"meta", "executions", "runners"} <= tables else None
    if known is None or not str(known).isdigit():
        raise StoreCorrupt(
            f"database {connection.location} belongs to another program, and nothing was written to it; give "
            "cloacina a schema of its own with schema="
        )
    if int(known) > len(MIGRATIONS):
        raise SchemaTooNew(
            f"database {connection.location} has schema version {known}, and this version of cloacina knows "
            f"{len(MIGRATIONS)}; upgrade cloacina, or give another schema"
        )
    return int(known)


def _make_or_migrate(connection: Connection) -> None:
    schema = connection.location.schema
    with connection.transaction():
        may_change = connection.records(_MAY_CHANGE, (schema,))
        if not may_change:
            if not connection.records(_MAY_CREATE)[0][0]:
                raise StoreUnavailable(
                    f"database {connection.location} has no such schema, and this login may not create it; create the "
                    "tenant (cloacina.tenants), or correct schema="
                )
            connection.script(f'CREATE SCHEMA "{schema}"')
        elif not may_change[0][0]:
            raise StoreUnavailable(
                f"database {connection.location} has tables of schema version {schema_version(connection)}, not "
                f"{len(MIGRATIONS)}, and this login may not change them; let the administrator update the tenants "
                "(cloacina.tenants)"
            )
        migrate(connection)
