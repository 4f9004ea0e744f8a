"""What a body is given to write through: its transaction, used on the loop, or from the body's own thread."""

from __future__ import annotations

from collections.abc import Coroutine, Iterable, Sequence
from typing import Any, TypeVar

from cloacina.engine.bodies.errands import Errands
from cloacina.engine.bodies.notebook import to_end
from cloacina.engine.executors.attempt import Attempt
from cloacina.errors import CheckpointError, PermanentError
from cloacina.store.transactions import OpenTransaction
from cloacina.transaction import BlockingTransaction, Row, Transaction

T = TypeVar("T")


def refuse_in_transaction(attempt: Attempt, checkpoint: object) -> None:
    """Raise `CheckpointError` if the transaction of ``attempt`` is open: a checkpoint would outlive its rollback."""
    if attempt.transaction is not None and attempt.transaction.begun:
        raise CheckpointError(
            f"checkpoint {getattr(checkpoint, 'name', checkpoint)!r:.80}: the transaction of task {attempt.task!r} is "
            "open, and would be rolled back without it: use checkpoints before its first statement"
        )


class AttemptTransaction(Transaction):
    """See `Transaction`."""

    def __init__(self, errands: Errands, inner: OpenTransaction) -> None:
        self._errands = errands
        self._inner = inner

    async def execute(self, sql: str, /, *args: Any) -> str:
        return await self._done(self._inner.execute(sql, *args))

    async def executemany(self, sql: str, rows: Iterable[Sequence[Any]], /) -> None:
        await self._done(self._inner.executemany(sql, rows))

    async def fetch(self, sql: str, /, *args: Any) -> list[Row]:
        return await self._done(self._inner.fetch(sql, *args))

    async def fetchrow(self, sql: str, /, *args: Any) -> Row | None:
        return await self._done(self._inner.fetchrow(sql, *args))

    async def fetchval(self, sql: str, /, *args: Any) -> Any:
        return await self._done(self._inner.fetchval(sql, *args))

    async def _done(self, work: Coroutine[Any, Any, T]) -> T:
        if self._errands.deferred is not None:
            work.close()
            raise PermanentError(
                f"task {self._errands.attempt.task!r} is deferred: its body writes nothing until the wait is over"
            )
        return await self._errands.done(work)


class BlockingAttemptTransaction(BlockingTransaction):
    """See `BlockingTransaction`. The errands of a ``def`` body block where others are suspended."""

    def __init__(self, errands: Errands, inner: OpenTransaction) -> None:
        self._async = AttemptTransaction(errands, inner)

    def execute(self, sql: str, /, *args: Any) -> str:
        return to_end(self._async.execute(sql, *args))

    def executemany(self, sql: str, rows: Iterable[Sequence[Any]], /) -> None:
        to_end(self._async.executemany(sql, rows))

    def fetch(self, sql: str, /, *args: Any) -> list[Row]:
        return to_end(self._async.fetch(sql, *args))

    def fetchrow(self, sql: str, /, *args: Any) -> Row | None:
        return to_end(self._async.fetchrow(sql, *args))

    def fetchval(self, sql: str, /, *args: Any) -> Any:
        return to_end(self._async.fetchval(sql, *args))
