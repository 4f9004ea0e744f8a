"""The committer: one group in flight, everything else gathers for the next one.

A group is what its runner wants to write at the moment the last one was finished. Its number is the fence:
the store takes number n only from the runner that wrote n - 1 and is still alive. Content and number stay
together: a group whose fate is unknown is sent again as it was. One that the store refuses for good is cut
in half until the item that it cannot take stands alone; if it may have been stored before that, it is made void
first, or found to be stored.
"""

from __future__ import annotations

import asyncio
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

        self._thread.call(WriteJob(self._runner, self._number, batch), done)

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


class WriteJob:
    """Writes a batch. Run again by its thread after an error that a wait can mend, it goes on where it was."""

    def __init__(self, runner: str, number: int, batch: Batch) -> None:
        self._runner = runner
        self._batch = batch
        self._written = Written(number)
        self._parts: list[tuple[int, int]] = [(0, len(batch.items))]
        self._unknown = False
        """True while the next group may have been stored already, and the answer was lost."""
        self._doubt: StoreRefused | None = None
        """Why such a group was refused when it was sent again."""
        self._slow = 0
        """How often in a row the group took too long."""

    def __call__(self, store: WriteStore) -> Written:
        batch, written = self._batch, self._written
        fresh = not (batch.items or self._unknown or self._doubt)
        if fresh and batch.claim is not None and not store.claimable(batch.claim):
            return written  # nothing is written where there is nothing to take: else idle runners wake each other
        while self._parts:
            if self._doubt is not None and store.void(self._runner, written.number + 1):
                written.number += 2
                self._refuse(self._doubt)
            else:
                self._send(store)
        return written

    def _send(self, store: WriteStore) -> None:
        low, high = self._parts[-1]
        claim = self._batch.claim if len(self._parts) == 1 else None
        # In doubt, and not void, the items are stored: only the answer is wanted.
        items = () if self._doubt else self._batch.items[low:high]
        try:
            claimed = store.commit(Group(self._runner, self._written.number + 1, items, claim))
        except StoreUnavailable:
            self._unknown = True
            raise
        except StoreTimeout:
            self._slow += 1
            if self._slow < 2 or high - low < 2 or self._unknown or self._doubt:
                raise  # one that was sent before may still take effect as a whole
            self._slow = 0
            self._halve()
        except StoreRefused as error:
            if self._doubt:
                raise
            if self._unknown:
                self._doubt = error
            else:
                self._refuse(error)
        else:
            self._parts.pop()
            self._slow, self._unknown, self._doubt = 0, False, None
            self._written.number += 1
            self._written.claimed += claimed

    def _refuse(self, error: StoreRefused) -> None:
        """The last part is not stored, and never will be as it is."""
        self._unknown, self._doubt = False, None
        low, high = self._parts[-1]
        self._halve(error)
        if not self._parts and low < high and self._batch.claim is not None:
            self._parts.append((high, high))

    def _halve(self, error: StoreRefused | None = None) -> None:
        """Put the halves of the last part in its place; an item that stands alone is refused with ``error``."""
        low, high = self._parts.pop()
        if high - low > 1:
            middle = (low + high) // 2
            self._parts += [(middle, high), (low, middle)]
        elif low == high:
            self._written.answered = False
        elif error is not None:
            self._written.refused[low] = error
