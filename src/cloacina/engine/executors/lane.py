"""A lane: one executor, the ready tasks that queue for it, and how many of its slots are taken."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Protocol

from cloacina.engine.executors.attempt import Attempt
from cloacina.engine.executors.protocol import ExecutorMetrics, TaskExecutor
from cloacina.model.workflow import Workflow


class Contender(Protocol):
    """An execution's driver, as the dispatcher sees it."""

    @property
    def priority(self) -> int: ...

    @property
    def workflow(self) -> Workflow: ...

    def wants(self, index: int) -> bool:
        """True if task ``index`` is still ready to start."""
        ...


class Lane:
    """See the module's text. ``queue`` is a heap by priority, then order of arrival."""

    __slots__ = ("ended", "executor", "queue", "returning", "started", "suspects", "taken", "written_off")

    def __init__(self, executor: TaskExecutor) -> None:
        self.executor = executor
        self.queue: list[tuple[int, int, Contender, int]] = []
        self.suspects: deque[tuple[Contender, int]] = deque()
        self.returning: deque[asyncio.Future[None]] = deque()
        """Bodies that gave up their slot, waited for something, and want one again."""
        self.taken = 0
        self.started = self.ended = self.written_off = 0

    def take(self) -> bool:
        """Take a slot; False if none is free."""
        if self.taken >= self.executor.slots:
            return False
        self.taken += 1
        return True

    def free(self) -> None:
        """A slot is free again: it goes to the first body that comes back, if there is one."""
        self.taken -= 1
        if self.returning:
            self.serve()

    def serve(self) -> None:
        """Give free slots to bodies that come back."""
        while self.returning and self.take():
            while self.returning:
                turn = self.returning.popleft()
                if not turn.done():
                    turn.set_result(None)
                    break
            else:
                self.taken -= 1

    async def come_back(self) -> None:
        """Have a slot: at once, or as soon as one is free."""
        if not self.returning and self.take():
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.returning.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():
                self.free()
            raise

    @property
    def waiting(self) -> int:
        """How many ready tasks wait for a slot."""
        return len(self.queue) + len(self.suspects)

    def left(self, attempt: Attempt) -> None:
        """Count an attempt of this lane that has ended."""
        self.ended += attempt.launched
        self.written_off += attempt.written_off

    def metrics(self) -> ExecutorMetrics:
        """How busy it is."""
        return ExecutorMetrics(
            slots=self.executor.slots,
            running=self.started - self.ended,
            waiting=self.waiting,
            started=self.started,
            ended=self.ended,
            written_off=self.written_off,
        )
