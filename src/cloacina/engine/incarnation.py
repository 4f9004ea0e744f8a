"""One life of a runner: from its registration under a new id to its end.

It owns executions: it drives them, gathers what they want to write, and claims more as there is room. It
ends by `stop` (everything is given back), or because it was declared dead or gave up its lease: then what
it still has in memory is worthless, its bodies are told to stop, and the engine begins a new life.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import cast

from cloacina.clock import Clock, Randomness
from cloacina.engine.asking.hub import Hub
from cloacina.engine.bodies.courier import Courier
from cloacina.engine.bodies.settlements import Settlements
from cloacina.engine.claims import Claims
from cloacina.engine.committer import Batch, Committer, Written
from cloacina.engine.driving.calling import call_for_execution, call_for_task
from cloacina.engine.driving.driver import Driver
from cloacina.engine.driving.inbox import Inbox
from cloacina.engine.driving.records import as_stored, result_of
from cloacina.engine.driving.refusals import Refusals
from cloacina.engine.executors.attempt import Attempt
from cloacina.engine.executors.callbacks import Callbacks
from cloacina.engine.executors.dispatcher import Dispatcher
from cloacina.engine.executors.protocol import ExecutorFactory, ExecutorHost
from cloacina.engine.executors.roster import made
from cloacina.engine.liveness.doorbell import Doorbell
from cloacina.engine.liveness.lease import Lease
from cloacina.engine.liveness.starts import Starts
from cloacina.engine.mailbox import Mailbox
from cloacina.engine.registry import Registry
from cloacina.engine.storage.storage import Storage
from cloacina.engine.storage.store_thread import StoreThread
from cloacina.engine.upkeep.unreadable import UNREADABLE
from cloacina.errors import ExecutionParked, StoreRefused
from cloacina.model.ids import new_id
from cloacina.model.json.values import JSON, Limits
from cloacina.model.result import ErrorInfo
from cloacina.model.status import AttemptState, ExecutionStatus, TaskState
from cloacina.model.workflow import Workflow
from cloacina.observe.logs import get_logger
from cloacina.settings import Settings
from cloacina.store.port import ReadStore, WriteStore
from cloacina.store.rows import Item, NewExecution, StoredExecution

log = get_logger("runner")

Answer = Callable[[BaseException | None], None]


@dataclass(frozen=True, slots=True)
class Means:
    """What every life of a runner uses."""

    settings: Settings
    clock: Clock
    randomness: Randomness
    limits: Limits
    writer: StoreThread[WriteStore]
    reader: StoreThread[ReadStore]
    registry: Registry
    hub: Hub
    callbacks: Callbacks
    executors: Mapping[str, ExecutorFactory]
    peers: Callable[[], int]
    """How many other runners are alive, as far as is known."""
    bell: Doorbell
    storage: Storage


class Incarnation:
    """See the module's text. It is the `Host` of its drivers and the `Source` of its committer."""

    def __init__(
        self, means: Means, lease: Callable[[str], Lease], lost: Callable[[str, BaseException], None]
    ) -> None:
        self.means = means
        self.clock = means.clock
        self.randomness = means.randomness
        self.limits = means.limits
        self.crash_cap = means.settings.crash_cap
        self.runner = new_id(means.clock.now())
        self.lease = lease(self.runner)
        self.committer = Committer(self.runner, self, means.writer)
        self._quiet = asyncio.Event()
        mailbox = Mailbox(asyncio.get_running_loop())
        place = ExecutorHost(
            means.settings,
            means.clock,
            means.limits,
            mailbox.post,
            self.committer.poke,
            means.registry.policy,
        )
        executors = {name: made(name, make, place) for name, make in means.executors.items()}
        self.dispatcher = Dispatcher(executors, means.registry.routes, means.clock, self._quiet.set)
        self._starts = Starts(self.lease, self.dispatcher.start, means.clock, means.settings.poll_interval)
        self.closing: asyncio.Task[None] | None = None
        """The closing of the executors, once it has begun."""
        self.drivers: dict[str, Driver] = {}
        self.inbox = Inbox()
        self.courier = Courier(self, means.reader)
        self.settlements = Settlements(self, means.settings, means.storage)
        self.claims = Claims(
            means.registry, means.reader, means.clock, means.settings, self.committer.poke, means.peers
        )
        self.stopping = False
        self._lost = lost
        self._heard: deque[Driver] = deque()
        self._batch: list[Driver] = []
        self._unanswered: dict[str, tuple[NewExecution, Answer]] = {}
        self.refusals = Refusals(self.runner, means.reader, self.gone)
        self._active = 0
        self._hurried = False

    # New and claimed executions.

    def room(self) -> bool:
        """True if a new execution may be owned at once."""
        return (
            not self.claims.unowned_work and self._active < self.means.settings.window and not self.stopping
        )

    def adopt(
        self,
        new: NewExecution,
        workflow: Workflow,
        input: dict[str, JSON],
        stored: Answer,
    ) -> None:
        """Own a new execution; ``stored`` is called when it is durable, or with the error if it is refused."""
        driver = Driver(self, workflow, as_stored(new, self.runner))
        self.drivers[new.id] = driver
        self._unanswered[new.id] = (new, stored)
        driver.create(input)
        self._count(driver, True)

    # The end.

    async def stop(self, grace: float) -> None:
        """Start nothing more, let running bodies finish for ``grace`` seconds, then cut the others."""
        self.stopping = True
        self.claims.close()
        if self.dispatcher.bodies:
            log.warning(
                "bodies that still run: %d; they get %ss to end, or a second stop",
                self.dispatcher.bodies,
                grace,
            )
        try:
            async with asyncio.timeout(grace):
                await self._run_out()
        except TimeoutError:
            if self.dispatcher.bodies:
                log.warning("bodies that did not end and are cut: %d", self.dispatcher.bodies)
        try:
            async with asyncio.timeout(max(grace, 1.0)):
                await self._drain()
        except TimeoutError:
            log.error("the database takes no writes; what is not stored yet is done again by the next runner")
            self.means.writer.give_up()
            self.means.reader.give_up()
        works = [work for driver in self.drivers.values() for work in driver.works()]
        self.abandon()
        if works:
            await asyncio.wait(works, timeout=self.means.settings.cancel_grace)
        await self.closed()

    async def closed(self) -> None:
        """Wait until the executors have let go of everything, once they were told to."""
        if self.closing is not None:
            await self.closing

    async def _run_out(self) -> None:
        """Wait for running bodies, and for those that go on once these have ended: they waited for them."""
        while self.dispatcher.bodies and not self._hurried:
            self._quiet.clear()
            await self._quiet.wait()
            await self._drain()

    async def _drain(self) -> None:
        """Wait until nothing is being committed, and nothing wants to be."""
        await self.committer.drain()
        while await self.settlements.drained():
            await self.committer.drain()

    def cut_short(self) -> None:
        """A stop, in progress or to come, waits no longer for bodies."""
        self._hurried = True
        self._quiet.set()

    def abandon(self) -> None:
        """Drop everything in memory: bodies are told to stop, their results are refused."""
        self.stopping = True
        self.committer.close()
        self.claims.close()
        for driver in list(self.drivers.values()):
            driver.drop()
        self.drivers.clear()
        self.settlements.close()
        if self.closing is None:
            closing = self.dispatcher.close(self.means.settings.cancel_grace)
            self.closing = asyncio.get_running_loop().create_task(closing)

    def unacknowledged(self) -> dict[str, tuple[NewExecution, Answer]]:
        """New executions whose submit has not been answered: they must be stored another way."""
        waiting, self._unanswered = self._unanswered, {}
        return waiting

    # Host of the drivers.

    def hear(self, driver: Driver) -> None:
        if not driver.heard:
            driver.heard = True
            self._heard.append(driver)
            self.committer.poke()

    def offer(self, driver: Driver, index: int) -> None:
        self.dispatcher.offer(driver, index, driver.state.suspect(index))
        self._recount(driver)
        self.committer.poke()

    def release(self, attempt: Attempt) -> None:
        self.dispatcher.release(attempt)
        self.committer.poke()

    def refuse_grant(self, driver: Driver, index: int) -> None:
        self.dispatcher.refuse(driver, index, driver.state.suspect(index))

    def launch(self, attempt: Attempt) -> None:
        if attempt.task_object.transaction_parameter is not None:
            self.settlements.prepare(attempt)
        self._starts.start(attempt)

    def roll_back(self, attempt: Attempt) -> None:
        self.settlements.roll_back(attempt)

    def cut(self, attempt: Attempt) -> None:
        self.dispatcher.stop(attempt, AttemptState.CANCELLED)

    def task_ended(self, driver: Driver, index: int, state: TaskState, error: ErrorInfo | None) -> None:
        call_for_task(self.means.callbacks, driver, self.limits, index, state, error)

    def gone(self, driver: Driver) -> None:
        self.drivers.pop(driver.id, None)
        self._count(driver, False)
        self._set_alarm(driver)
        self.means.bell.ring()
        if driver.status is ExecutionStatus.PARKED and driver.draft.progress is not None:
            why = f"execution {driver.id} was set aside: {driver.draft.progress.error}"
            self.means.hub.refuse(driver.id, ExecutionParked(why))
        if driver.status in (ExecutionStatus.PAUSED, ExecutionStatus.PARKED):
            self.claims.look_for_work()  # a command that was left for this runner may have resumed it
        if not driver.status.terminal or driver.unstored:
            return
        draft, ids = driver.draft, driver.state.dag.ids
        self.means.hub.tell(driver.id, lambda: result_of(draft.stored(), ids))
        call_for_execution(self.means.callbacks, driver, self.limits)

    def _set_alarm(self, driver: Driver) -> None:
        ended = driver.draft.progress
        if ended is not None and ended.wake_at is not None:
            self.claims.wake_up_at(ended.wake_at)

    # Waits of bodies for other executions.

    def runs(self, attempt: Attempt) -> bool:
        """True if ``attempt`` is one of this life's, and its body has not been written off."""
        driver = self.drivers.get(attempt.execution)
        return driver is not None and driver.running.get(attempt.index) is attempt

    def give_up_slot(self, attempt: Attempt) -> None:
        """The body of ``attempt`` waits for another execution."""
        if self.dispatcher.give_up(attempt):
            self.committer.poke()
        self._recount_of(attempt)

    async def take_back_slot(self, attempt: Attempt) -> None:
        """The wait is over: go on once there is a slot."""
        await self.dispatcher.take_back(attempt)
        self._recount_of(attempt)

    # Source of the committer.

    def gather(self) -> Batch | None:
        now = self.clock.now()
        chosen: dict[str, Driver] = {}
        rows, most = 0, self.means.settings.group_rows
        while self._heard and rows < most:
            driver = self._heard.popleft()
            rows += driver.digest(now)
            chosen[driver.id] = driver
        if not self.stopping:
            for contender, index in self.dispatcher.grants():
                driver = cast(Driver, contender)
                driver.grant(index, now)
                chosen[driver.id] = driver
        self._batch = []
        items: list[Item] = []
        for driver in chosen.values():
            self._store_away(driver, now)
            item = driver.seal(now)
            self._recount(driver)
            if item is None:
                continue
            if driver.settling is not None:
                self.settlements.settle(driver, item)
            else:
                items.append(item)
                self._batch.append(driver)
        claim = self.claims.request(now, self._active, self.dispatcher.waiting)
        return Batch(tuple(items), claim) if items or claim else None

    def committed(self, batch: Batch, written: Written) -> None:
        now = self.clock.now()
        for position, driver in enumerate(self._batch):
            refusal = written.refused.get(position)
            if refusal is not None:
                self._refused(driver, refusal)
                continue
            unanswered = self._unanswered.pop(driver.id, None)
            if unanswered is not None:
                unanswered[1](None)
            driver.committed(now)
        if any(item.obeyed for item in batch.items):
            self.means.bell.ring()
            self.means.bell.wake()  # who asked may be in this process
        if batch.claim is not None:
            self.claims.answered(batch.claim, len(written.claimed) if written.answered else None)
            self._take_over(written.claimed)
        if self._heard:
            self.committer.poke()

    def lost(self, error: BaseException) -> None:
        self._lost(self.runner, error)

    def _store_away(self, driver: Driver, now: int) -> None:
        """Give up an execution that only waits, if too many such are in memory."""
        others = len(self.drivers) - self._active - (not driver.counted)
        if others < self.means.settings.max_waiting or not driver.waits:
            return
        wake_at = driver.wake_at
        if wake_at is not None:
            driver.draft.store_away(wake_at)

    def _take_over(self, claimed: list[StoredExecution]) -> None:
        for stored in claimed:
            if stored.id not in self.drivers:
                driver = Driver(self, self.means.registry.get(stored.workflow), stored)
                self.drivers[stored.id] = driver
                try:
                    driver.restore(stored)
                except Exception as error:
                    log.error("what is stored of an execution cannot be read", extra={"execution": stored.id})
                    driver.park(f"{UNREADABLE}: {error}")
                self.inbox.hand_over(stored.id, driver.obey)
                self._recount(driver)

    def _refused(self, driver: Driver, error: StoreRefused) -> None:
        unanswered = self._unanswered.pop(driver.id, None)
        if unanswered is None:
            self.refusals.handle(driver, error)
            return
        driver.drop()
        self.gone(driver)
        unanswered[1](error)

    # The window.

    def _recount_of(self, attempt: Attempt) -> None:
        driver = self.drivers.get(attempt.execution)
        if driver is not None:
            self._recount(driver)

    def _recount(self, driver: Driver) -> None:
        self._count(driver, driver.active and driver.id in self.drivers)

    def _count(self, driver: Driver, counts: bool) -> None:
        if counts != driver.counted:
            driver.counted = counts
            self._active += 1 if counts else -1
            if not counts and self.claims.unowned_work:
                self.committer.poke()
