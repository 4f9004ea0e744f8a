"""The error table: what each SQLSTATE of PostgreSQL means to the engine, and what the user can do."""

from __future__ import annotations

from typing import NamedTuple

from asyncpg import exceptions as pg

from cloacina.errors import (
    StoreBusy,
    StoreCorrupt,
    StoreError,
    StoreRefused,
    StoreTimeout,
    StoreUnavailable,
)

DRIVER_ERRORS = (
    pg.PostgresError,
    pg.InterfaceError,
    pg.InternalClientError,
    OSError,
    EOFError,
    UnicodeError,
    OverflowError,
)
"""What the driver raises about the server, the connection, or a value; anything else is a defect."""


class Meaning(NamedTuple):
    """The class of error that a code becomes, what happened, and what to do."""

    raises: type[StoreError]
    happened: str
    remedy: str


_BUSY = Meaning(StoreBusy, "is busy", "it is tried again; if it stays so, find who holds the locks")
_SLOW = Meaning(StoreTimeout, "took too long", "it is tried again; if it stays so, look at the server's load")
_LOST = Meaning(StoreUnavailable, "cannot be reached", "check that the server runs and is reachable")
_READ_ONLY = Meaning(
    StoreUnavailable, "is read-only", "give the URL of the server that takes writes; work resumes by itself"
)
_DISK = Meaning(StoreUnavailable, "cannot grow: the server's disk is full", "free some space there")
_MEMORY = Meaning(StoreUnavailable, "got no memory on the server", "free some; work resumes by itself")
_CROWDED = Meaning(
    StoreUnavailable,
    "takes no more connections",
    "raise max_connections, close other clients, or put a pooler in front of it",
)
_LOGIN = Meaning(StoreUnavailable, "refused the login", "check user, password and pg_hba.conf")
_NO_DATABASE = Meaning(StoreUnavailable, "does not exist", "create it, or correct the URL")
_NO_SCHEMA = Meaning(
    StoreUnavailable, "has no such schema or table", "create the tenant again, or correct schema="
)
_RIGHTS = Meaning(StoreUnavailable, "refused the access", "grant its role the rights on the schema")
_MISFIT = Meaning(StoreRefused, "refused the content", "it can never be stored as it is")
_DAMAGED = Meaning(StoreCorrupt, "is damaged on the server", "restore a backup of the server")
_UNKNOWN = Meaning(StoreUnavailable, "failed", "please report this if it does not pass")

# The whole code is looked up before its class, which is the first two characters; codes not listed are _UNKNOWN.
MEANINGS: dict[str, Meaning] = {
    "40001": _BUSY,
    "40P01": _BUSY,
    "55P03": _BUSY,
    "55006": _BUSY,
    "42P06": _BUSY,  # somebody else has just made the same schema or table
    "42P07": _BUSY,
    "57014": _SLOW,
    "25P03": _SLOW,
    "25P04": _SLOW,
    "08": _LOST,
    "57P01": _LOST,
    "57P02": _LOST,
    "57P03": _LOST,
    "57P05": _LOST,
    "25006": _READ_ONLY,
    "53100": _DISK,
    "53200": _MEMORY,
    "53300": _CROWDED,
    "53": _CROWDED,
    "28": _LOGIN,
    "3D000": _NO_DATABASE,
    "3F000": _NO_SCHEMA,
    "42P01": _NO_SCHEMA,
    "42501": _RIGHTS,
    "22": _MISFIT,
    "23": _MISFIT,
    "54": _MISFIT,
    "XX001": _DAMAGED,
    "XX002": _DAMAGED,
}


_ENDED = ("25P03", "25P04")
"""The server ended the session because a transaction took too long."""


def meaning_of(code: str) -> Meaning:
    """What the SQLSTATE ``code`` means."""
    return MEANINGS.get(code) or MEANINGS.get(code[:2], _UNKNOWN)


def translate(error: BaseException, database: str) -> StoreError:
    """The error that the engine knows for one raised by the driver; ``database`` is named in its message."""
    if isinstance(error, StoreError):
        return error
    meaning, said = _read(error)
    return meaning.raises(f"database {database} {meaning.happened} ({said}); {meaning.remedy}")


def lost_connection(error: BaseException) -> bool:
    """True if nothing can be done any more on the connection that raised ``error``.

    One to a server that takes no writes is given up too: after a failover, the same URL leads to another.
    """
    if isinstance(error, pg.PostgresError):
        return meaning_of(str(error.sqlstate)) in (_LOST, _READ_ONLY) or error.sqlstate in _ENDED
    return not isinstance(error, (pg.DataError, UnicodeError, OverflowError))


def _read(error: BaseException) -> tuple[Meaning, str]:
    if isinstance(error, pg.PostgresError):
        code = str(error.sqlstate)
        detail = f": {error.detail}" if error.detail and meaning_of(code) is _MISFIT else ""
        return meaning_of(code), f"{code}: {_line(error)}{detail}"
    if isinstance(error, (pg.DataError, UnicodeError, OverflowError)):
        return _MISFIT, f"{type(error).__name__}: {_line(error)}"
    if isinstance(error, TimeoutError):
        return _LOST, "no answer in time"
    return _LOST, f"{type(error).__name__}: {_line(error)}"


def _line(error: BaseException) -> str:
    """What the driver said, on one line and not too long: it may quote what was to be stored."""
    return " ".join(str(error).split())[:300]
