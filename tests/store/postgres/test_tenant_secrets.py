"""Passwords of tenants: in no log of the server or of ours, in no error, in nothing that others can look at."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Iterator
from contextlib import closing

import psycopg
import pytest

from cloacina.errors import CloacinaError
from cloacina.store.postgres import tenants as statements
from cloacina.tenants import BlockingDatabaseAdmin, TenantConfig, TenantCredentials
from support.postgres.server import PostgresServer

OWN = "canary-41c7-own-password"


@pytest.fixture(scope="module")
def talkative() -> Iterator[PostgresServer]:
    """A server that logs every statement, and shows every one that runs."""
    with closing(
        PostgresServer(log_statement="all", log_min_error_statement="debug5", track_activities="on")
    ) as server:
        yield server


def seen(server: PostgresServer) -> str:
    """What anybody could look at on the server: its log, what ran last, and what is stored of roles."""
    rows = [
        server.execute("SELECT string_agg(a::text, ' ') FROM pg_stat_activity a"),
        server.execute("SELECT string_agg(a::text, ' ') FROM pg_authid a"),
        server.execute("SELECT string_agg(a::text, ' ') FROM pg_db_role_setting a"),
    ]
    return server.log() + str(rows)


def test_the_server_never_sees_a_password(
    talkative: PostgresServer, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    admin = BlockingDatabaseAdmin(talkative.url())
    with caplog.at_level(logging.DEBUG):
        tenants = [
            admin.create_tenant(TenantConfig("own", password=OWN)),
            admin.create_tenant(TenantConfig("drawn")),
        ]
        for tenant in tenants:
            with psycopg.connect(tenant.url) as session:
                session.execute("SELECT 1")
        admin.update_tenants()
        shown = seen(talkative)
        for tenant in tenants:
            admin.remove_tenant(tenant.name)
    assert "CREATE ROLE" in shown and "SCRAM-SHA-256$4096:" in shown
    written = shown + seen(talkative) + caplog.text + "".join(capfd.readouterr())
    for secret in (*(str(tenant.password) for tenant in tenants), talkative.password):
        assert secret not in written


@pytest.mark.parametrize(
    "fault",
    [
        "SELECT 1/0",
        "NO SUCH STATEMENT",
        "SELECT pg_terminate_backend(pg_backend_pid())",
        "CREATE ROLE postgres",
    ],
)
def test_no_error_on_the_way_shows_one(
    talkative: PostgresServer, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not in its text, nor in the values of variables that tools add to it."""
    migrate = statements.migrate

    def failing(connection: statements.Connection) -> None:
        migrate(connection)
        connection.script(fault)

    monkeypatch.setattr(statements, "migrate", failing)
    with pytest.raises(CloacinaError) as caught:
        BlockingDatabaseAdmin(talkative.url()).create_tenant(TenantConfig("acme", password=OWN))
    told = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    ours = "".join(told.format())
    assert "TenantConfig(name='acme'" in ours
    # The administrator's own is an argument of the driver's, deep in a chain that begins with ours.
    assert OWN not in ours + talkative.log()
    assert BlockingDatabaseAdmin(talkative.url()).list_tenants() == []


def test_the_log_tells_what_was_done(talkative: PostgresServer, caplog: pytest.LogCaptureFixture) -> None:
    admin = BlockingDatabaseAdmin(talkative.url())
    with caplog.at_level(logging.INFO):
        tenant: TenantCredentials = admin.create_tenant(TenantConfig("acme"))
        admin.remove_tenant("acme")
    place = f"postgresql://postgres@127.0.0.1:{talkative.port}/postgres"
    told = [record.message for record in caplog.records if record.levelno == logging.INFO]
    assert told == [f"tenant acme was created in {place}", f"tenant acme was removed from {place}"]
    assert str(tenant.password) not in caplog.text
