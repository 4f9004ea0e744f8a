"""The checks of a server before anything is stored on it: its version, its role, and settings under which it forgets.

What a session can set for itself is not looked at: each one of ours does (`cloacina.store.postgres.server.connect`).
"""

from __future__ import annotations

from collections.abc import Mapping

from cloacina.errors import StoreUnavailable, UnsuitableServer
from cloacina.observe.logs import get_logger
from cloacina.store.postgres.server.connection import Connection

OLDEST = 14
"""The first version of PostgreSQL that the tests were run with."""

FEW_CONNECTIONS = 20
"""A runner holds about five sessions, and what else uses the server some more."""

_DURABLE = ("fsync", "full_page_writes", "synchronous_commit")
_READ = (
    *_DURABLE,
    "server_version_num",
    "server_encoding",
    "default_transaction_read_only",
    "max_connections",
)
_SETTINGS = "SELECT name, setting, pg_is_in_recovery() FROM pg_catalog.pg_settings WHERE name = ANY($1)"

log = get_logger("store")


def check_server(connection: Connection, *, allow_unsafe: bool = False) -> None:
    """Refuse a server that cannot keep the promises, and warn of one that is only odd.

    With ``allow_unsafe``, of settings under which a crash loses commits there is only a warning, too. Raises
    `UnsuitableServer`, and `StoreUnavailable` for a server that takes no writes for now.
    """
    rows = connection.rows(_SETTINGS, (_READ,))
    settings = {name: str(setting) for name, setting, _ in rows}
    where = f"database {connection.location}"
    _refuse_unfit(settings, where, standby=bool(rows[0][2]))
    _refuse_unsafe(settings, where, pooled=connection.pooled, allowed=allow_unsafe)
    if int(settings["max_connections"]) < FEW_CONNECTIONS:
        log.warning(
            "%s takes %s connections at most, and a runner holds about five: raise max_connections",
            where, settings["max_connections"],
        )  # fmt: skip


def _refuse_unfit(settings: Mapping[str, str], where: str, *, standby: bool) -> None:
    version, encoding = int(settings["server_version_num"]) // 10_000, settings["server_encoding"]
    if version < OLDEST:
        raise UnsuitableServer(f"{where} is on PostgreSQL {version}; upgrade the server to {OLDEST} or newer")
    if encoding != "UTF8":
        raise UnsuitableServer(
            f"{where} has the encoding {encoding}, which cannot hold every text; make one with CREATE DATABASE ... "
            "ENCODING 'UTF8' TEMPLATE template0"
        )
    if standby or settings["default_transaction_read_only"] == "on":
        why = "its server is a standby" if standby else "default_transaction_read_only is on"
        raise StoreUnavailable(f"{where} is read-only ({why}); give the URL of a server that takes writes")


def _refuse_unsafe(settings: Mapping[str, str], where: str, *, pooled: bool, allowed: bool) -> None:
    """Behind a pooler, synchronous_commit is switched on in each transaction, so the session's does not count."""
    off = [name for name in _DURABLE if settings[name] == "off" and not (pooled and name == _DURABLE[-1])]
    if not off:
        return
    lost = (
        f"{where} can lose commits, or be damaged, when the server's machine fails: {' and '.join(off)} off"
    )
    if not allowed:
        raise UnsuitableServer(
            f"{lost}; switch it on or, if the server's storage makes up for it or its data may be lost, say "
            "Settings(allow_unsafe_server=True)"
        )
    log.warning("%s", lost)
