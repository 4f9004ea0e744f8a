"""PgBouncer: a pooler in transaction mode before a server, set up as its users have it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import psycopg

from support.postgres.keeper import Keeper
from support.postgres.server import PostgresServer, free_port, until, url_of

PROGRAM = "pgbouncer"
MISSING = "pgbouncer is not installed: apt-get install pgbouncer"

SETTINGS: dict[str, str | int] = {
    "pool_mode": "transaction",
    "default_pool_size": 20,
    "max_client_conn": 200,
    "max_prepared_statements": 0,  # what older releases always do; they do not know the name
    "ignore_startup_parameters": "extra_float_digits",  # what JDBC needs, the usual line
}
"""A user's set-up. A session's first transaction may meet another server session than its second."""


def program() -> str | None:
    """Where PgBouncer is, None if it is not installed."""
    return shutil.which(PROGRAM) or shutil.which(PROGRAM, path="/usr/sbin:/usr/local/sbin")


class PgBouncer:
    """A pooler before ``server``, from here on until `close`, or until this process ends.

    Users of the server log in with the server's password. ``settings`` are lines of its configuration.
    """

    def __init__(self, server: PostgresServer, **settings: str | int) -> None:
        found = program()
        if found is None:
            raise RuntimeError(MISSING)
        self.server = server
        self.port = free_port()
        self._keeper = Keeper("pgbouncer")
        try:
            configuration = self._configure(Path(found), {**SETTINGS, **settings})
            self._keeper.run(found, "-q", configuration)
            until(self._answers, f"PgBouncer did not start: {self.log()}")
        except BaseException:
            self.close()
            raise

    def url(self, database: str = "postgres", *, user: str = "", password: str = "", port: int = 0) -> str:
        """A database of the server, through the pooler."""
        return url_of(port or self.port, database, user or self.server.user, password or self.server.password)

    def log(self) -> str:
        """What it wrote so far."""
        path = self._keeper.folder / "log"
        return path.read_text("utf-8", "replace") if path.exists() else ""

    def execute(self, command: str) -> None:
        """Give a command to its console: ``PAUSE``, ``RESUME``, ``KILL postgres``, ``RECONNECT`` ..."""
        with psycopg.connect(self.url("pgbouncer"), autocommit=True) as console:
            console.pgconn.exec_(command.encode())

    def close(self) -> None:
        """End it and remove its folder."""
        self._keeper.close()

    def _configure(self, found: Path, settings: dict[str, str | int]) -> Path:
        folder, server = self._keeper.folder, self.server
        version = subprocess.run([found, "--version"], capture_output=True, text=True, check=True).stdout
        if tuple(map(int, version.split()[1].split(".")[:2])) < (1, 21):
            del settings["max_prepared_statements"]
        users = folder / "users"
        users.write_text(f'"{server.user}" "{server.password}"\n')
        lines = {
            "listen_addr": "127.0.0.1",
            "listen_port": self.port,
            "unix_socket_dir": "",
            "auth_type": "scram-sha-256",
            "auth_file": users,
            "admin_users": server.user,
            "logfile": folder / "log",
            **settings,
        }
        path = folder / "pgbouncer.ini"
        path.write_text(
            f"[databases]\n* = host=127.0.0.1 port={server.port}\n[pgbouncer]\n"
            + "".join(f"{name} = {value}\n" for name, value in lines.items())
        )
        return path

    def _answers(self) -> bool:
        try:
            psycopg.connect(self.url()).close()
        except psycopg.OperationalError:
            return False
        return True
