"""A batch: every row of one kind, written by one statement from one JSON text.

A statement gives the interpreter lock back only at its edges. Row by row, a writer thread fights the event
loop for it once per row; see `docs/decisions/0001-one-statement-per-row-kind.md`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec

from cloacina.errors import StoreRefused
from cloacina.store.session import Session

CHUNK_BYTES = 16_000_000
"""A JSON text longer than this is split, so that no database needs much more memory than that."""

_encode = msgspec.json.Encoder().encode


class RowKind(NamedTuple):
    """One kind of row: what it is called, how it is written, and how a row that did not fit is found.

    Both statements take the rows as one JSON text; ``unfit`` returns the identifying columns of those rows
    that ``write`` would not write.
    """

    noun: str
    complaint: str
    write: str
    unfit: str


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows of one kind, as text. ``count`` rows must be written, or none."""

    kind: RowKind
    text: str
    count: int


class Unfit(StoreRefused):
    """A batch did not fit. Raised within the transaction; `explained` says more once it is rolled back."""

    def __init__(self, batch: Batch, cause: str) -> None:
        super().__init__(cause)
        self.batch = batch


def batches(kind: RowKind, rows: Sequence[tuple[Any, ...]]) -> Iterator[Batch]:
    """``rows`` as batches, one unless they are long; raises `StoreRefused` for a row that no text can hold."""
    waiting = [rows] if rows else []
    while waiting:
        part = waiting.pop()
        text = encode(part)
        if len(text) > CHUNK_BYTES and len(part) > 1:
            middle = len(part) // 2
            waiting += [part[middle:], part[:middle]]
        else:
            yield Batch(kind, text, len(part))


def write(session: Session, batch: Batch) -> None:
    """Write a batch within the current transaction; raises `Unfit` if not exactly its rows were written."""
    try:
        changed = session.change(batch.kind.write, (batch.text,))
    except StoreRefused as error:
        raise Unfit(batch, str(error.__cause__ or error)) from error
    if changed != batch.count:
        raise Unfit(batch, f"{changed} of {batch.count} {batch.kind.noun} were written")


def explained(session: Session, unfit: Unfit) -> StoreRefused:
    """``unfit`` with the rows that caused it; to be called after the transaction was rolled back."""
    kind = unfit.batch.kind
    rows = session.rows(kind.unfit, (unfit.batch.text,))
    named = ", ".join("/".join(map(str, row)) for row in rows) or "a row that is there twice"
    return StoreRefused(f"{session.location}: {kind.complaint}: {named} ({unfit}); nothing was written")


def encode(value: object) -> str:
    """``value`` as JSON text for a statement; raises `StoreRefused` if it has no such text."""
    try:
        return str(_encode(value), "utf-8")
    except (UnicodeError, OverflowError, TypeError, ValueError) as error:
        raise StoreRefused(f"a row cannot be stored: {error}") from error


def column(values: Iterable[str]) -> str:
    """``values`` as the JSON text of rows that have one column each."""
    return encode([(value,) for value in values])
