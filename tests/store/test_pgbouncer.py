"""The pooler that the tests use hands a server session to each transaction, as its users have it."""

from __future__ import annotations

from pathlib import Path

import psycopg

from support.postgres.bouncer import PgBouncer
from support.postgres.server import PostgresServer, until
from support.script import Script


def test_two_clients_share_one_session(postgres: PostgresServer, pgbouncer: PgBouncer) -> None:
    ask = "SELECT pg_backend_pid()"
    with psycopg.connect(pgbouncer.url()) as one, psycopg.connect(pgbouncer.url()) as other:
        first = one.execute(ask).fetchall()
        one.commit()
        assert other.execute(ask).fetchall() == first
        assert one.execute(ask).fetchall() != first, (
            "the session is the other's while its transaction is open"
        )


def test_nothing_is_left_of_one_whose_maker_is_killed(pgbouncer: PgBouncer, script: Script) -> None:
    """Not even of tests that a shell runs in the background: there SIGQUIT is ignored."""
    source = """
        import os, signal, sys
        sys.path.append(sys.argv[1])
        signal.signal(signal.SIGQUIT, signal.SIG_IGN)
        from support.postgres.bouncer import PgBouncer
        from support.postgres.server import PostgresServer
        pooler = PgBouncer(PostgresServer())
        print((pooler._keeper.folder / "number").read_text(), flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    """
    done = script(source, str(Path(__file__).parents[1]))
    pid = done.stdout.strip()
    assert pid, done.stderr
    until(lambda: not Path("/proc", pid).exists(), f"process {pid} is still there")


def test_its_console_takes_commands(pgbouncer: PgBouncer) -> None:
    with psycopg.connect(pgbouncer.url(), autocommit=True) as one:
        [(before,)] = one.execute("SELECT pg_backend_pid()").fetchall()
        pgbouncer.execute("RECONNECT")
        assert one.execute("SELECT pg_backend_pid()").fetchall() != [(before,)]
