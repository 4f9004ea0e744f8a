"""A group: the rows that one commit writes, and what a floor must be able to do with it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import count
from typing import Any, NamedTuple, Protocol

import msgspec

from benchmarks.harness.sizes import INPUT

Rows = list[tuple[Any, ...]]
Task = tuple[str, str]
"""The execution and the task."""

RUNNER = "01900000-0000-7000-8000-000000000000"
DOCUMENT = msgspec.json.encode(INPUT).decode()
DELTA = '{"set":{"count":1}}'

_ids = count()


class Group(NamedTuple):
    """Rows of each kind, with their values in the order of the statement that writes them."""

    ends: Rows
    finishes: Rows
    new: Rows
    starts: Rows

    @classmethod
    def of(
        cls,
        *,
        ends: Sequence[Task] = (),
        finishes: Sequence[str] = (),
        new: Sequence[str] = (),
        starts: Sequence[Task] = (),
    ) -> Group:
        """The group that ends and starts these tasks, completes these executions, and makes these."""
        now = time.time_ns() // 1000
        return cls(
            [(id, task, 1, "completed", now, DELTA) for id, task in ends],
            [(id, RUNNER, "completed", now, DOCUMENT) for id in finishes],
            [(id, "chain", "0123456789abcdef", "running", DOCUMENT, 0, "[]", RUNNER, now, now) for id in new],
            [(id, task, 1, "running", RUNNER, now) for id, task in starts],
        )


class Floor(Protocol):
    """A database with the engine's tables and one alive runner, `RUNNER`, that writes one group after the other."""

    async def write(self, group: Group) -> None:
        """Return once the group is durable."""
        ...

    async def close(self) -> None: ...


def identifiers(number: int) -> list[str]:
    """Ids as long as those of executions, in ascending order like them."""
    return [f"01900000-0000-7000-8000-{next(_ids):012}" for _ in range(number)]
