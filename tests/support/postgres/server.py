"""Servers: a real PostgreSQL on a free port, in a folder of its own, that a test may stop, start and hurt."""

from __future__ import annotations

import random
import socket
import time
from collections.abc import Mapping
from typing import Any, Literal
from urllib.parse import quote

import psycopg

from support.postgres.keeper import Keeper
from support.postgres.programs import PORTS, postgres_programs, run

Mode = Literal["fast", "immediate"]
"""``fast`` rolls open transactions back and writes a checkpoint; ``immediate`` is a crash, recovery follows."""

SETTINGS: Mapping[str, str | int] = {
    "max_connections": 200,
    "shared_buffers": "32MB",
    "max_wal_size": "256MB",
    "scram_iterations": 64,  # connecting is most of what a short test does
}


_PATIENT = "-c statement_timeout=0 -c lock_timeout=0"
"""The kit's own connections heed no limit that a test has set for all."""


class PostgresServer:
    """A server that runs from here on until `close`, or until this process ends.

    It listens on 127.0.0.1 and on a unix socket; user ``postgres`` needs a password on both. ``fsync`` is on, as the
    engine asks for it. ``settings`` are lines of its configuration.
    """

    user = "postgres"
    password = "hush-7f3a"

    def __init__(self, **settings: str | int) -> None:
        self.port = free_port()
        self._keeper = Keeper("postgres")
        self.folder = self._keeper.folder
        self._data = self.folder / "data"
        self._programs = postgres_programs(self.folder)
        try:
            self._keeper.finally_run(*self._pg_ctl("stop"), "-m", "immediate")
            self._initialise({**SETTINGS, **settings})
            self.start()
        except BaseException:
            self.close()
            raise

    def url(self, database: str = "postgres", *, user: str = "", password: str = "", port: int = 0) -> str:
        """The server over TCP."""
        return url_of(port or self.port, database, user or self.user, password or self.password)

    def socket_url(self, database: str = "postgres") -> str:
        """The server over its unix socket."""
        folder = quote(str(self.folder), safe="")
        return f"postgresql://{self.user}:{self.password}@/{database}?host={folder}&port={self.port}"

    # Its life.

    def start(self) -> None:
        """Start it again after `stop`, on the same port; return when it takes connections."""
        try:
            run(*self._pg_ctl("start"), "-l", self.folder / "server.log", cwd=self.folder)
        except RuntimeError as error:
            raise RuntimeError(f"{error}\n{self.log()[-2000:]}") from None

    def stop(self, mode: Mode = "fast") -> None:
        """Stop it; return when its processes are gone."""
        run(*self._pg_ctl("stop"), "-m", mode, cwd=self.folder)

    def restart(self, mode: Mode = "fast") -> None:
        """Stop and start it."""
        self.stop(mode)
        self.start()

    def close(self) -> None:
        """End it and remove its folder."""
        self._keeper.close()

    def log(self) -> str:
        """What it wrote so far."""
        path = self.folder / "server.log"
        return path.read_text("utf-8", "replace") if path.exists() else ""

    # What a test does to it, on connections of its own.

    def execute(self, sql: str, *params: Any, database: str = "postgres") -> list[tuple[Any, ...]]:
        """Run one statement (``%s`` are ``params``) outside any transaction; return its rows."""
        url = self.socket_url(database)
        with psycopg.connect(url, autocommit=True, options=_PATIENT, client_encoding="utf8") as connection:
            cursor = connection.execute(sql, params or None)
            return cursor.fetchall() if cursor.description else []

    def create_database(self, name: str) -> str:
        """Make an empty database; return its URL."""
        self.execute(f'CREATE DATABASE "{name}"')
        return self.url(name)

    def drop_schema(self, name: str, patience: float = 5.0) -> None:
        """Remove a schema if it exists; who holds one of its locks for ``patience`` seconds loses his session."""
        drop = (
            f"SET client_min_messages = error; SET lock_timeout = {round(patience * 1000)};"
            f' DROP SCHEMA IF EXISTS "{name}" CASCADE'
        )
        try:
            self.execute(drop)
        except psycopg.errors.LockNotAvailable:
            self.kill_backends()
            self.execute(drop)

    def set(self, name: str, value: str | int | None) -> None:
        """Change a setting for all sessions, from now on; None takes the change back.

        A session that is busy learns of it after its statement. What needs a restart waits for `restart`.
        """
        if value is None:
            self.execute(f"ALTER SYSTEM RESET {name}")
        else:
            literal = psycopg.sql.Literal(str(value)).as_string(None)
            self.execute(f"ALTER SYSTEM SET {name} = {literal}")
        [(before,)] = self.execute("SELECT pg_conf_load_time() FROM pg_reload_conf()")
        until(lambda: self.execute("SELECT pg_conf_load_time()") != [(before,)], f"{name} did not change")

    def kill_backends(self, where: str = "true") -> int:
        """End the sessions of clients for which ``where`` holds in ``pg_stat_activity``; return how many."""
        rows = self.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
            f" WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() AND ({where})"
        )
        return len(rows)

    def sessions(self, where: str = "true") -> int:
        """How many sessions of clients there are for which ``where`` holds in ``pg_stat_activity``."""
        [(count,)] = self.execute(
            "SELECT count(*) FROM pg_stat_activity"
            f" WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() AND ({where})"
        )
        return int(count)

    def _initialise(self, settings: Mapping[str, str | int]) -> None:
        secret = self.folder / "password"
        secret.write_text(self.password)
        secret.chmod(0o644)  # the folder is closed to others
        run(
            self._programs / "initdb", "-D", self._data, "-U", self.user, "--pwfile", secret,
            "-A", "scram-sha-256", "-E", "UTF8", "--locale=C", "--no-sync", "--no-instructions",
            "-c", f"scram_iterations={settings['scram_iterations']}", cwd=self.folder,
        )  # fmt: skip
        where = {
            "listen_addresses": "127.0.0.1",
            "port": self.port,
            "unix_socket_directories": str(self.folder),
        }
        lines = [f"{name} = '{value}'\n" for name, value in {**where, **settings}.items()]
        with (self._data / "postgresql.conf").open("a") as configuration:
            configuration.writelines(lines)

    def _pg_ctl(self, verb: str) -> list[str]:
        return [str(self._programs / "pg_ctl"), verb, "-s", "-w", "-D", str(self._data)]


def url_of(port: int, database: str, user: str, password: str) -> str:
    """The URL of a database behind a port of this machine."""
    return f"postgresql://{quote(user, safe='')}:{quote(password, safe='')}@127.0.0.1:{port}/{database}"


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on."""
    for port in random.sample(PORTS, 100):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise RuntimeError("no free port was found")


def until(condition: Any, what: str, seconds: float = 20) -> None:
    """Ask again and again until ``condition()`` holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(what)
        time.sleep(0.005)
