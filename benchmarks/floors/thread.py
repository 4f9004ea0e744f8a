"""A thread that writes: one hop to it and one back for each group, as in the engine."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Protocol

from benchmarks.floors.group import Group


class Writer(Protocol):
    """What writes in the thread."""

    def commit(self, group: Group) -> None: ...

    def close(self) -> None: ...


class ThreadFloor:
    """The floor that hands its groups to a writer in a thread, in which ``opened`` makes it."""

    def __init__(self, opened: Callable[[], Writer]) -> None:
        self._opened = opened
        self._jobs: SimpleQueue[tuple[Group, asyncio.Future[None]] | None] = SimpleQueue()
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    async def write(self, group: Group) -> None:
        done: asyncio.Future[None] = self._loop.create_future()
        self._jobs.put((group, done))
        await done

    async def close(self) -> None:
        self._jobs.put(None)
        self._thread.join()

    def _serve(self) -> None:
        writer = self._opened()
        while (job := self._jobs.get()) is not None:
            group, done = job
            writer.commit(group)
            self._loop.call_soon_threadsafe(done.set_result, None)
        writer.close()
