"""The port of bodies' transactions: used on the event loop, unlike the stores, each on a connection of its own.

A transaction is begun by its first statement. Its life after that::

    statements of the body  ->  end  ->  check  ->  commit     applied with all that the body wrote, or not at all
                                end  ->  roll_back

``commit`` of which nobody knows the outcome is followed by ``applied``.
"""

from __future__ import annotations

from typing import Protocol

from cloacina.store.rows import AttemptEnd, Item
from cloacina.transaction import Transaction


class Stopwatch(Protocol):
    """Measures the time of a body."""

    def hold_clock(self) -> None: ...

    def run_clock(self) -> None: ...


class OpenTransaction(Transaction, Protocol):
    """The transaction of one attempt's body; see the module's text."""

    begun: bool
    """True once its body has asked for a statement."""
    waits: bool
    """True while it waits until there is a connection for it."""

    def end(self) -> None:
        """The body has ended: take no statement of it any more."""
        ...

    async def check(self) -> None:
        """Raise what speaks against a commit: what the body did to the transaction, or what became of it.

        Raises `StoreUnavailable` if the connection was lost only now: that is not the body's failure.
        """
        ...

    async def commit(self, runner: str, item: Item) -> None:
        """Write ``item``, which follows from the end of the attempt, and commit; nothing is to be done after that.

        Raises `StoreUnavailable` if nobody knows whether it was; in all other cases it was not: `Fenced` if
        ``runner`` is not alive, `StoreRefused` if the item can never be stored, and whatever else refused it.
        """
        ...

    async def roll_back(self) -> None:
        """Undo what the body wrote; raises nothing. Does nothing after a commit."""
        ...

    async def applied(self, end: AttemptEnd) -> bool:
        """True if the commit of ``end`` took effect; waits until the server has decided.

        Raises `Fenced` if the attempt has ended in another way, and retryable `StoreError`.
        """
        ...

    async def release(self) -> None:
        """Give the connection back; raises nothing."""
        ...


class Transactions(Protocol):
    """Makes transactions on one database."""

    def make(self, whose: str, limit: float, stopwatch: Stopwatch) -> OpenTransaction:
        """A transaction, to be begun by its first statement, that may be open for ``limit`` seconds from there on.

        ``whose`` says in a few words which attempt's it is. The ``stopwatch`` stands still while it waits for a
        connection, as all may be in use.
        """
        ...

    def close(self) -> None:
        """End all connections at once; what is not committed is rolled back by the server."""
        ...
