"""The transaction of one attempt: the statements of its body, and with them the commit of what follows from its end.

A body may end its transaction by itself, break it with an error that it passes over, or take too long. So each has a
mark, a setting that lasts as long as the transaction: if that is gone before the commit, another one is open than the
one that was begun.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, TypeVar, cast

import asyncpg

from cloacina.clock import Clock, Timer
from cloacina.errors import Fenced, PermanentError, StoreRefused, StoreUnavailable, TransactionError
from cloacina.store.postgres.groups import settling
from cloacina.store.postgres.location import ServerLocation
from cloacina.store.postgres.render import render
from cloacina.store.postgres.server.connect import DEADLINE, connect
from cloacina.store.postgres.server.errors import DRIVER_ERRORS, lost_connection, translate
from cloacina.store.postgres.transactions.sessions import Sessions
from cloacina.store.rows import AttemptEnd, Item
from cloacina.store.transactions import OpenTransaction, Stopwatch
from cloacina.transaction import Row

T = TypeVar("T")

ROLL_BACK_SECONDS = 5.0
"""How long a body's last statement may take to end after it was cancelled, before its connection is cut."""

LONGEST = 2**31 - 1
"""The largest number of milliseconds that the server takes for a time limit."""

_BEGIN = """
    BEGIN; SET LOCAL cloacina.mark = 1; SET LOCAL statement_timeout = {limit};
    SET LOCAL idle_in_transaction_session_timeout = {limit}"""

# What follows is the engine's own statement, whose plan must not depend on the statistics of the moment.
_CHECK = """
    SELECT pg_catalog.current_setting('CLOACINA.MARK', true) = '1' AS marked,
        pg_catalog.current_setting('SYNCHRONOUS_COMMIT') AS flushed,
        pg_catalog.set_config('ENABLE_SEQSCAN', 'OFF', true), pg_catalog.set_config('ENABLE_HASHJOIN', 'OFF', true),
        pg_catalog.set_config('ENABLE_MERGEJOIN', 'OFF', true), pg_catalog.set_config('JIT', 'OFF', true)"""

# From its completion on, the transaction locks the runner's row: a process that freezes now must not for long.
_HURRY = "SET LOCAL idle_in_transaction_session_timeout = '5s'"
_COMMIT = "COMMIT"
_COMMIT_FLUSHED = "SET LOCAL synchronous_commit = on; COMMIT"

# Whoever still writes the row is waited for.
_STATE = "SELECT state FROM attempts WHERE execution = ?1 AND task = ?2 AND attempt = ?3 /*pg FOR UPDATE*/"


