"""The rights of a tenant's login: everything in its own tables, and nothing anywhere else."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import psycopg
import pytest
from psycopg import sql

from cloacina.tenants import TenantConfig, TenantCredentials
from support.postgres.server import PostgresServer
from support.tenants import database_of, tenants_on

TENANTS = [f"tenant_{n}" for n in range(10)]
TABLES = (
    "SELECT relname FROM pg_class WHERE relnamespace = 'tenant_0'::regnamespace AND relkind = 'r' ORDER BY 1"
)
COLUMN = (
    "SELECT attname FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0 ORDER BY attnum LIMIT 1"
)
VERBS = {
    "SELECT": "SELECT * FROM {table}",
    "INSERT": "INSERT INTO {table} SELECT * FROM {own} WHERE false",
    "UPDATE": "UPDATE {table} SET {column} = {column} WHERE false",
    "DELETE": "DELETE FROM {table} WHERE false",
}

House = tuple[list[TenantCredentials], list[str], PostgresServer, str]


@pytest.fixture(scope="module")
def house(postgres: PostgresServer) -> Iterator[House]:
    """Ten tenants of a database, and the names of the tables that each has."""
    with tenants_on(postgres) as admin:
        made = [admin.create_tenant(TenantConfig(name)) for name in TENANTS]
        database = database_of(admin)
        tables = [name for (name,) in postgres.execute(TABLES, database=database)]
        yield made, tables, postgres, database


def test_the_tables_are_those_of_the_engine(house: House) -> None:
    assert {"executions", "attempts", "meta", "runners", "events", "commands"} <= set(house[1])


@pytest.mark.parametrize("verb", VERBS)
def test_each_reads_and_writes_its_own_tables_alone(house: House, verb: str) -> None:
    tenants, tables, server, database = house
    columns = {
        table: server.execute(COLUMN, f"tenant_0.{table}", database=database)[0][0] for table in tables
    }
    answers: dict[tuple[bool, str | None], int] = {}
    with ExitStack() as sessions:
        for tenant in tenants:
            session = sessions.enter_context(psycopg.connect(tenant.url, autocommit=True))
            for owner in TENANTS:
                for table in tables:
                    text = sql.SQL(VERBS[verb]).format(
                        table=sql.Identifier(owner, table),
                        own=sql.Identifier(tenant.name, table),
                        column=sql.Identifier(columns[table]),
                    )
                    answer = (owner == tenant.name, refused(session, text))
                    answers[answer] = answers.get(answer, 0) + 1
    assert answers == {(True, None): 10 * len(tables), (False, "42501"): 90 * len(tables)}


@pytest.mark.parametrize(
    "text",
    [
        "CREATE TABLE tenant_0.mine (x int)",
        "CREATE TABLE public.mine (x int)",
        "CREATE TEMP TABLE mine (x int)",
        "CREATE TEMP VIEW mine AS SELECT 1",
        "CREATE SCHEMA mine",
        "CREATE ROLE mine",
        "CREATE DATABASE mine",
        "CREATE FUNCTION tenant_0.mine() RETURNS int LANGUAGE sql RETURN 1",
        "CREATE TRIGGER t BEFORE UPDATE ON tenant_0.meta EXECUTE FUNCTION suppress_redundant_updates_trigger()",
        "CREATE INDEX ON tenant_0.executions (id)",
        "ALTER TABLE tenant_0.executions ADD COLUMN mine int",
        "ALTER TABLE tenant_0.executions DISABLE TRIGGER ALL",
        "DROP TABLE tenant_0.executions",
        "DROP SCHEMA tenant_1 CASCADE",
        "TRUNCATE tenant_0.executions",
        "ALTER ROLE CURRENT_USER SUPERUSER",
        "ALTER ROLE CURRENT_USER CONNECTION LIMIT -1",
        "ALTER ROLE {other} PASSWORD 'mine-mine-mine'",
        "DROP ROLE {other}",
        "SET ROLE {other}",
        "SET ROLE postgres",
        "SET SESSION AUTHORIZATION postgres",
        "GRANT {other} TO CURRENT_USER",
        "GRANT pg_read_all_data TO CURRENT_USER",
        "COPY (SELECT 1) TO PROGRAM 'true'",
        "COPY tenant_0.meta FROM '/etc/passwd'",
        "COPY tenant_1.meta TO STDOUT",
        "DO 'BEGIN LOCK TABLE tenant_1.executions; END'",
        "SELECT * FROM pg_authid",
        "SELECT * FROM pg_shadow",
        "SELECT pg_read_file('/etc/passwd')",
        "SELECT pg_ls_dir('.')",
        "SELECT lo_import('/etc/passwd')",
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{other}'",
        "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE usename = '{other}'",
        "SELECT pg_reload_conf()",
        "ALTER SYSTEM SET fsync = off",
        "SET log_statement = 'none'",
        "SET session_replication_role = replica",
        "SELECT pg_create_physical_replication_slot('mine')",
        "CREATE PUBLICATION mine FOR ALL TABLES",
    ],
)
def test_what_is_not_a_tenants_is_refused(house: House, text: str) -> None:
    (tenant, other), server = house[0][:2], house[2]
    before = roles(server)
    with psycopg.connect(other.url), psycopg.connect(tenant.url, autocommit=True) as session:
        assert refused(session, text.replace("{other}", str(other.username))) == "42501"
    assert roles(server) == before


def test_it_cannot_pass_its_rights_on(house: House) -> None:
    (tenant, other) = house[0][:2]
    with psycopg.connect(tenant.url, autocommit=True) as session, psycopg.connect(other.url) as theirs:
        session.execute("GRANT ALL ON tenant_0.executions TO PUBLIC")  # the server only warns
        session.execute("GRANT USAGE ON SCHEMA tenant_0 TO PUBLIC")
        assert refused(theirs, "SELECT * FROM tenant_0.executions") == "42501"


def test_what_others_do_is_not_shown(house: House) -> None:
    (tenant, other) = house[0][:2]
    with (
        psycopg.connect(other.url, autocommit=True) as theirs,
        psycopg.connect(tenant.url, autocommit=True) as session,
    ):
        theirs.execute("SELECT 'canary-5f1e' FROM tenant_1.meta")
        shown = session.execute("SELECT string_agg(a::text, '') FROM pg_stat_activity a").fetchall()
        assert "canary-5f1e" not in shown[0][0]


def test_the_connection_limit_holds(house: House) -> None:
    server = house[2]
    server.execute(f"ALTER ROLE {house[0][2].username} CONNECTION LIMIT 1")
    with psycopg.connect(house[0][2].url), pytest.raises(psycopg.OperationalError, match="too many"):
        psycopg.connect(house[0][2].url)


def refused(session: psycopg.Connection[object], text: str | sql.Composed) -> str | None:
    """The code with which a statement is refused, or None."""
    try:
        session.execute(text)  # type: ignore[arg-type]
    except psycopg.Error as error:
        return error.sqlstate
    return None


def roles(server: PostgresServer) -> list[object]:
    return [
        server.execute("SELECT rolname, rolsuper, rolconnlimit, rolpassword FROM pg_authid ORDER BY 1"),
        server.execute("SELECT roleid, member FROM pg_auth_members ORDER BY 1, 2"),
    ]
