"""A session: what the statements of `cloacina.store.nouns` need of a connection to a database."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol


class Session(Protocol):
    """A connection that one thread uses. Every error that it raises is one of `StoreError`."""

    @property
    def location(self) -> object:
        """Where the database is: its text names it in messages, and never shows a password."""
        ...

    def rows(self, sql: str, params: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """Run one statement and return its rows."""
        ...

    def row(self, sql: str, params: Sequence[object] = ()) -> tuple[Any, ...] | None:
        """The first row of a statement, or None."""
        ...

    def value(self, sql: str, params: Sequence[object] = ()) -> Any:
        """The first column of the first row of a statement, or None."""
        ...

    def change(self, sql: str, params: Sequence[object] = ()) -> int:
        """Run one statement that writes; return how many rows it changed."""
        ...

    def transaction(self) -> AbstractContextManager[None]:
        """A transaction that writes: committed at the end, rolled back if anything is raised."""
        ...

    def snapshot(self) -> AbstractContextManager[None]:
        """Let several statements that read see one state of the database; nothing if a transaction is under way."""
        ...
