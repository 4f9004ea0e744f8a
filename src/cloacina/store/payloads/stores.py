"""Stores around a store: they encode the payloads of what is written, and decode those of what is read.

They exist only while a program has payload codecs. Both work on the thread of the store that they wrap. A method
that carries no payload is passed on as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import is_
from typing import Any, Generic, TypeVar, cast

from cloacina.store.payloads.folder import PayloadFolder
from cloacina.store.payloads.payloads import Payloads
from cloacina.store.payloads.place import PayloadHome
from cloacina.store.payloads.rows import PayloadRows
from cloacina.store.port import JoiningStore, ReadStore, WriteStore
from cloacina.store.rows import ExecutionFilter, Fork, Group, Item, NewExecution, StoredExecution
from cloacina.store.script import Script

T = TypeVar("T")


def encoding_store(store: WriteStore, payloads: Payloads, home: PayloadHome) -> WriteStore:
    """``store`` as one that takes and gives plain payloads, and holds encoded ones."""
    return cast(WriteStore, EncodingStore(store, payloads, home))


def decoding_store(store: ReadStore, payloads: Payloads, home: PayloadHome) -> ReadStore:
    """``store`` as one that gives plain payloads, though it holds encoded ones."""
    return cast(ReadStore, DecodingStore(store, payloads, home))


class EncodingStore:
    """`WriteStore` around another."""

    def __init__(self, inner: WriteStore, payloads: Payloads, home: PayloadHome) -> None:
        self._inner = inner
        self._payloads, self._home = payloads, home
        self._rows = PayloadRows(payloads, home)
        self._items = _Memory(self._rows, self._rows.item)
        self._new = _Memory(self._rows, self._rows.new)
        self._forks = _Memory(self._rows, self._rows.fork)
        self._folder = PayloadFolder(home.folder) if home.folder is not None else None

    def commit(self, group: Group) -> list[StoredExecution]:
        items = self._items.encoded(group.items)
        claimed = self._inner.commit(Group(group.runner, group.number, tuple(items), group.claim))
        decoded = [self._rows.stored(row) for row in claimed]
        self._items.forget()
        return decoded

    def encoded(self, item: Item) -> Item:
        """``item`` as `commit` writes it."""
        [made] = self._items.encoded((item,))
        self._items.forget()
        return made

    def insert_unowned(self, rows: Sequence[NewExecution]) -> list[StoredExecution | None]:
        holders = self._inner.insert_unowned(self._new.encoded(rows))
        decoded = [holder and self._rows.stored(holder) for holder in holders]
        self._new.forget()
        return decoded

    def insert_forks(self, made: Sequence[Fork], once: bool) -> list[str | None]:
        answers = self._inner.insert_forks(self._forks.encoded(made), once)
        self._forks.forget()
        return answers

    def joining(self) -> JoiningStore:
        return EncodingJoiningStore(self._inner.joining(), self._payloads, self._home)

    def prune(self, executions: Sequence[str]) -> list[str]:
        removed = self._inner.prune(executions)
        if self._folder is not None:
            self._folder.remove(removed)
        return removed

    def forget_runners(self, before: int) -> int:
        """Also removes files whose execution is not there, if it would be older than that.

        They are what a crash leaves between a file and its row, or between a removed row and its files.
        """
        forgotten = self._inner.forget_runners(before)
        if self._folder is not None:
            old = self._folder.older(before)
            self._folder.remove(self._inner.missing(old) if old else ())
        return forgotten

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class EncodingJoiningStore:
    """`JoiningStore` around another; it encodes before the script begins, as files may have to be written."""

    def __init__(self, inner: JoiningStore, payloads: Payloads, home: PayloadHome) -> None:
        self._inner = inner
        self._payloads, self._home = payloads, home

    def insert_unowned(self, rows: Sequence[NewExecution]) -> Script[list[StoredExecution | None]]:
        own = PayloadRows(self._payloads, self._home)
        return self._decoded(self._inner.insert_unowned([own.new(row) for row in rows]), own)

    @staticmethod
    def _decoded(
        script: Script[list[StoredExecution | None]], own: PayloadRows
    ) -> Script[list[StoredExecution | None]]:
        holders = yield from script
        return [holder and own.stored(holder) for holder in holders]


class DecodingStore:
    """`ReadStore` around another."""

    def __init__(self, inner: ReadStore, payloads: Payloads, home: PayloadHome) -> None:
        self._inner = inner
        self._rows = PayloadRows(payloads, home)

    def execution(self, id: str) -> StoredExecution | None:
        found = self._inner.execution(id)
        return found and self._rows.stored(found)

    def executions(self, filter: ExecutionFilter) -> list[StoredExecution]:
        return [self._rows.listed(row) for row in self._inner.executions(filter)]

    def checkpoints(self, execution: str, task: str) -> dict[str, str]:
        found = self._inner.checkpoints(execution, task)
        return {name: self._rows.value(text, execution, task, name) for name, text in found.items()}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class _Memory(Generic[T]):
    """What was encoded last: a call that is repeated sends the same again, and makes no new files."""

    def __init__(self, rows: PayloadRows, encode: Callable[[T], T]) -> None:
        self._rows = rows
        self._encode = encode
        self._plain: tuple[T, ...] = ()
        self._encoded: list[T] = []

    def encoded(self, rows: Sequence[T]) -> list[T]:
        if len(rows) != len(self._plain) or not all(map(is_, rows, self._plain)):
            self.forget()
            self._plain = tuple(rows)
        for row in rows[len(self._encoded) :]:
            self._encoded.append(self._encode(row))
            self._rows.forget()
        return self._encoded

    def forget(self) -> None:
        self._plain, self._encoded = (), []
        self._rows.forget()
