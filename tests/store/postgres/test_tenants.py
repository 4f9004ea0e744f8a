"""Tenants on a server: made whole or not at all, removed whatever they did, and whose login may do what."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import quote

import psycopg
import pytest

from cloacina.errors import AdminError, StoreError, StoreUnavailable
from cloacina.store.postgres import tenants as statements
from cloacina.tenants import BlockingDatabaseAdmin, TenantConfig, TenantCredentials
from support.postgres.server import PostgresServer
from support.tenants import database_of, tenants_on


@pytest.fixture
def admin(postgres: PostgresServer) -> Iterator[BlockingDatabaseAdmin]:
    with tenants_on(postgres) as administrator:
        yield administrator


def as_tenant(tenant: TenantCredentials, sql: str) -> list[tuple[Any, ...]]:
    """One statement with the login of a tenant."""
    with psycopg.connect(tenant.url, autocommit=True) as connection:
        cursor = connection.execute(sql)  # type: ignore[arg-type]
        return cursor.fetchall() if cursor.description else []


def made(server: PostgresServer, admin: BlockingDatabaseAdmin) -> list[Any]:
    """All schemas of a database, and all roles of its server."""
    database = database_of(admin)
    return [
        server.execute("SELECT nspname FROM pg_namespace ORDER BY 1", database=database),
        server.execute("SELECT rolname, rolcanlogin FROM pg_roles ORDER BY 1"),
    ]


def test_the_credentials_are_a_login_that_is_nobody_else(
    postgres: PostgresServer, admin: BlockingDatabaseAdmin
) -> None:
    tenant = admin.create_tenant(TenantConfig("acme", connection_limit=7, statement_timeout=2.5))
    assert (tenant.name, tenant.schema, admin.list_tenants()) == ("acme", "acme", ["acme"])
    [(user, instance)] = as_tenant(tenant, "SELECT session_user, value FROM acme.meta WHERE key = 'instance'")
    assert (user, len(instance)) == (tenant.username, 32)
    attributes = (
        "SELECT rolsuper, rolinherit, rolcreaterole, rolcreatedb, rolreplication, rolbypassrls, rolcanlogin, "
        "rolconnlimit, rolconfig FROM pg_roles WHERE rolname = %s"
    )
    [(*flags, limit, config)] = postgres.execute(attributes, tenant.username)
    assert flags == [False] * 6 + [True]
    assert limit == 7
    assert {'search_path=""', "statement_timeout=2500ms"} <= {*config}
    members = "SELECT count(*) FROM pg_auth_members WHERE member = %s::regrole OR roleid = %s::regrole"
    assert postgres.execute(members, tenant.username, tenant.username) == [(0,)]


def test_a_password_of_ones_own_logs_in(admin: BlockingDatabaseAdmin) -> None:
    password = "p@ss:w/ord#?%&='\"\\$"
    tenant = admin.create_tenant(TenantConfig("acme", password=password))
    assert tenant.password == password
    assert quote(password, safe="") in tenant.url
    assert as_tenant(tenant, "SELECT 1") == [(1,)]


def test_the_url_keeps_the_server_and_drops_what_is_the_administrators(postgres: PostgresServer) -> None:
    with tenants_on(postgres) as plain:
        base = postgres.socket_url(database_of(plain))
        admin = BlockingDatabaseAdmin(f"{base}&sslmode=prefer&application_name=x", role_prefix="socket")
        tenant = admin.create_tenant(TenantConfig("acme"))
        assert as_tenant(tenant, "SELECT session_user") == [("socket_acme",)]
        assert postgres.password not in tenant.url
        assert "sslmode=prefer" in tenant.url
        admin.remove_tenant("acme")


@pytest.mark.parametrize(
    "name", ["select", "user", "table", "a", "x" * 48, "n_1__", "cloacina", "current_user"]
)
def test_every_allowed_name_works_words_of_sql_too(admin: BlockingDatabaseAdmin, name: str) -> None:
    tenant = admin.create_tenant(TenantConfig(name))
    assert as_tenant(tenant, f'SELECT count(*) FROM "{name}".executions') == [(0,)]
    assert admin.list_tenants() == [name]


def test_names_that_differ_at_their_ends_are_two_tenants(admin: BlockingDatabaseAdmin) -> None:
    names = [f"{'x' * 47}{end}" for end in "ab"]
    users = {admin.create_tenant(TenantConfig(name)).username for name in names}
    assert len(users) == 2
    assert admin.list_tenants() == names


def test_what_is_there_is_refused_and_left_alone(
    postgres: PostgresServer, admin: BlockingDatabaseAdmin
) -> None:
    tenant = admin.create_tenant(TenantConfig("acme"))
    database = database_of(admin)
    postgres.execute("CREATE SCHEMA app CREATE TABLE precious (x int)", database=database)
    before = made(postgres, admin)
    for name in ("acme", "app"):
        with pytest.raises(AdminError, match="has a schema of that name"):
            admin.create_tenant(TenantConfig(name))
    assert made(postgres, admin) == before
    assert as_tenant(tenant, "SELECT 1") == [(1,)]


def test_a_role_of_another_database_is_refused(postgres: PostgresServer) -> None:
    with tenants_on(postgres, role_prefix="shared") as one, tenants_on(postgres, role_prefix="shared") as two:
        tenant = one.create_tenant(TenantConfig("acme"))
        postgres.execute("CREATE SCHEMA acme CREATE TABLE precious (x int)", database=database_of(two))
        before = made(postgres, two)
        with pytest.raises(AdminError, match="there is no tenant 'acme'"):
            two.remove_tenant("acme")
        postgres.execute("DROP SCHEMA acme CASCADE", database=database_of(two))
        with pytest.raises(AdminError, match="role_prefix="):
            two.create_tenant(TenantConfig("acme"))
        with pytest.raises(AdminError, match="there is no tenant 'acme'"):
            two.remove_tenant("acme")
        assert before[1] == made(postgres, two)[1]
        assert as_tenant(tenant, "SELECT 1") == [(1,)]


@pytest.mark.parametrize("fails", ["_refuse_present", "migrate", "_grant", "_close_the_rest"])
def test_one_that_fails_half_way_leaves_nothing(
    postgres: PostgresServer, admin: BlockingDatabaseAdmin, fails: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = made(postgres, admin)

    def fail(*args: object, **options: object) -> None:
        raise StoreUnavailable("here")

    with monkeypatch.context() as patch, pytest.raises(StoreUnavailable, match="here"):
        patch.setattr(statements, fails, fail)
        admin.create_tenant(TenantConfig("acme"))
    assert made(postgres, admin) == before
    admin.create_tenant(TenantConfig("acme"))


def test_of_many_that_make_one_name_one_succeeds_and_other_names_all_do(
    admin: BlockingDatabaseAdmin,
) -> None:
    def make(name: str) -> str:
        try:
            admin.create_tenant(TenantConfig(name))
        except AdminError:
            return "refused"
        return name

    with ThreadPoolExecutor(8) as pool:
        ended = list(pool.map(make, ["same"] * 4 + ["one", "two", "three", "four"]))
    assert sorted(ended) == ["four", "one", "refused", "refused", "refused", "same", "three", "two"]


def test_of_many_that_remove_one_all_end_and_one_has_done_it(admin: BlockingDatabaseAdmin) -> None:
    admin.create_tenant(TenantConfig("acme"))

    def remove(_: int) -> bool:
        try:
            admin.remove_tenant("acme")
        except AdminError:
            return False
        return True

    with ThreadPoolExecutor(6) as pool:
        assert sum(pool.map(remove, range(6))) == 1
    assert admin.list_tenants() == []


def test_a_race_that_only_the_server_sees_is_told_alike(
    admin: BlockingDatabaseAdmin, monkeypatch: pytest.MonkeyPatch
) -> None:
    admin.create_tenant(TenantConfig("acme"))
    monkeypatch.setattr(statements, "_refuse_present", lambda *args: None)
    with pytest.raises(AdminError, match="somebody else makes it"):
        admin.create_tenant(TenantConfig("acme"))


def test_a_removed_tenant_is_gone_and_its_sessions_with_it(
    postgres: PostgresServer, admin: BlockingDatabaseAdmin
) -> None:
    before = made(postgres, admin)
    tenant, other = (admin.create_tenant(TenantConfig(name)) for name in ("acme", "other"))
    as_tenant(tenant, "SELECT lo_create(0)")  # what it made outside its schema must not keep it
    with psycopg.connect(tenant.url) as open, psycopg.connect(other.url) as spared:
        open.execute("LOCK TABLE acme.executions IN ROW EXCLUSIVE MODE")
        admin.remove_tenant("acme")
        with pytest.raises(psycopg.OperationalError):
            open.execute("SELECT 1")
        assert spared.execute("SELECT 1").fetchall() == [(1,)]
    with pytest.raises(psycopg.OperationalError):
        as_tenant(tenant, "SELECT 1")
    with pytest.raises(AdminError, match="there is no tenant 'acme'"):
        admin.remove_tenant("acme")
    admin.remove_tenant("other")
    assert made(postgres, admin) == before


@pytest.mark.parametrize("way", ["locked out", "schema dropped by hand"])
def test_a_removal_that_ended_half_way_is_completed_by_the_next(
    postgres: PostgresServer, admin: BlockingDatabaseAdmin, way: str
) -> None:
    before = made(postgres, admin)
    tenant = admin.create_tenant(TenantConfig("acme"))
    if way == "locked out":
        postgres.execute(f"ALTER ROLE {tenant.username} NOLOGIN")
        assert admin.list_tenants() == ["acme"]
    else:
        postgres.execute("DROP SCHEMA acme CASCADE", database=database_of(admin))
    admin.remove_tenant("acme")
    assert made(postgres, admin) == before


def test_one_whose_role_owns_something_elsewhere_is_locked_out_and_says_why(
    postgres: PostgresServer, admin: BlockingDatabaseAdmin
) -> None:
    tenant = admin.create_tenant(TenantConfig("acme"))
    postgres.execute(f"CREATE SCHEMA elsewhere AUTHORIZATION {tenant.username}")
    try:
        with pytest.raises(AdminError, match="cannot log in any more.*depends on it"):
            admin.remove_tenant("acme")
        assert admin.list_tenants() == ["acme"]
        with pytest.raises(psycopg.OperationalError):
            as_tenant(tenant, "SELECT 1")
    finally:
        postgres.execute("DROP SCHEMA elsewhere")


def test_one_made_again_has_another_instance_another_login_and_no_old_rows(
    admin: BlockingDatabaseAdmin,
) -> None:
    count = (
        "SELECT count(*), (SELECT value FROM acme.meta WHERE key = 'instance') FROM acme.workflow_versions"
    )
    old = admin.create_tenant(TenantConfig("acme"))
    as_tenant(old, "INSERT INTO acme.workflow_versions VALUES ('w', 'v', '{}', 0)")
    [(rows, instance)] = as_tenant(old, count)
    admin.remove_tenant("acme")
    new = admin.create_tenant(TenantConfig("acme"))
    [(rows_now, instance_now)] = as_tenant(new, count)
    assert (rows, rows_now) == (1, 0)
    assert instance != instance_now
    with pytest.raises(psycopg.OperationalError, match="password"):
        as_tenant(old, "SELECT 1")


def test_tables_of_later_versions_are_its_own_too(
    postgres: PostgresServer, admin: BlockingDatabaseAdmin
) -> None:
    tenant = admin.create_tenant(TenantConfig("acme"))
    postgres.execute("CREATE TABLE acme.later (x int)", database=database_of(admin))
    as_tenant(tenant, "INSERT INTO acme.later VALUES (1)")
    postgres.execute(f"REVOKE ALL ON acme.later FROM {tenant.username}", database=database_of(admin))
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        as_tenant(tenant, "SELECT * FROM acme.later")
    assert admin.update_tenants() == ["acme"]
    assert as_tenant(tenant, "SELECT * FROM acme.later") == [(1,)]


def test_an_owner_who_is_no_superuser_administers_too(postgres: PostgresServer) -> None:
    postgres.execute("CREATE ROLE landlord LOGIN CREATEROLE PASSWORD 'landlord-7f3a-xyz'")
    postgres.execute("CREATE DATABASE landlords OWNER landlord")
    try:
        url = postgres.url("landlords", user="landlord", password="landlord-7f3a-xyz")
        admin = BlockingDatabaseAdmin(url, role_prefix="lodger")
        tenant = admin.create_tenant(TenantConfig("acme"))
        assert as_tenant(tenant, "SELECT count(*) FROM acme.executions") == [(0,)]
        assert not postgres.execute(
            "SELECT has_database_privilege(%s, 'landlords', 'TEMP')", tenant.username
        )[0][0]
        with psycopg.connect(tenant.url) as open:
            assert admin.update_tenants() == ["acme"]
            admin.remove_tenant("acme")
            with pytest.raises(psycopg.OperationalError):
                open.execute("SELECT 1")
        assert admin.list_tenants() == []
    finally:
        postgres.execute("DROP DATABASE landlords WITH (FORCE)")
        postgres.execute("DROP ROLE landlord")


def test_a_login_without_the_rights_is_told_what_it_needs(
    postgres: PostgresServer, admin: BlockingDatabaseAdmin
) -> None:
    tenant = admin.create_tenant(TenantConfig("acme"))
    before = made(postgres, admin)
    powerless = BlockingDatabaseAdmin(tenant.url, role_prefix=str(tenant.username).removesuffix("_acme"))
    assert powerless.list_tenants() == ["acme"]
    for attempt in (
        lambda: powerless.create_tenant(TenantConfig("other")),
        lambda: powerless.remove_tenant("acme"),
    ):
        with pytest.raises(AdminError, match="permission denied.*CREATEROLE and own the database") as caught:
            attempt()
        assert "\n" not in str(caught.value)
    assert made(postgres, admin) == before


def test_what_public_may_do_is_taken_away_or_told(
    postgres: PostgresServer, caplog: pytest.LogCaptureFixture
) -> None:
    with tenants_on(postgres, keep_public_rights=True) as keeping, caplog.at_level(logging.WARNING):
        tenant = keeping.create_tenant(TenantConfig("acme"))
        assert caplog.messages == [f"{_place(keeping)}: tenant acme may make temporary tables, as PUBLIC may"]
        as_tenant(tenant, "CREATE TEMP TABLE t (x int)")
        caplog.clear()
        postgres.execute(
            "GRANT CREATE ON SCHEMA public TO PUBLIC", database=database_of(keeping)
        )  # as before 15
        taking = BlockingDatabaseAdmin(postgres.url(database_of(keeping)), role_prefix="other")
        taking.create_tenant(TenantConfig("second"))
        lost = "make temporary tables or create tables in schema 'public'"
        assert caplog.messages == [
            f"{_place(keeping)}: roles without a grant of their own may no longer {lost}"
        ]
        caplog.clear()
        for sql in ("CREATE TEMP TABLE t (x int)", "CREATE TABLE public.t (x int)"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                as_tenant(tenant, sql)
        taking.remove_tenant("second")
        taking.create_tenant(TenantConfig("third"))
        assert caplog.messages == []
        taking.remove_tenant("third")


def test_a_database_that_public_may_not_enter_lets_its_tenants_in(
    postgres: PostgresServer, admin: BlockingDatabaseAdmin
) -> None:
    postgres.execute(f'REVOKE CONNECT ON DATABASE "{database_of(admin)}" FROM PUBLIC')
    tenant = admin.create_tenant(TenantConfig("acme"))
    assert as_tenant(tenant, "SELECT 1") == [(1,)]
    admin.remove_tenant("acme")


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("postgresql://nobody:canary-77f0@127.0.0.1:{port}/postgres", "refused the login"),
        ("postgresql://postgres:canary-77f0@127.0.0.1:{port}/postgres", "refused the login"),
        ("postgresql://postgres:hush-7f3a@127.0.0.1:{port}/missing", "does not exist"),
        ("postgresql://postgres:canary-77f0@127.0.0.1:1/postgres", "cannot be reached"),
    ],
)
def test_a_server_that_cannot_be_used_is_told_in_one_line_without_the_password(
    postgres: PostgresServer, url: str, told: str
) -> None:
    with pytest.raises(StoreError, match=told) as caught:
        BlockingDatabaseAdmin(url.format(port=postgres.port)).create_tenant(TenantConfig("acme"))
    assert "\n" not in str(caught.value)
    assert not {"canary-77f0", "hush-7f3a"} & {*str(caught.value).replace(":", " ").replace("@", " ").split()}


def _place(admin: BlockingDatabaseAdmin) -> str:
    return repr(admin).partition("'")[2].rstrip("')")
