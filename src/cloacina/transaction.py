"""The transaction of a body: what it writes through it and the completion of its task are committed together.

PostgreSQL only. A body gets one for a parameter that is annotated `Transaction` (``async def``) or
`BlockingTransaction` (``def``), else for one that is named ``tx``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol, overload


class Row(Protocol):
    """One row of an answer: the ``Record`` of asyncpg. Iterating over it gives its values."""

    @overload
    def __getitem__(self, position: int, /) -> Any: ...
    @overload
    def __getitem__(self, column: str, /) -> Any: ...

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Any]: ...

    def keys(self) -> Iterator[str]:
        """The names of the columns."""
        ...

    def values(self) -> Iterator[Any]:
        """The values, in the order of the columns."""
        ...

    def items(self) -> Iterator[tuple[str, Any]]:
        """Names with values."""
        ...


class Transaction(Protocol):
    """A transaction on a connection of its own, begun by its first statement.

    Statements are written and answered as asyncpg does it: parameters are ``$1``, ``$2`` …, and a text without
    parameters may hold several statements. When the body returns, what they wrote is committed in one transaction
    with the completion of the task; when it fails, times out or is cancelled, all is rolled back. Savepoints may be
    used; a body that commits or rolls back by itself fails without another attempt.

    All methods raise what asyncpg raises for an SQL error, `TransactionError` if the transaction has come to nothing,
    because it took too long or its connection was lost, `StoreUnavailable` if there is no connection to be had, and
    `PermanentError` where the body may not use it: after its end, and while it is deferred.
    """

    async def execute(self, sql: str, /, *args: Any) -> str:
        """Run a statement; return its status, such as ``INSERT 0 1``."""
        ...

    async def executemany(self, sql: str, rows: Iterable[Sequence[Any]], /) -> None:
        """Run a statement once for the parameters in each of ``rows``."""
        ...

    async def fetch(self, sql: str, /, *args: Any) -> list[Row]:
        """Run a statement; return its rows."""
        ...

    async def fetchrow(self, sql: str, /, *args: Any) -> Row | None:
        """Run a statement; return its first row, None if there is none."""
        ...

    async def fetchval(self, sql: str, /, *args: Any) -> Any:
        """Run a statement; return the first value of its first row, None if there is none."""
        ...


class BlockingTransaction(Protocol):
    """`Transaction` for a ``def`` body: the same methods, which block the body's thread."""

    def execute(self, sql: str, /, *args: Any) -> str:
        """See `Transaction.execute`."""
        ...

    def executemany(self, sql: str, rows: Iterable[Sequence[Any]], /) -> None:
        """See `Transaction.executemany`."""
        ...

    def fetch(self, sql: str, /, *args: Any) -> list[Row]:
        """See `Transaction.fetch`."""
        ...

    def fetchrow(self, sql: str, /, *args: Any) -> Row | None:
        """See `Transaction.fetchrow`."""
        ...

    def fetchval(self, sql: str, /, *args: Any) -> Any:
        """See `Transaction.fetchval`."""
        ...
