"""Connections of the caller's: which are known, and how each runs a statement.

Only the libraries that the caller has loaded are looked at, so none of them is needed. What they raise is passed on
as it is: it is their connection, and their transaction that they may want to repeat.
"""

from __future__ import annotations

import re
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Protocol, cast

from cloacina.errors import ValidationError
from cloacina.store.script import Rows

_ACCEPTED = (
    "an asyncpg Connection, a psycopg Connection or AsyncConnection, or an SQLAlchemy 2 Connection, Session, "
    "AsyncConnection or AsyncSession"
)
_PARAMETER = re.compile(r"\$(\d+)")


class Joinable(Protocol):
    """A connection or session with an open transaction, of asyncpg, psycopg or SQLAlchemy.

    None of them need be installed, so this is what all of them have in common; whether it is one is found at run time.
    """

    @property
    def execute(self) -> Callable[..., object]:
        """Runs a statement."""
        ...


class Blocking(ABC):
    """A connection that blocks the thread that uses it."""

    @abstractmethod
    def fetch(self, text: str, values: tuple[str, ...]) -> Rows:
        """Run one statement; return its rows."""


class Awaited(ABC):
    """A connection that belongs to an event loop."""

    @abstractmethod
    async def fetch(self, text: str, values: tuple[str, ...]) -> Rows:
        """Run one statement; return its rows."""


def recognised(connection: object) -> Blocking | Awaited:
    """What runs statements on ``connection``; sends none itself.

    Raises `ValidationError` for anything else than `Joinable`, and for one that is surely not inside a transaction.
    """
    for module, name, kind in _KINDS:
        known = getattr(sys.modules.get(module), name, None)
        if known is not None and isinstance(connection, known):
            return kind(connection)
    given = type(connection)
    raise ValidationError(
        f"connection= was given a {given.__module__}.{given.__qualname__}, and joins the transaction of {_ACCEPTED}"
    )


def sqlstate(error: BaseException) -> str | None:
    """The code of an error that a driver raised, or SQLAlchemy in its place."""
    cause: Any = getattr(error, "orig", error)
    said = next(iter(cause.args), None)
    if isinstance(said, dict):  # pg8000
        return str(cast("dict[str, str]", said).get("C"))
    code: str | None = getattr(cause, "sqlstate", None) or getattr(cause, "pgcode", None)
    return code


class _Asyncpg(Awaited):
    def __init__(self, raw: Any) -> None:
        if not raw.is_in_transaction():
            raise _alone("async with connection.transaction()")
        self._raw = raw

    async def fetch(self, text: str, values: tuple[str, ...]) -> Rows:
        return [tuple(record) for record in await self._raw.fetch(text, *values)]


class _Psycopg(Blocking):
    def __init__(self, raw: Any) -> None:
        _check_psycopg(raw)
        self._raw = raw

    def fetch(self, text: str, values: tuple[str, ...]) -> Rows:
        psycopg = sys.modules["psycopg"]
        with psycopg.Cursor(self._raw, row_factory=psycopg.rows.tuple_row) as cursor:
            cursor.execute(_PARAMETER.sub(r"%(p\1)s", text), _named(values))
            rows: Rows = cursor.fetchall() if cursor.description else []
            return rows


class _AsyncPsycopg(Awaited):
    def __init__(self, raw: Any) -> None:
        _check_psycopg(raw)
        self._raw = raw

    async def fetch(self, text: str, values: tuple[str, ...]) -> Rows:
        psycopg = sys.modules["psycopg"]
        async with psycopg.AsyncCursor(self._raw, row_factory=psycopg.rows.tuple_row) as cursor:
            await cursor.execute(_PARAMETER.sub(r"%(p\1)s", text), _named(values))
            rows: Rows = await cursor.fetchall() if cursor.description else []
            return rows


class _Alchemy(Blocking):
    """Its transaction begins with the first statement, unless it was told to commit each by itself."""

    def __init__(self, raw: Any) -> None:
        self._raw = raw

    def fetch(self, text: str, values: tuple[str, ...]) -> Rows:
        connection = self._connection()
        if connection.dialect.name != "postgresql":
            raise ValidationError(
                f"connection= leads to {connection.dialect.name}, and the executions are on PostgreSQL"
            )
        if getattr(connection.connection.dbapi_connection, "autocommit", False):
            raise _alone("with another isolation level than AUTOCOMMIT")
        statement = sys.modules["sqlalchemy"].text(_PARAMETER.sub(r":p\1", text))
        answer = connection.execute(statement, _named(values))
        return [tuple(row) for row in answer] if answer.returns_rows else []

    def _connection(self) -> Any:
        return self._raw


class _AlchemySession(_Alchemy):
    def _connection(self) -> Any:
        return self._raw.connection()


class _AsyncAlchemy(Awaited):
    kind: type[_Alchemy] = _Alchemy

    def __init__(self, raw: Any) -> None:
        self._raw = raw

    async def fetch(self, text: str, values: tuple[str, ...]) -> Rows:
        def fetch(raw: Any) -> Rows:
            return self.kind(raw).fetch(text, values)

        rows: Rows = await self._raw.run_sync(fetch)
        return rows


class _AsyncAlchemySession(_AsyncAlchemy):
    kind = _AlchemySession


class _AsyncScopedSession(Awaited):
    """Stands for the session of the task that is running."""

    def __init__(self, registry: Any) -> None:
        self._registry = registry

    async def fetch(self, text: str, values: tuple[str, ...]) -> Rows:
        return await _AsyncAlchemySession(self._registry()).fetch(text, values)


def _of_this_thread(registry: Any) -> Blocking:
    """The session that a scoped one stands for."""
    return _AlchemySession(registry())


_KINDS: tuple[tuple[str, str, Callable[[Any], Blocking | Awaited]], ...] = (
    ("asyncpg", "Connection", _Asyncpg),
    ("asyncpg.pool", "PoolConnectionProxy", _Asyncpg),
    ("psycopg", "Connection", _Psycopg),
    ("psycopg", "AsyncConnection", _AsyncPsycopg),
    ("sqlalchemy", "Connection", _Alchemy),
    ("sqlalchemy.orm", "Session", _AlchemySession),
    ("sqlalchemy.orm", "scoped_session", _of_this_thread),
    ("sqlalchemy.ext.asyncio", "AsyncConnection", _AsyncAlchemy),
    ("sqlalchemy.ext.asyncio", "AsyncSession", _AsyncAlchemySession),
    ("sqlalchemy.ext.asyncio", "async_scoped_session", _AsyncScopedSession),
)
"""Where each kind is found once it was imported."""


def _check_psycopg(raw: Any) -> None:
    if raw.autocommit and raw.info.transaction_status.name == "IDLE":
        raise _alone("with connection.transaction()")


def _named(values: tuple[str, ...]) -> dict[str, str]:
    return {f"p{number}": value for number, value in enumerate(values, 1)}


def _alone(how: str) -> ValidationError:
    return ValidationError(
        f"connection= is not inside a transaction, so the execution would be committed at once: begin one ({how}), "
        "or leave connection= out"
    )