class PostgresTransaction(OpenTransaction):
    """See the module's text, and `OpenTransaction`."""

    def __init__(
        self, sessions: Sessions, clock: Clock, whose: str, limit: float, stopwatch: Stopwatch
    ) -> None:
        self.begun = self.waits = False
        self._stopwatch = stopwatch
        self._sessions = sessions
        self._clock = clock
        self._whose = whose
        self._limit = limit
        self._raw: asyncpg.Connection | None = None
        self._turn = asyncio.Lock()
        self._ended = False
        self._timer: Timer | None = None
        self._failure: PermanentError | TransactionError | None = None
        """Why there can be no commit any more."""
        self._passed_over: BaseException | None = None
        """The first error of a statement."""
        self._commit = _COMMIT

    # Statements of the body.

    async def execute(self, sql: str, /, *args: Any) -> str:
        return await self._run(lambda raw: raw.execute(sql, *args))

    async def executemany(self, sql: str, rows: Iterable[Sequence[Any]], /) -> None:
        await self._run(lambda raw: raw.executemany(sql, rows))

    async def fetch(self, sql: str, /, *args: Any) -> list[Row]:
        return cast("list[Row]", await self._run(lambda raw: raw.fetch(sql, *args)))

    async def fetchrow(self, sql: str, /, *args: Any) -> Row | None:
        return cast("Row | None", await self._run(lambda raw: raw.fetchrow(sql, *args)))

    async def fetchval(self, sql: str, /, *args: Any) -> Any:
        return await self._run(lambda raw: raw.fetchval(sql, *args))

    async def _run(self, job: Callable[[asyncpg.Connection], Awaitable[T]]) -> T:
        self._refuse_late()
        self.begun = True
        async with self._turn:
            self._refuse_late()
            raw = self._raw
            try:
                raw = await self._begin() if raw is None else self._alive()
                answer = await job(raw)
            except BaseException as error:
                self._passed_over = self._passed_over or error
                if raw is not None and isinstance(error, Exception):
                    self._look(raw, error)
                raise
            self._look(raw)
            return answer

    async def _begin(self) -> asyncpg.Connection:
        milliseconds = min(round(self._limit * 1000), LONGEST)
        await self._wait()
        raw = await self._sessions.begin(_BEGIN.format(limit=milliseconds))
        if self._failure is not None:  # it was rolled back meanwhile
            self._sessions.drop(raw)
            raise self._failure
        self._raw = raw
        self._timer = self._clock.call_later(self._limit, self._expire)
        return raw

    async def _wait(self) -> None:
        """Wait for the turn to have a connection."""
        self.waits = True
        self._stopwatch.hold_clock()
        try:
            await self._sessions.turn()
        finally:
            self.waits = False
            self._stopwatch.run_clock()

    def _alive(self) -> asyncpg.Connection:
        if self._raw is None:
            raise TransactionError(
                f"the transaction of {self._whose} could not begin, and the body went on: nothing can be committed "
                f"({self._first}); let the body fail"
            ) from self._passed_over
        self._look(self._raw)
        return self._raw

    def _look(self, raw: asyncpg.Connection, error: BaseException | None = None) -> None:
        """Raise if the transaction is none any more."""
        if self._failure is None and raw.is_closed():
            self._failure = TransactionError(
                f"the transaction of {self._whose} lost its connection, and is rolled back; the server ends one that "
                f"takes more than {self._limit:g}s"
            )
        elif self._failure is None and not raw.is_in_transaction():
            self._failure = PermanentError(
                f"the body of {self._whose} ended its transaction by itself, so that what it wrote is not committed "
                "together with the completion of its task: take COMMIT and ROLLBACK out of it; the runner does that"
            )
        if self._failure is not None:
            raise self._failure from error

    def _expire(self) -> None:
        self._failure = TransactionError(
            f"the transaction of {self._whose} was open for {self._limit:g}s, and is rolled back: begin it later, do "
            "less in it, or raise the task's timeout or Settings(transaction_timeout=...)"
        )
        if self._raw is not None:
            self._sessions.drop(self._raw)

    def _refuse_late(self) -> None:
        if self._ended:
            raise PermanentError(f"the body of {self._whose} has ended, and its transaction with it")

    # What the engine does with it.

    def end(self) -> None:
        self._ended = True
        self._stop_clock()

    async def check(self) -> None:
        async with self._turn:
            raw = self._alive()
            try:
                found = await self._answered(raw.fetchrow(_CHECK))
            except asyncpg.InFailedSQLTransactionError as error:
                raise TransactionError(
                    f"a statement of {self._whose} failed in its transaction, and the body went on: nothing can be "
                    f"committed ({self._first}); let the body fail, or use a savepoint"
                ) from self._passed_over or error
            except DRIVER_ERRORS as error:
                if self._failure is None and raw.is_closed():
                    raise self._lost(error) from error
                self._look(raw, error)
                raise
            if found is None or not found["marked"]:
                self._failure = PermanentError(
                    f"the body of {self._whose} ended its transaction by itself and began another one: what it wrote "
                    "before is committed without the completion of its task; the runner begins and commits"
                )
                raise self._failure
            if found["flushed"] == "off":
                self._commit = _COMMIT_FLUSHED

    async def commit(self, runner: str, item: Item) -> None:
        raw, location = self._alive(), self._sessions.location
        text, values = settling(location.schema, runner, item)
        try:
            await self._answered(raw.execute(_HURRY))
            found = await self._answered(raw.fetch(text, *values))
        except DRIVER_ERRORS as error:
            if raw.is_closed():  # its locks may last until the server notices
                raise self._lost(error) from error
            told = translate(error, str(location))
            if isinstance(told, StoreRefused):
                raise told from error
            raise TransactionError(f"the completion of {self._whose} could not be written: {told}") from error
        if not found[0]["fenced"]:
            raise Fenced(f"runner {runner} is not alive: the completion of {self._whose} is refused")
        try:
            status = await self._answered(raw.execute(self._commit))
        except DRIVER_ERRORS as error:
            if raw.is_closed():
                raise self._lost(error) from error
            raise  # a constraint or a trigger that was deferred to this moment
        if status != _COMMIT:
            raise TransactionError(
                f"the transaction of {self._whose} was rolled back by the server ({status})"
            )

    async def roll_back(self) -> None:
        raw = self._raw
        self._failure = self._failure or TransactionError(f"the transaction of {self._whose} was rolled back")
        try:
            async with asyncio.timeout(ROLL_BACK_SECONDS), self._turn:
                raw = self._raw  # a statement that was under way may have been the first
                if raw is not None and not raw.is_closed() and raw.is_in_transaction():
                    await raw.execute("ROLLBACK")
        except Exception:
            if raw is not None:
                self._sessions.drop(raw)

    async def applied(self, end: AttemptEnd) -> bool:
        location = self._sessions.location
        raw, _ = await connect(location)
        try:
            async with asyncio.timeout(DEADLINE):
                text = render(_STATE, location.schema)
                state = await raw.fetchval(text, end.execution, end.task, end.attempt)
                await raw.close()
        except DRIVER_ERRORS as error:
            raise translate(error, str(location)) from error
        finally:
            raw.terminate()
        if state not in ("running", end.state):
            raise Fenced(f"{self._whose} is {state or 'gone'}: its runner was declared dead")
        return bool(state == end.state)

    async def release(self) -> None:
        self._stop_clock()
        raw, self._raw = self._raw, None
        if raw is not None:
            await self._sessions.give_back(raw)

    async def _answered(self, work: Awaitable[T]) -> T:
        """What ``work`` returns; a connection that gives no answer is dropped."""
        try:
            async with asyncio.timeout(max(DEADLINE, self._limit)):
                return await work
        except DRIVER_ERRORS as error:
            if lost_connection(error) and self._raw is not None:
                self._sessions.drop(self._raw)
            raise

    @property
    def _first(self) -> str:
        """The first error of a statement, in a few words."""
        return f"{type(self._passed_over).__name__}: {self._passed_over}"

    def _lost(self, error: BaseException) -> StoreUnavailable:
        return StoreUnavailable(str(translate(error, str(self._sessions.location))))

    def _stop_clock(self) -> None:
        if self._timer is not None:
            self._timer.cancel()


class PostgresTransactions:
    """`Transactions` of one schema, of which at most ``most`` are open."""

    def __init__(self, location: ServerLocation, clock: Clock, most: int) -> None:
        self.sessions = Sessions(location, clock, most)
        self._clock = clock
        self.close = self.sessions.close

    def make(self, whose: str, limit: float, stopwatch: Stopwatch) -> PostgresTransaction:
        """See `Transactions.make`."""
        return PostgresTransaction(self.sessions, self._clock, whose, limit, stopwatch)
