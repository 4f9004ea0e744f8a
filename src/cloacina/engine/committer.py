"""The committer: one group in flight, everything else gathers for the next one.

A group is what its runner wants to write at the moment the last one was finished. Its number is the fence:
the store takes number n only from the runner that wrote n - 1 and is still alive. Content and number stay
together: a group whose fate is unknown is sent again as it was. One that the store refuses for good is cut
in half until the item that it cannot take stands alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from cloacina.engine.storage.store_thread import StoreThread
from cloacina.errors import StoreRefused, StoreTimeout, StoreUnavailable
from cloacina.store.port import WriteStore
from cloacina.store.rows import ClaimRequest, Group, Item, StoredExecution


@dataclass(frozen=True, slots=True)
class Batch:
    """What wants to be written now."""

    items: tuple[Item, ...]
    claim: ClaimRequest | None = None


@dataclass(slots=True)
class Written:
    """What became of a batch: the last number used, refused items by position, executions claimed.

    Without ``answered``, the store refused the claim itself, and nobody knows what there is to claim.
    """

    number: int
    refused: dict[int, StoreRefused] = field(default_factory=dict[int, StoreRefused])
    claimed: list[StoredExecution] = field(default_factory=list[StoredExecution])
    answered: bool = True


class Source(Protocol):
    """Whose writes the committer commits."""

    def gather(self) -> Batch | None:
        """Everything to write now, or None."""
        ...

    def committed(self, batch: Batch, written: Written) -> None:
        """The batch is durable, but for what was refused."""
        ...

    def lost(self, error: BaseException) -> None:
        """Nothing more can be written: the runner is dead or the database is unusable."""
        ...


class Committer:
    """Commits for one runner: see the module's text."""

    def __init__(self, runner: str, source: Source, thread: StoreThread[WriteStore]) -> None:
        self._runner = runner
        self._source = source
        self._thread = thread
        self._number = 0
        self._busy = False
        self._idle = asyncio.Event()
        self._idle.set()
        self.closed = False

    def poke(self) -> None:
        """There is something to write: gather after all that is due on the loop now."""
        if not self._busy and not self.closed:
            self._busy = True
            self._idle.clear()
            asyncio.get_running_loop().call_soon(self._flush)

    async def drain(self) -> None:
        """Wait until nothing is in flight and nothing wants to be written."""
        while not self._idle.is_set():
            await self._idle.wait()

    def close(self) -> None:
        """Commit nothing any more; a group in flight is forgotten."""
        self.closed = True
        self._rest()

    def _flush(self) -> None:
        if self.closed:
            return
        try:
            batch = self._source.gather()
        except Exception as error:
            self._end(error)
            return
        if batch is None:
            self._rest()
            return

        def done(written: Written | None, error: BaseException | None) -> None:
            self._settle(batch, written, error)

        runner, number = self._runner, self._number
        self._thread.call(_write_job(runner, number, batch), done)

    def _settle(self, batch: Batch, written: Written | None, error: BaseException | None) -> None:
        if self.closed:
            return
        if written is None:
            self._end(error)
            return
        self._number = written.number
        try:
            self._source.committed(batch, written)
        except Exception as defect:
            self._end(defect)
            return
        asyncio.get_running_loop().call_soon(self._flush)

    def _end(self, error: BaseException | None) -> None:
        """Nothing can be written any more. A defect of the engine ends here too: loudly, and not in a stall."""
        self.close()
        self._source.lost(error or RuntimeError("the writer gave no answer"))

    def _rest(self) -> None:
        self._busy = False
        self._idle.set()


def _write_job(runner: str, number: int, batch: Batch) -> Callable[[WriteStore], Written]:
    """The job that writes a batch; run again by its thread, it goes on where it was."""
    written = Written(number)
    parts: list[tuple[int, int]] = [(0, len(batch.items))]
    unknown = False
    slow = 0  # how often in a row the group took too long
    spent = False  # True if the next number belongs to a group that was given up: nothing else may have it

    def write(store: WriteStore) -> Written:
        nonlocal unknown, slow, spent
        if not batch.items and not unknown and batch.claim is not None and not store.claimable(batch.claim):
            return written  # nothing is written where there is nothing to take: else idle runners wake each other
        while parts or spent:
            if spent:
                store.commit(Group(runner, written.number + 1, ()))
                written.number, spent = written.number + 1, False
                continue
            low, high = parts[-1]
            claim = batch.claim if len(parts) == 1 else None
            group = Group(runner, written.number + 1, batch.items[low:high], claim)
            try:
                claimed = store.commit(group)
            except StoreUnavailable:
                unknown = True
                raise
            except StoreTimeout:
                slow += 1
                if slow < 2 or high - low < 2 or unknown:
                    raise  # one that was sent before may still take effect as a whole
                slow = 0
                _halve(parts, written)
            except StoreRefused as error:
                spent, unknown = unknown, False
                _halve(parts, written, error)
                if not parts and low < high and batch.claim is not None:
                    parts.append((high, high))
            else:
                parts.pop()
                slow, unknown = 0, False
                written.number += 1
                written.claimed += claimed
        return written

    return write


def _halve(parts: list[tuple[int, int]], written: Written, error: StoreRefused | None = None) -> None:
    """Put the halves of the last part in its place; an item that stands alone is refused with ``error``."""
    low, high = parts.pop()
    if high - low > 1:
        middle = (low + high) // 2
        parts += [(middle, high), (low, middle)]
    elif low == high:
        written.answered = False
    elif error is not None:
        written.refused[low] = error
