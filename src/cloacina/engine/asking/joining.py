"""Joining: a submit through a connection of the caller's, within the transaction that is open there.

The engine prepares the row, and the statements that insert it run where the connection belongs: on the event loop, or
on the thread that waits in a blocking call. For a connection that blocks, given to the asynchronous runner, it is a
thread of its own, while the caller waits and the loop goes on. The transaction stays the caller's: what is stored has
no owner, and for everybody else it is not there before the commit.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from concurrent import futures
from functools import partial
from queue import Empty, SimpleQueue
from typing import TypeAlias, TypeVar

from cloacina.engine.storage.storage import Storage
from cloacina.errors import ValidationError
from cloacina.store.port import JoiningStore
from cloacina.store.postgres.joining.connections import Awaited, Blocking, recognised
from cloacina.store.rows import NewExecution, StoredExecution
from cloacina.store.script import run, run_awaiting

T = TypeVar("T")
Holders: TypeAlias = list[StoredExecution | None]


class Joint:
    """A connection of the caller's, for one submit; ``perform`` has a job done on the thread that may block for it."""

    def __init__(
        self,
        store: JoiningStore,
        connection: Blocking | Awaited,
        perform: Callable[[Callable[[], Holders]], Awaitable[Holders]],
        encodes: bool,
    ) -> None:
        self._store = store
        self._connection = connection
        self._perform = perform
        self._encodes = encodes

    @classmethod
    async def of(cls, storage: Storage, connection: object) -> Joint:
        """Recognise ``connection``, or the one that it lends.

        Raises `ValidationError` on SQLite, and for a connection that cannot be joined.
        """
        store = await storage.joining()
        if not isinstance(connection, Lent):
            return cls(store, recognised(connection), _on_a_thread, storage.encodes)
        known = await connection.perform(partial(recognised, connection.lent))
        if isinstance(known, Awaited):
            raise ValidationError(
                "connection= belongs to an event loop, and this call blocks: give it a connection that blocks, or "
                "await the asynchronous runner or client on that loop"
            )
        return cls(store, known, connection.perform, storage.encodes)

    async def insert(self, rows: Sequence[NewExecution]) -> Holders:
        """Do as `JoiningStore.insert_unowned` says."""
        make, connection = self._store.insert_unowned, self._connection
        script = await asyncio.to_thread(make, rows) if self._encodes else make(rows)
        if isinstance(connection, Awaited):
            return await run_awaiting(script, connection.fetch)
        return await self._perform(partial(run, script, connection.fetch))


class Lent:
    """What a blocking call was given as connection: whatever is done on it is done on the thread that waits."""

    def __init__(self, lent: object) -> None:
        self.lent = lent
        self._jobs: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._call: object = None

    async def perform(self, job: Callable[[], T]) -> T:
        """Have ``job`` done on the thread that serves."""
        answer: futures.Future[T] = futures.Future()

        def work() -> None:
            try:
                answer.set_result(job())
            except Exception as error:
                answer.set_exception(error)

        self._jobs.put(work)
        return await asyncio.wrap_future(answer)

    def serve(self, call: futures.Future[T], seconds: float) -> bool:
        """Do what comes within ``seconds``; return True once ``call`` has ended."""
        if self._call is not call:
            self._call = call
            call.add_done_callback(lambda _: self._jobs.put(_nothing))
        try:
            self._jobs.get(timeout=seconds)()
        except Empty:
            pass
        return call.done()


async def _on_a_thread(job: Callable[[], T]) -> T:
    """Do ``job`` on a thread; a caller who is cancelled has the connection back only when that is done with it."""
    work = asyncio.ensure_future(asyncio.to_thread(job))
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        await asyncio.wait({work})
        raise


def _nothing() -> None:
    return None
