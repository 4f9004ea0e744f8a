"""Rows with payloads: every column that holds one, encoded on the way in and decoded on the way out.

This is the list of what is encoded. Idempotency keys, tags, names, states and times are not: the database searches
them.
"""

from __future__ import annotations

from typing import TypeVar

import msgspec

from cloacina.errors import PayloadError, StoreRefused
from cloacina.store.payloads.payloads import DATA, Payloads, is_encoded, unreadable
from cloacina.store.payloads.place import PayloadHome, PayloadPlace
from cloacina.store.rows import (
    AttemptEnd,
    Checkpoint,
    Event,
    Fork,
    Item,
    NewExecution,
    Progress,
    StoredAttempt,
    StoredExecution,
    Verdict,
)

Ended = TypeVar("Ended", AttemptEnd, Verdict)


class PayloadRows:
    """Encodes and decodes the rows of one database.

    Encoding raises as `Payloads.encode` does. A payload that cannot be decoded raises nothing, or nobody could
    look at the rest of the row: in its place is a text for which `why_unreadable` has the error, and in place of
    an error's text the reason.
    """

    def __init__(self, payloads: Payloads, home: PayloadHome) -> None:
        self._payloads = payloads
        self._home = home
        self._made: dict[tuple[object, ...], tuple[str, str]] = {}
        """What was encoded of a row that could not be as a whole: if it is tried again, it makes no new files."""

    # On the way in.

    def new(self, row: NewExecution) -> NewExecution:
        """A row for ``executions``."""
        text = self._in(row.input, row.id, "executions.input")
        return row if text is row.input else row._replace(input=text)

    def item(self, item: Item) -> Item:
        """All rows of an item."""
        return item._replace(
            new=item.new and self.new(item.new),
            ends=[self._end(row) for row in item.ends] if item.ends else (),
            verdicts=[self._error_of(row) for row in item.verdicts] if item.verdicts else (),
            progress=item.progress and self._progress(item.progress),
            events=[self._event(row) for row in item.events] if item.events else (),
            checkpoints=[self._checkpoint(row) for row in item.checkpoints] if item.checkpoints else (),
        )

    def fork(self, fork: Fork) -> Fork:
        """All rows of a new execution that was made from an old one: they belong to the new one from here on."""
        return fork._replace(
            new=self.new(fork.new),
            attempts=tuple(self._copied(row, fork.new.id) for row in fork.attempts),
            checkpoints=tuple(self._checkpoint(row) for row in fork.checkpoints),
        )

    def _copied(self, row: StoredAttempt, execution: str) -> StoredAttempt:
        delta, error = row.delta, row.error
        if delta is not None:
            delta = self._in(delta, execution, "attempts.delta", row.task, row.attempt)
        if error is not None:
            error = self._in(error, execution, "attempts.error", row.task, row.attempt)
        return row if delta is row.delta and error is row.error else row._replace(delta=delta, error=error)

    def _end(self, row: AttemptEnd) -> AttemptEnd:
        row = self._error_of(row)
        if row.delta is None:
            return row
        text = self._in(row.delta, row.execution, "attempts.delta", row.task, row.attempt)
        return row if text is row.delta else row._replace(delta=text)

    def _error_of(self, row: Ended) -> Ended:
        if row.error is None:
            return row
        text = self._in(row.error, row.execution, "attempts.error", row.task, row.attempt)
        return row if text is row.error else row._replace(error=text)

    def _progress(self, row: Progress) -> Progress:
        result, error = row.result, row.error
        if result is not None:
            result = self._in(result, row.id, "executions.result")
        if error is not None:
            error = self._in(error, row.id, "executions.error")
        return (
            row if result is row.result and error is row.error else row._replace(result=result, error=error)
        )

    def _event(self, row: Event) -> Event:
        text = self._in(row.detail, row.execution, "events.detail", attempt=row.at, name=row.kind)
        return row if text is row.detail else row._replace(detail=text)

    def _checkpoint(self, row: Checkpoint) -> Checkpoint:
        text = self._in(row.value, row.execution, "checkpoints.value", row.task, name=row.name)
        return row if text is row.value else row._replace(value=text)

    def _in(
        self, text: str, execution: str, column: str, task: str = "", attempt: int = 0, *, name: str = ""
    ) -> str:
        if not isinstance(text, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            return text  # the store says what is the matter with such a row
        if self._payloads.leaves(text):
            return text
        where = PayloadPlace(self._home, execution, column, task, attempt, name)
        if column in DATA and is_encoded(text):
            raise StoreRefused(
                f"{where} cannot be stored: it is no JSON, but an encoded or unreadable payload"
            )
        made = self._made.get(where[1:])
        if made is None or made[0] is not text:
            made = self._made[where[1:]] = text, self._payloads.encode(text, where)
        return made[1]

    def forget(self) -> None:
        """A row was encoded as a whole, or given up."""
        self._made.clear()

    # On the way out.

    def stored(self, row: StoredExecution) -> StoredExecution:
        """An execution as it was read, with its attempts."""
        return self.listed(row)._replace(
            input=self._out(row.input, row.id, "executions.input"),
            result=self._maybe_out(row.result, row.id, "executions.result"),
            attempts=tuple(self._attempt(attempt, row.id) for attempt in row.attempts),
        )

    def listed(self, row: StoredExecution) -> StoredExecution:
        """An execution as it stands in a list: input and result are left as they are stored."""
        text = self._maybe_out(row.error, row.id, "executions.error")
        return row if text is row.error else row._replace(error=text)

    def value(self, text: str, execution: str, task: str, name: str) -> str:
        """The value of a checkpoint as it was read."""
        return self._out(text, execution, "checkpoints.value", task, name=name)

    def _attempt(self, row: StoredAttempt, execution: str) -> StoredAttempt:
        if row.delta is None and row.error is None:
            return row
        return row._replace(
            delta=self._maybe_out(row.delta, execution, "attempts.delta", row.task, row.attempt),
            error=self._maybe_out(row.error, execution, "attempts.error", row.task, row.attempt),
        )

    def _maybe_out(
        self, text: str | None, execution: str, column: str, task: str = "", attempt: int = 0
    ) -> str | None:
        return None if text is None else self._out(text, execution, column, task, attempt)

    def _out(
        self, text: str, execution: str, column: str, task: str = "", attempt: int = 0, *, name: str = ""
    ) -> str:
        where = PayloadPlace(self._home, execution, column, task, attempt, name)
        try:
            return self._payloads.decode(text, where)
        except PayloadError as error:
            if column in DATA:
                return unreadable(error)
            if column == "attempts.error":
                return _error_text(error)
            return str(error)


def _error_text(error: PayloadError) -> str:
    """What could not be read of an attempt's error, as such an error is stored."""
    return msgspec.json.encode({"type": "cloacina.errors.PayloadError", "message": str(error)}).decode()
