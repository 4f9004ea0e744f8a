"""Who runs next: ready attempts queue here by executor and priority, and take slots as they become free."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from heapq import heappop, heappush
from itertools import count

from cloacina.clock import Clock
from cloacina.engine.executors.attempt import CANCELLED, Attempt, Ending
from cloacina.engine.executors.lane import Contender, Lane
from cloacina.engine.executors.protocol import ExecutorMetrics, TaskExecutor
from cloacina.engine.executors.timelimit import TimeLimit
from cloacina.model.status import AttemptState
from cloacina.observe.logs import get_logger

log = get_logger("dispatcher")

CLOSING_SECONDS = 30.0
"""How long an executor may take to let go, beyond the time that bodies get to stop."""


class Dispatcher:
    """Gives the slots of executors to ready tasks: higher priority first, then first come.

    Each executor has a lane of its own, so that a full one holds up nobody else's tasks. A suspect, a task
    that crashed its runner before, starts only when no other suspect runs; while its body waits for another
    execution, which may be the next suspect, it counts as not running. A body that gave up its slot while it
    waited gets one back before any new attempt does.

    ``routes`` has, by the name of a workflow, the executor of each of its tasks in canonical order. ``quiet``
    is called whenever no slot is taken any more.
    """

    def __init__(
        self,
        executors: Mapping[str, TaskExecutor],
        routes: Mapping[str, tuple[str, ...]],
        clock: Clock,
        quiet: Callable[[], None],
    ) -> None:
        self.lanes = {name: Lane(executor) for name, executor in executors.items()}
        self._routes = routes
        self._clock = clock
        self._quiet = quiet
        self._order = count()
        self._suspects_run = 0

    def lane(self, workflow: str, index: int) -> Lane:
        """The lane of a task."""
        return self.lanes[self._routes[workflow][index]]

    @property
    def bodies(self) -> int:
        """How many slots are taken: by bodies, or for them."""
        return sum(lane.taken for lane in self.lanes.values())

    # Slots.

    def offer(self, driver: Contender, index: int, suspect: bool) -> None:
        """Queue a ready task."""
        lane = self.lane(driver.workflow.name, index)
        if suspect:
            lane.suspects.append((driver, index))
        else:
            heappush(lane.queue, (-driver.priority, next(self._order), driver, index))

    def grants(self) -> Iterator[tuple[Contender, int]]:
        """Take slots for ready tasks as long as there are both."""
        for lane in self.lanes.values():
            if lane.returning:
                lane.serve()
            if lane.suspects:
                yield from self._grant_suspect(lane)
            queue = lane.queue
            while queue:
                _, _, driver, index = queue[0]
                if not driver.wants(index):
                    heappop(queue)
                    continue
                if not lane.take():
                    break
                heappop(queue)
                yield driver, index

    @property
    def waiting(self) -> bool:
        """True if ready tasks wait for a slot."""
        return any(lane.waiting for lane in self.lanes.values())

    def release(self, attempt: Attempt) -> None:
        """An attempt ended: its slot is free, unless it had given it up."""
        lane = self.lane(attempt.workflow, attempt.index)
        lane.left(attempt)
        if attempt.slot:
            attempt.slot = False
            self._leave(lane, attempt.suspect)

    def refuse(self, driver: Contender, index: int, suspect: bool) -> None:
        """A granted start did not come to be."""
        self._leave(self.lane(driver.workflow.name, index), suspect)

    def give_up(self, attempt: Attempt) -> bool:
        """A body waits for something outside; True if that freed its slot."""
        attempt.yielded += 1
        if not attempt.slot:
            return False
        attempt.slot = False
        self._leave(self.lane(attempt.workflow, attempt.index), attempt.suspect)
        return True

    async def take_back(self, attempt: Attempt) -> None:
        """A body goes on after a wait: have a slot again before it does. One told to stop needs none."""
        try:
            if attempt.yielded == 1 and not attempt.ended and attempt.stopping is None:
                await self._come_back(attempt)
        finally:
            attempt.yielded -= 1

    async def _come_back(self, attempt: Attempt) -> None:
        lane = self.lane(attempt.workflow, attempt.index)
        await lane.come_back()
        self._suspects_run += attempt.suspect
        if attempt.yielded > 1 or attempt.ended:
            self._leave(lane, attempt.suspect)
        else:
            attempt.slot = True

    def _leave(self, lane: Lane, suspect: bool) -> None:
        self._suspects_run -= suspect
        lane.free()
        if not lane.taken and not self.bodies:
            self._quiet()

    def _grant_suspect(self, lane: Lane) -> Iterator[tuple[Contender, int]]:
        while lane.suspects and not self._suspects_run:
            driver, index = lane.suspects[0]
            if driver.wants(index):
                if not lane.take():
                    return
                self._suspects_run += 1
                lane.suspects.popleft()
                yield driver, index
            else:
                lane.suspects.popleft()

    # Bodies.

    def start(self, attempt: Attempt) -> None:
        """Run the body of an attempt that has a slot, and the clock of its timeout."""
        lane = self.lane(attempt.workflow, attempt.index)
        lane.started += 1
        attempt.launched = True
        timeout = attempt.task_object.timeout
        if timeout is not None:
            attempt.limit = TimeLimit(
                self._clock, timeout, lambda: self.stop(attempt, AttemptState.TIMED_OUT)
            )
            attempt.limit.run()
        try:
            lane.executor.start(attempt)
        except Exception as error:
            attempt.end(Ending(AttemptState.FAILED, error=error))

    def stop(self, attempt: Attempt, why: AttemptState) -> None:
        """Tell a body to stop; its attempt's ending will be ``why``."""
        if attempt.ended:
            return
        attempt.stopping = why
        if not attempt.launched:
            attempt.end(CANCELLED)
            return
        try:
            self.lane(attempt.workflow, attempt.index).executor.stop(attempt)
        except Exception:
            log.exception("an executor could not stop a body, which is written off")
            attempt.write_off()

    def metrics(self) -> dict[str, ExecutorMetrics]:
        """How busy each executor is."""
        return {name: lane.metrics() for name, lane in self.lanes.items()}

    async def close(self, grace: float) -> None:
        """Close every executor; one that takes much longer than ``grace`` seconds is left behind."""
        await asyncio.gather(*(self._close(name, lane, grace) for name, lane in self.lanes.items()))

    async def _close(self, name: str, lane: Lane, grace: float) -> None:
        try:
            async with asyncio.timeout(grace + CLOSING_SECONDS):
                await lane.executor.close()
        except Exception:
            log.exception("executor %r could not be closed", name)
