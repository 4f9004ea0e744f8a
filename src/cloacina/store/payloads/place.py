"""The place of a payload: the database, the row and the column that it is stored in."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import msgspec

_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class PayloadHome:
    """A database: ``instance`` was drawn when it was made, and a copy of it keeps it.

    ``folder`` is where its payload files lie, which need not exist; None for a database in memory.
    """

    instance: str
    folder: Path | None


class PayloadPlace(NamedTuple):
    """Where one payload is stored. No two payloads of a database have the same place.

    ``column`` is ``executions.input``, ``executions.result``, ``executions.error``, ``attempts.delta``,
    ``attempts.error``, ``checkpoints.value`` or ``events.detail``; ``task``, ``attempt`` and ``name`` are those of
    the attempt or checkpoint, else empty. An event has its kind as ``name`` and its time as ``attempt``.
    """

    home: PayloadHome
    execution: str
    column: str
    task: str = ""
    attempt: int = 0
    name: str = ""

    def identity(self, *more: str) -> bytes:
        """The place as bytes that no other place has, in this database or another; ``more`` is a part of it."""
        return _encode((self.home.instance, *self[1:], *more))

    def __str__(self) -> str:
        what = self.column.partition(".")[2]
        if self.column == "checkpoints.value":
            return f"checkpoint {self.name!r} of task {self.task!r} of execution {self.execution}"
        if self.task:
            return f"the {what} of attempt {self.attempt} of task {self.task!r} of execution {self.execution}"
        return f"the {what} of execution {self.execution}"
