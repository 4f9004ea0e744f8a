"""Callers: every kind of connection that a submit can join, each with a transaction of its own that is open."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    asynccontextmanager,
    contextmanager,
)
from dataclasses import dataclass
from typing import Any

import asyncpg
import psycopg
import sqlalchemy
import sqlalchemy.ext.asyncio as alchemy
from sqlalchemy.orm import Session, scoped_session, sessionmaker
from sqlalchemy.pool import NullPool


@dataclass
class Caller:
    """One open transaction: the connection to hand over, and what the caller does with it."""

    connection: Any
    _execute: Callable[[str], Any]
    _end: Callable[[str], Any]

    async def rows(self, sql: str) -> list[tuple[Any, ...]]:
        return [tuple(row) for row in await _answer(self._execute(sql))]

    async def commit(self) -> None:
        await _answer(self._end("commit"))

    async def rollback(self) -> None:
        await _answer(self._end("rollback"))


async def _answer(value: Any) -> Any:
    return await value if inspect.isawaitable(value) else value


# Connections that are awaited. Each opens a transaction at the URL of a database.


@asynccontextmanager
async def _asyncpg(url: str) -> AsyncIterator[Caller]:
    connection = await asyncpg.connect(url)
    transaction = connection.transaction()
    await transaction.start()
    try:
        yield Caller(connection, connection.fetch, lambda how: getattr(transaction, how)())
    finally:
        await connection.close()


@asynccontextmanager
async def _asyncpg_pool(url: str) -> AsyncIterator[Caller]:
    async with asyncpg.create_pool(url, min_size=1, max_size=1) as pool, pool.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        ended = False

        async def end(how: str) -> None:
            nonlocal ended
            ended = True
            await getattr(transaction, how)()

        yield Caller(connection, connection.fetch, end)
        if not ended:
            await transaction.rollback()


@asynccontextmanager
async def _async_psycopg(url: str) -> AsyncIterator[Caller]:
    async with await psycopg.AsyncConnection.connect(url, row_factory=psycopg.rows.dict_row) as connection:

        async def execute(sql: str) -> Any:
            cursor = psycopg.AsyncCursor(connection, row_factory=psycopg.rows.tuple_row)
            return await (await cursor.execute(sql)).fetchall()

        yield Caller(connection, execute, lambda how: getattr(connection, how)())
        await connection.rollback()


def _alchemy_engine(url: str, driver: str) -> alchemy.AsyncEngine:
    return alchemy.create_async_engine(
        url.replace("postgresql", f"postgresql+{driver}", 1), poolclass=NullPool
    )


def _async_alchemy(driver: str, *, session: bool) -> Callable[[str], AbstractAsyncContextManager[Caller]]:
    @asynccontextmanager
    async def opened(url: str) -> AsyncIterator[Caller]:
        engine = _alchemy_engine(url, driver)
        async with alchemy.AsyncSession(engine) if session else engine.connect() as connection:

            async def execute(sql: str) -> Any:
                return (await connection.execute(sqlalchemy.text(sql))).fetchall()

            yield Caller(connection, execute, lambda how: getattr(connection, how)())
        await engine.dispose()

    return opened


@asynccontextmanager
async def _async_scoped(url: str) -> AsyncIterator[Caller]:
    engine = _alchemy_engine(url, "asyncpg")
    make = alchemy.async_sessionmaker(engine)
    scoped = alchemy.async_scoped_session(make, asyncio.current_task)

    async def execute(sql: str) -> Any:
        return (await scoped.execute(sqlalchemy.text(sql))).fetchall()

    try:
        yield Caller(scoped, execute, lambda how: getattr(scoped, how)())
    finally:
        await scoped.remove()
        await engine.dispose()


# Connections that block.


@contextmanager
def _psycopg(url: str) -> Iterator[Caller]:
    with psycopg.connect(url) as connection:
        yield Caller(
            connection, lambda sql: connection.execute(sql).fetchall(), lambda how: getattr(connection, how)()
        )
        connection.rollback()


@contextmanager
def _psycopg_block(url: str) -> Iterator[Caller]:
    """Commits by itself but for its block, and reads rows as mappings with cursors that know $1."""
    options: Any = {"row_factory": psycopg.rows.dict_row, "cursor_factory": psycopg.RawCursor}
    with psycopg.connect(url, autocommit=True, **options) as connection:
        connection.execute("BEGIN")

        def rows(sql: str) -> Any:
            return psycopg.Cursor(connection, row_factory=psycopg.rows.tuple_row).execute(sql).fetchall()

        yield Caller(connection, rows, lambda how: connection.execute(how))
        connection.execute("ROLLBACK") if connection.info.transaction_status else None


def _alchemy(kind: str) -> Callable[[str], AbstractContextManager[Caller]]:
    @contextmanager
    def opened(url: str) -> Iterator[Caller]:
        engine = sqlalchemy.create_engine(
            url.replace("postgresql", "postgresql+psycopg", 1), poolclass=NullPool
        )
        connection: Any
        if kind == "connection":
            connection = engine.connect()
        elif kind == "session":
            connection = Session(engine)
        else:
            connection = scoped_session(sessionmaker(engine))

        def execute(sql: str) -> Any:
            return connection.execute(sqlalchemy.text(sql)).fetchall()

        try:
            yield Caller(connection, execute, lambda how: getattr(connection, how)())
        finally:
            connection.close()
            engine.dispose()

    return opened


AWAITED: dict[str, Callable[[str], AbstractAsyncContextManager[Caller]]] = {
    "asyncpg": _asyncpg,
    "asyncpg pool": _asyncpg_pool,
    "psycopg async": _async_psycopg,
    "SQLAlchemy AsyncConnection, asyncpg": _async_alchemy("asyncpg", session=False),
    "SQLAlchemy AsyncSession, asyncpg": _async_alchemy("asyncpg", session=True),
    "SQLAlchemy AsyncSession, psycopg": _async_alchemy("psycopg", session=True),
    "SQLAlchemy async_scoped_session": _async_scoped,
}
BLOCKING: dict[str, Callable[[str], AbstractContextManager[Caller]]] = {
    "psycopg": _psycopg,
    "psycopg in a block": _psycopg_block,
    "SQLAlchemy Connection": _alchemy("connection"),
    "SQLAlchemy Session": _alchemy("session"),
    "SQLAlchemy scoped_session": _alchemy("scoped_session"),
}
KINDS = (*AWAITED, *BLOCKING)


@asynccontextmanager
async def caller(kind: str, url: str) -> AsyncIterator[Caller]:
    """A transaction of this kind, rolled back at the end unless it was ended before."""
    if kind in AWAITED:
        async with AWAITED[kind](url) as one:
            yield one
    else:
        with BLOCKING[kind](url) as one:
            yield one
