"""One connection to a server, for one thread: how it is opened and opened again, and how it runs SQL."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable, Generator, Sequence
from functools import cache
from typing import Any, TypeVar

import asyncpg

from cloacina.errors import ForkedProcess, StoreBusy, StoreError, StoreUnavailable
from cloacina.store.postgres.location import ServerLocation
from cloacina.store.postgres.render import render
from cloacina.store.postgres.server.connect import DEADLINE, begin_pooled, connect
from cloacina.store.postgres.server.errors import DRIVER_ERRORS, lost_connection, translate

T = TypeVar("T")

_BEGIN = "BEGIN"
_BEGIN_SNAPSHOT = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"


class Connection:
    """A session of this process, used by one thread. Every error that it raises is one of `StoreError`.

    It has an event loop of its own, which runs only while a call waits for the server. A connection that was lost
    raises `StoreUnavailable`, and is opened again by the next call: whoever repeats a call must know whether it
    took effect.
    """

    def __init__(
        self, location: ServerLocation, *, settings: dict[str, str] | None = None, deadline: float = DEADLINE
    ) -> None:
        """Open a session; raises `StoreError`. An answer is waited for ``deadline`` seconds."""
        self.location = location
        self.pooled = False
        """True if a pooler sits between: a session is one transaction then, and nothing can be prepared."""
        self._settings = settings
        self._deadline = deadline
        self._pid = os.getpid()
        self._loop = asyncio.new_event_loop()
        self._raw: asyncpg.Connection | None = None
        self._in_transaction = False
        try:
            self._do(lambda raw: _nothing())
        except BaseException:
            self.close()
            raise

    def change(self, sql: str, params: Sequence[object] = ()) -> int:
        """Run one statement that writes; return how many rows it changed."""
        text = _rendered(sql, self.location.schema)
        status = self._within(lambda raw: raw.execute(text, *params))
        return int(status.rpartition(" ")[2])

    def rows(self, sql: str, params: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """Run one statement and return its rows."""
        return [tuple(record) for record in self.records(_rendered(sql, self.location.schema), params)]

    def row(self, sql: str, params: Sequence[object] = ()) -> tuple[Any, ...] | None:
        """The first row of a statement, or None."""
        rows = self.rows(sql, params)
        return rows[0] if rows else None

    def value(self, sql: str, params: Sequence[object] = ()) -> Any:
        """The first column of the first row of a statement, or None."""
        row = self.row(sql, params)
        return row[0] if row else None

    def records(self, text: str, params: Sequence[object] = ()) -> list[asyncpg.Record]:
        """Run one statement in PostgreSQL's own words and return its records."""
        return self._within(lambda raw: raw.fetch(text, *params))

    def script(self, text: str, *, patient: bool = False) -> None:
        """Run several statements, without parameters, in PostgreSQL's own words.

        With ``patient``, the answer may take as long as it takes.
        """
        self._do(lambda raw: raw.execute(text), patient)

    @contextlib.contextmanager
    def transaction(self) -> Generator[None, None, None]:
        """A transaction that writes: committed at the end, rolled back if anything is raised.

        There is none within another, or within a snapshot: its end would be the end of both.
        """
        if self._in_transaction:
            raise RuntimeError("a transaction within another one: take the inner one out")
        self._begin(_BEGIN)
        try:
            yield
            if self._do(lambda raw: raw.execute("COMMIT")) != "COMMIT":
                raise StoreBusy(
                    f"database {self.location} has rolled the transaction back; it is tried again"
                )
        except BaseException:
            self._roll_back()
            raise
        finally:
            self._in_transaction = False

    @contextlib.contextmanager
    def snapshot(self) -> Generator[None, None, None]:
        """Let several statements that read see one state of the database; nothing if one is under way."""
        if self._in_transaction:
            yield
            return
        self._begin(f"{_BEGIN}; {_BEGIN_SNAPSHOT}")
        try:
            yield
        finally:
            self._roll_back()
            self._in_transaction = False

    def close(self) -> None:
        """Close; twice does nothing. In a forked child nothing is closed."""
        if self._pid != os.getpid() or self._loop.is_closed():
            return
        raw, self._raw = self._raw, None
        if raw is not None and not raw.is_closed():
            with contextlib.suppress(Exception):
                self._loop.run_until_complete(raw.close(timeout=1.0))
            raw.terminate()
        with contextlib.suppress(Exception):
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()

    def _begin(self, text: str) -> None:
        if self.pooled:
            text = text.replace(_BEGIN, begin_pooled(self._settings), 1)
        try:
            self._do(lambda raw: raw.execute(text))
        except BaseException:
            self._drop()  # it may have begun
            raise
        self._in_transaction = True

    def _roll_back(self) -> None:
        """End a transaction that an error left open; that of a lost connection has ended."""
        if self._raw is not None and not self._raw.is_closed():
            try:
                self._do(lambda raw: raw.execute("ROLLBACK"))
            except StoreError:
                self._drop()

    def _drop(self) -> None:
        """Give the connection up: the next call opens another."""
        raw, self._raw = self._raw, None
        if raw is not None:
            raw.terminate()

    def _within(self, job: Callable[[asyncpg.Connection], Awaitable[T]]) -> T:
        """Do a job; behind a pooler it needs a transaction, since each may have another session."""
        if not self.pooled or self._in_transaction:
            return self._do(job)
        with self.transaction():
            return self._do(job)

    def _do(self, job: Callable[[asyncpg.Connection], Awaitable[T]], patient: bool = False) -> T:
        if self._pid != os.getpid():
            raise ForkedProcess(
                f"database {self.location} was opened by process {self._pid}, and process {os.getpid()} was "
                "forked from it; open it again after the fork, or start the child with 'spawn'"
            )
        deadline = None if patient else self._deadline
        return self._loop.run_until_complete(self._answered(job, deadline))

    async def _answered(self, job: Callable[[asyncpg.Connection], Awaitable[T]], deadline: float | None) -> T:
        if self._raw is None or self._raw.is_closed():
            if self._in_transaction:
                raise StoreBusy(
                    f"database {self.location}: the connection was lost within a transaction; it is tried again"
                )
            self._raw, self.pooled = await connect(self.location, settings=self._settings)
        raw = self._raw
        try:
            async with asyncio.timeout(deadline):
                return await job(raw)
        except DRIVER_ERRORS as error:
            if lost_connection(error):
                self._drop()
                told = translate(error, str(self.location))
                if not isinstance(told, StoreUnavailable):
                    told = StoreUnavailable(str(told))
                raise told from error
            raise translate(error, str(self.location)) from error


async def _nothing() -> None:
    return None


@cache
def _rendered(sql: str, schema: str) -> str:
    return render(sql, schema)
