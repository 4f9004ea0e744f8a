"""Connecting: a session on the server whose settings the engine relies on."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from urllib.parse import parse_qsl, urlsplit

import asyncpg

from cloacina.errors import ValidationError
from cloacina.store.postgres.location import ServerLocation
from cloacina.store.postgres.server.errors import DRIVER_ERRORS, translate
from cloacina.store.postgres.server.forks import left_to_parent

CONNECT_TIMEOUT = 10.0
"""Seconds until an attempt to connect is given up."""

DEADLINE = 15.0
"""Seconds until an answer is no longer waited for; the server gives its statements up before that."""

# Plans must not change with the statistics of tables that grow from nothing in a minute: each statement has one
# good plan, through its index. A statement is planned once.
SETTINGS = {
    "application_name": "cloacina",
    "search_path": "",
    "timezone": "UTC",
    "synchronous_commit": "on",
    "default_transaction_isolation": "read committed",
    "statement_timeout": "10s",
    "lock_timeout": "5s",
    "idle_in_transaction_session_timeout": "5s",
    "idle_session_timeout": "0",
    "tcp_keepalives_idle": "15",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
    "plan_cache_mode": "force_generic_plan",
    "enable_seqscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "jit": "off",
}

# What one transaction has no use for.
_OF_SESSIONS = ("application_name", "idle_session_timeout", "plan_cache_mode", "tcp_keepalives")

_POOLER_REFUSES = "08P01"
_BAD_PARAMETER = ("22023", "42704")


def begin_pooled(settings: Mapping[str, str] | None) -> str:
    """How a transaction begins behind a pooler, where nothing holds that was set before."""
    made = {**SETTINGS, **(settings or {})}
    chosen = [(name, value) for name, value in made.items() if not name.startswith(_OF_SESSIONS)]
    return "; ".join(["BEGIN", *(f"SET LOCAL {name} = '{value}'" for name, value in chosen)])


async def connect(
    location: ServerLocation,
    *,
    settings: dict[str, str] | None = None,
    defaults: Mapping[str, str] = SETTINGS,
    timeout: float = CONNECT_TIMEOUT,
) -> tuple[asyncpg.Connection, bool]:
    """Open a session at ``location`` on the running loop; return it, and True if a pooler sits between.

    ``settings`` go before ``defaults``. Behind a pooler none can be made, nothing may be prepared, and a session lasts
    for one transaction. Raises `StoreError`, and `ValidationError` for parameters in the URL that are wrong.
    """
    raw = None
    made = {**defaults, **_named(location), **(settings or {})}
    try:
        async with asyncio.timeout(timeout):
            try:
                raw = await asyncpg.connect(location.url, server_settings=made)
            except asyncpg.PostgresError as error:
                if error.sqlstate != _POOLER_REFUSES:
                    raise
            else:
                if not await pooled(raw):
                    return left_to_parent(raw), False
                await raw.close()
            named = {"application_name": made["application_name"]}
            raw = await asyncpg.connect(location.url, statement_cache_size=0, server_settings=named)
            return left_to_parent(raw), True
    except BaseException as error:
        if raw is not None:
            raw.terminate()
        if isinstance(error, asyncpg.PostgresError) and error.sqlstate in _BAD_PARAMETER:
            raise ValidationError(
                f"the URL of database {location} has a parameter that the server refuses ({error}); correct it"
            ) from None
        if isinstance(error, DRIVER_ERRORS):
            raise translate(
                error, str(location)
            ) from None  # its line says all that the driver's traceback does
        raise


async def pooled(raw: asyncpg.Connection) -> bool:
    """True if the process that answers is not the one that the session was opened with."""
    answered: int = await raw.fetchval("SELECT pg_backend_pid()")
    return raw.get_server_pid() != answered


def _named(location: ServerLocation) -> dict[str, str]:
    """The name that the URL gives the sessions, if it does."""
    return {
        name: value for name, value in parse_qsl(urlsplit(location.url).query) if name == "application_name"
    }
