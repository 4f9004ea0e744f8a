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
    task that crashed its runner before, starts only when no other suspect runs. An attempt that gave up its
    slot while it waited for another execution gets one back before any new attempt does.
    """

    def __init__(self, executor: TaskExecutor) -> None:
        self.executor = executor
        self._order = count()
        self._queues: dict[bool, list[tuple[int, int, Contender, int, Task]]] = {True: [], False: []}
        self._suspects: deque[tuple[Contender, int, Task]] = deque()
        self._suspect_runs = False
        self._returning: deque[tuple[Attempt, asyncio.Future[None]]] = deque()

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
        if attempt.suspect:
            self._suspect_runs = False
        if not attempt.yielded:
            self._free(attempt.task_object)

    def refuse(self, task: Task, suspect: bool) -> None:
        """A granted start did not come to be."""
        if suspect:
            self._suspect_runs = False
        self._free(task)

    def give_up(self, attempt: Attempt) -> bool:
        """A body waits for another execution; True if that freed its slot."""
        attempt.yielded += 1
        if attempt.yielded > 1 or attempt.ended:
            return False
        self._free(attempt.task_object)
        return True

    async def take_back(self, attempt: Attempt) -> None:
        """A body goes on after a wait: have a slot again before it does."""
        if attempt.yielded > 1 or attempt.ended:
            attempt.yielded -= 1
            return
        if not self.executor.take(attempt.task_object):
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._returning.append((attempt, turn))
            await turn
        attempt.yielded -= 1

    def _free(self, task: Task) -> None:
        for position, (attempt, turn) in enumerate(self._returning):
            if attempt.task_object.is_async == task.is_async:
                del self._returning[position]
                if turn.done():
                    return self._free(task)
                turn.set_result(None)
                return None
        self.executor.give_back(task)
        return None

    def _grant_suspect(self) -> Iterator[tuple[Contender, int]]:
        while self._suspects and not self._suspect_runs:
            driver, index, task = self._suspects[0]
            if driver.wants(index):
                if not self.executor.take(task):
                    return
                self._suspect_runs = True
                self._suspects.popleft()
                yield driver, index
            else:
                self._suspects.popleft()
