"""The pooler that the tests use hands a server session to each transaction, as its users have it."""

from __future__ import annotations

import psycopg

from support.postgres.bouncer import PgBouncer
from support.postgres.server import PostgresServer


def test_two_clients_share_one_session(postgres: PostgresServer, pgbouncer: PgBouncer) -> None:
    ask = "SELECT pg_backend_pid()"
    with psycopg.connect(pgbouncer.url()) as one, psycopg.connect(pgbouncer.url()) as other:
        first = one.execute(ask).fetchall()
        one.commit()
        assert other.execute(ask).fetchall() == first
        assert one.execute(ask).fetchall() != first, (
            "the session is the other's while its transaction is open"
        )


def test_its_console_takes_commands(pgbouncer: PgBouncer) -> None:
    with psycopg.connect(pgbouncer.url(), autocommit=True) as one:
        [(before,)] = one.execute("SELECT pg_backend_pid()").fetchall()
        pgbouncer.execute("RECONNECT")
        assert one.execute("SELECT pg_backend_pid()").fetchall() != [(before,)]
