"""Who runs next: ready attempts queue here by priority, and take slots as they become free."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator
from heapq import heappop, heappush
from itertools import count
from typing import Protocol

from cloacina.engine.executors.attempt import Attempt
from cloacina.engine.executors.local import TaskExecutor
from cloacina.model.task import Task


class Contender(Protocol):
    """An execution's driver, as the dispatcher sees it."""

    @property
    def priority(self) -> int: ...

    def wants(self, index: int) -> bool:
        """True if task ``index`` is still ready to start."""
        ...


class Dispatcher:
    """Gives the slots of an executor to ready tasks: higher priority first, then first come.

    Tasks for the loop and tasks for threads queue apart, so that neither holds up the other. A suspect, a
    task that crashed its runner before, starts only when no other suspect runs; while its body waits for
    another execution, which may be the next suspect, it counts as not running. An attempt that gave up its
    slot while it waited for another execution gets one back before any new attempt does.
    """

    def __init__(self, executor: TaskExecutor) -> None:
        self.executor = executor
        self._order = count()
        self._queues: dict[bool, list[tuple[int, int, Contender, int, Task]]] = {True: [], False: []}
        self._suspects: deque[tuple[Contender, int, Task]] = deque()
        self._suspects_run = 0
        self._returning: dict[bool, deque[asyncio.Future[None]]] = {True: deque(), False: deque()}

    def offer(self, driver: Contender, index: int, task: Task, suspect: bool) -> None:
        """Queue a ready task."""
        if suspect:
            self._suspects.append((driver, index, task))
        else:
            heappush(self._queues[task.is_async], (-driver.priority, next(self._order), driver, index, task))

    def grants(self) -> Iterator[tuple[Contender, int]]:
        """Take slots for ready tasks as long as there are both."""
        yield from self._grant_suspect()
        for queue in self._queues.values():
            while queue:
                _, _, driver, index, task = queue[0]
                if not driver.wants(index):
                    heappop(queue)
                    continue
                if not self.executor.take(task):
                    break
                heappop(queue)
                yield driver, index

    @property
    def waiting(self) -> bool:
        """True if ready tasks wait for a slot."""
        return any(self._queues.values()) or bool(self._suspects)

    def release(self, attempt: Attempt) -> None:
        """An attempt ended: its slot is free, unless it had given it up."""
        if not attempt.yielded:
            self._leave(attempt.task_object, attempt.suspect)

    def refuse(self, task: Task, suspect: bool) -> None:
        """A granted start did not come to be."""
        self._leave(task, suspect)

    def give_up(self, attempt: Attempt) -> bool:
        """A body waits for another execution; True if that freed its slot."""
        attempt.yielded += 1
        if attempt.yielded > 1 or attempt.ended:
            return False
        self._leave(attempt.task_object, attempt.suspect)
        return True

    async def take_back(self, attempt: Attempt) -> None:
        """A body goes on after a wait: have a slot again before it does. One told to stop needs none."""
        if attempt.yielded == 1 and not attempt.ended:
            if attempt.stopping is not None:
                return
            await self._have_slot(attempt.task_object)
            self._suspects_run += attempt.suspect
            if attempt.yielded > 1 or attempt.ended:
                self._leave(attempt.task_object, attempt.suspect)
        attempt.yielded -= 1

    async def _have_slot(self, task: Task) -> None:
        if self.executor.take(task):
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._returning[task.is_async].append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():
                self._free(task)
            raise

    def _leave(self, task: Task, suspect: bool) -> None:
        self._suspects_run -= suspect
        self._free(task)

    def _free(self, task: Task) -> None:
        returning = self._returning[task.is_async]
        while returning:
            turn = returning.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self.executor.give_back(task)

    def _grant_suspect(self) -> Iterator[tuple[Contender, int]]:
        while self._suspects and not self._suspects_run:
            driver, index, task = self._suspects[0]
            if driver.wants(index):
                if not self.executor.take(task):
                    return
                self._suspects_run += 1
                self._suspects.popleft()
                yield driver, index
            else:
                self._suspects.popleft()
