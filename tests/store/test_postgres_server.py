"""The server that the tests use does what it says, and ends with the process that started it."""

from __future__ import annotations

import signal
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import psycopg
import pytest

from support.postgres.keeper import Keeper
from support.postgres.server import PostgresServer, until
from support.script import Script


def test_it_takes_connections_on_both_ways_with_the_password_only(postgres: PostgresServer) -> None:
    for url in (postgres.url(), postgres.socket_url()):
        with psycopg.connect(url) as connection:
            assert connection.execute("SHOW fsync").fetchall() == [("on",)]
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(postgres.url(password="wrong"))


def test_it_keeps_port_and_data_when_it_is_stopped(own_postgres: Callable[..., PostgresServer]) -> None:
    server = own_postgres(max_connections=30)
    url = server.create_database("mine")
    server.execute("CREATE TABLE t AS SELECT 7 AS x", database="mine")
    server.stop("immediate")
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(url)
    server.start()
    server.restart("fast")
    assert server.execute("SELECT x, current_setting('max_connections') FROM t", database="mine") == [
        (7, "30")
    ]


def test_settings_change_and_return(own_postgres: Callable[..., PostgresServer]) -> None:
    server = own_postgres()
    for value, shown in (("2MB", "2MB"), (None, "4MB")):
        server.set("work_mem", value)
        assert server.execute("SHOW work_mem") == [(shown,)]


def test_sessions_are_counted_and_killed(postgres: PostgresServer) -> None:
    with psycopg.connect(postgres.url(), application_name="victim", autocommit=True) as connection:
        assert postgres.sessions("application_name = 'victim'") == 1
        assert postgres.kill_backends("application_name = 'victim'") == 1
        assert postgres.sessions("application_name = 'victim'") == 0
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")


def test_a_schema_goes_although_a_session_holds_it(postgres: PostgresServer, schema: str) -> None:
    postgres.execute(f"CREATE SCHEMA {schema} CREATE TABLE t (x int)")
    with closing(psycopg.connect(postgres.url())) as connection:
        connection.execute(f"LOCK TABLE {schema}.t")
        postgres.drop_schema(schema, patience=0.01)
    assert postgres.execute("SELECT FROM pg_namespace WHERE nspname = %s", schema) == []


def test_nothing_is_left_of_a_process_that_is_killed(script: Script) -> None:
    source = """
        import os, signal, sys
        sys.path.append(sys.argv[1])
        from support.postgres.server import PostgresServer
        server = PostgresServer()
        [(pid,)] = server.execute("SELECT pg_backend_pid()")
        print(server.folder, (server.folder / "data" / "postmaster.pid").read_text().split()[0], flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    """
    done = script(source, str(Path(__file__).parents[1]))
    assert done.returncode == -signal.SIGKILL, done.stderr
    folder, pid = done.stdout.split()
    until(lambda: not Path(folder).exists(), f"{folder} is still there")
    until(lambda: not Path("/proc", pid).exists(), f"process {pid} is still there")


def test_a_keeper_runs_its_last_words_before_the_folder_goes(tmp_path: Path) -> None:
    keeper = Keeper("test")
    tmp_path.chmod(0o777)
    keeper.finally_run("cp", keeper.folder / "last.sh", tmp_path / "seen")
    keeper.close()
    keeper.close()
    assert not keeper.folder.exists()
