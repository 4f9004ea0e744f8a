"""The engine behind a runner: it opens the database, lives one life after the other, and closes it.

A life (`Incarnation`) has an id and a lease. When it is declared dead, or gives up its lease because the
event loop was blocked, the engine starts a new one; those who wait for executions in this process notice
nothing. What cannot be mended by a new life, such as a damaged file, breaks the engine: everybody who waits
is told, and every later call raises the same error.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from os import PathLike

from cloacina.clock import Clock
from cloacina.engine.asking.access import Access
from cloacina.engine.asking.intake import Answer
from cloacina.engine.executors.callbacks import Callbacks
from cloacina.engine.executors.process.place import refuse_while_loading
from cloacina.engine.executors.roster import Roster
from cloacina.engine.incarnation import Incarnation, Means
from cloacina.engine.liveness.files.lease import FileLease
from cloacina.engine.liveness.lease import Lease
from cloacina.engine.liveness.presence import Presence, presence_of
from cloacina.engine.liveness.recovery import Recovery
from cloacina.engine.machine import Machine
from cloacina.engine.registry import Registry
from cloacina.engine.service import Service
from cloacina.engine.storage.storage import Storage
from cloacina.engine.upkeep.adoption import Adoption
from cloacina.engine.upkeep.unreadable import try_again
from cloacina.engine.upkeep.upkeep import Upkeep
from cloacina.errors import ExecutionParked, Fenced, ForeignConnection, RunnerClosed, StoreError
from cloacina.model.json.values import Limits
from cloacina.model.status import Reason, RunnerState
from cloacina.model.workflow import Workflow
from cloacina.observe.logs import get_logger
from cloacina.settings import Settings
from cloacina.store.payloads.payloads import Payloads
from cloacina.store.rows import RunnerRow

log = get_logger("engine")


class Engine:
    """See the module's text. Made, started and stopped on one event loop."""

    clock: Clock
    means: Means
    life: Incarnation
    access: Access
    upkeep: Upkeep
    _presence: Presence

    def __init__(
        self,
        url: str | PathLike[str],
        settings: Settings,
        machine: Machine | None = None,
        payloads: Payloads | None = None,
        roster: Roster | None = None,
        schema: str | None = None,
    ) -> None:
        self.url = url
        self.schema = schema
        self.settings = settings
        self.machine = machine or Machine()
        self._payloads = payloads
        self._roster = roster or Roster.of()
        self.registry = Registry(self._roster.routing)
        self._callbacks = Callbacks(settings.callback_timeout)
        self._recovery: Recovery | None = None
        self._services: list[Service] = []
        self._rebirth: asyncio.Task[None] | None = None
        self._registered: set[str] = set()
        self._broken: BaseException | None = None
        self._unheard: tuple[str, BaseException] | None = None
        """The loss of a life, by its runner's id, that came while the engine started or began another one."""
        self.open = False
        self._hurried = False
        self._former: list[Incarnation] = []
        """Earlier lives whose executors may not have let go of everything."""

    async def start(self, workflows: Sequence[Workflow]) -> None:
        """Open the database, begin a life, recover the dead, register ``workflows``, claim what waits."""
        refuse_while_loading()
        unsafe = self.settings.allow_unsafe_server
        self._storage = Storage(
            self.url, self._payloads, self.schema, allow_unsafe=unsafe, machine=self.machine
        )
        self.clock = self.machine.clock
        self.registry.transactions = self._storage.has_transactions
        for workflow in workflows:
            self.registry.add(workflow)
        await self._storage.open(self.settings.start_patience)
        try:
            await self._open(self._storage)
        except BaseException:
            await self._undo_start()
            raise
        self.open = True
        self._hear_again()
        self.upkeep = Upkeep(self._storage, self.settings, self.clock, self._moved)
        self.upkeep.start()

    async def stop(self, grace: float) -> None:
        """Start nothing more, let bodies finish for ``grace`` seconds, give back what is owned, close."""
        if not self.open:
            return
        self.open = False
        if self._rebirth is not None:
            await self._in_time(self._rebirth, grace)
        if self._broken is None:
            await self.life.stop(0 if self._hurried else grace)
        await self._in_time(self.access.bell.stop(), grace)
        await self._in_time(self.upkeep.stop(), grace)
        for service in self._services:
            await self._in_time(service.stop(), grace)
        if self._broken is None:
            try:
                await self._in_time(self._end_life(self.life, Reason.SHUTDOWN), grace)
            except StoreError as error:
                log.error("the runner could not be stored as stopped; others will find it dead: %s", error)
        await self._callbacks.finish()
        for life in (*self._former, self.life):
            await life.closed()
        await self._presence.close()
        await self._storage.close()
        self._answer_all(
            RunnerClosed(
                "the runner was shut down before this execution was surely stored: look with the next runner"
            )
        )
        self.access.hub.fail(
            RunnerClosed(
                "the runner was shut down before the execution ended; the next runner goes on with it"
            )
        )

    async def abandon(self) -> None:
        """End as a kill would, in a process that goes on: nothing is given back, the runner's row stays alive.

        For tests, on SQLite. What its machine was asked to write is written, unless the machine is dead too. Bodies
        are told to stop, and those on threads are not waited for.
        """
        self.open = False
        works = [work for driver in self.life.drivers.values() for work in driver.works()]
        self.life.abandon()
        self.means.writer.give_up()
        self.means.reader.give_up()
        await self.access.bell.stop()
        await self.upkeep.stop()
        for service in self._services:
            await service.stop()
        if isinstance(self.life.lease, FileLease):
            self.life.lease.drop()
        await self._presence.close()
        if works:
            await asyncio.wait(works, timeout=self.settings.cancel_grace)
        await self._storage.close()

    def hurry(self) -> None:
        """A stop in progress waits no longer for bodies."""
        self._hurried = True
        self.life.cut_short()

    async def _in_time(self, work: Awaitable[None], grace: float) -> None:
        """Do ``work``; a database that does not take part by then is not waited for any longer."""
        task = asyncio.ensure_future(work)
        if not (await asyncio.wait({task}, timeout=max(grace, 1.0)))[0]:
            self.means.writer.give_up()
            self.means.reader.give_up()
            self._presence.give_up()
        await task

    def check(self, *, leaving: bool = False) -> None:
        """Raise `RunnerClosed`, or the error that broke the engine, if it cannot take work.

        With ``leaving``, a runner that is being stopped still takes it: its last bodies may need it.
        """
        if self._broken is not None:
            raise self._broken
        if not self.open and not (leaving and self.life.stopping):
            raise RunnerClosed("the runner is not running: use it inside `async with Runner(...)`")

    async def register(self, workflow: Workflow) -> None:
        """Have a workflow, in memory and in the store, before anything of it is stored."""
        self.registry.add(workflow)
        if workflow.name not in self._registered:
            await self._register([self.registry.get(workflow.name)])
            await self._adoption.look()
            self.life.claims.look_for_work()
            self.life.claims.expect_sleepers()
            self.access.bell.ring()

    async def _open(self, storage: Storage) -> None:
        limits = Limits(self.settings.max_value_bytes, self.settings.max_context_bytes)
        self._presence = presence_of(storage, self.settings, self._look_around)
        await self._presence.open()
        bell = self._presence.bell
        self.access = Access(storage, self.settings, self.clock, bell, stored=self._stored)
        self.access.left = self._obey
        self.access.forks.registry = self.registry
        self.means = Means(
            self.settings,
            self.clock,
            self.machine.randomness,
            limits,
            storage.writer,
            storage.reader,
            self.registry,
            self.access.hub,
            self._callbacks,
            self._roster.factories,
            lambda: 0 if self._recovery is None else self._recovery.peers,
            bell,
            storage,
        )
        self._adoption = Adoption(
            lambda: [workflow for workflow in self.registry.all() if workflow.name in self._registered],
            storage.writer,
            storage.reader,
            self.clock,
            found=lambda: self.life.claims.look_for_work(),
            aside=self._set_aside,
        )
        observer = self._presence.observer
        if observer is not None:
            self._recovery = Recovery(storage, observer, self.clock, self._found)
            self._services.append(Service("recovery", self._recovery.tick, observer.interval, self.clock))
            self._services.append(
                Service("adoption", self._adoption.tick, self.settings.poll_interval, self.clock)
            )
        await self._begin_life()
        if self._recovery is not None:
            await self._recovery.start()
        await self._register(self.registry.all())
        await self._adoption.look()
        if self._payloads is not None:
            await try_again(storage.writer, storage.reader, self.clock)
        self.life.claims.look_for_work()
        self.life.claims.expect_sleepers()
        bell.start()
        bell.ring()
        for service in self._services:
            service.start()

    async def _begin_life(self) -> None:
        life = Incarnation(self.means, self._lease, self._lost)
        try:
            await life.lease.hold()
        except BaseException:
            life.abandon()
            await life.closed()
            life.lease.release()
            raise
        self.life = life  # only now, so that its registration is the first that it writes
        row = RunnerRow(
            life.runner, socket.gethostname(), os.getpid(), self.clock.now(), RunnerState.ALIVE, 0
        )
        if self._recovery is not None:
            self._recovery.me = row.id
        self._adoption.me = row.id
        await self.means.writer.run(lambda store: store.register_runner(row))

    async def _undo_start(self) -> None:
        if hasattr(self, "life"):
            self.life.abandon()
            with suppress(StoreError):
                await self._in_time(self._end_life(self.life, Reason.SHUTDOWN), 0)
            await self.life.closed()
        if hasattr(self, "_presence"):
            await self._presence.close()
        await self._storage.close()

    async def _end_life(self, life: Incarnation, reason: Reason) -> None:
        now = self.clock.now()
        try:
            await self.means.writer.run(lambda store: store.recover(life.runner, reason, now))
        finally:
            life.lease.release()
        self.access.bell.ring()

    def _lease(self, runner: str) -> Lease:
        def lost(why: str) -> None:
            self._lost(runner, Fenced(f"the runner gave up its lease: {why}"))

        return self._presence.lease(runner, lost)

    async def _register(self, workflows: Sequence[Workflow]) -> None:
        rows = [(workflow.name, workflow.version, workflow.to_json()) for workflow in workflows]
        runner, now = self.life.runner, self.clock.now()
        if rows:
            await self.means.writer.run(lambda store: store.register_versions(runner, rows, now))
            self._registered |= {workflow.name for workflow in workflows}

    async def _found(self) -> None:
        """A runner died, and what it owned is free."""
        self.access.bell.ring()
        await self._look_around()

    async def _look_around(self) -> None:
        """Another process wrote, or a runner died: there may be work, commands, and executions that ended."""
        self._adoption.due = True
        if self._recovery is not None:
            await self._recovery.learn_runners()
        self.life.claims.look_for_work()
        self.life.claims.expect_sleepers()
        await self._obey()
        elsewhere = [id for id in self.access.hub.awaited() if id not in self.life.drivers]
        if elsewhere:
            await self.access.tell(elsewhere)

    def _stored(self) -> None:
        """This process stored something that nobody owns."""
        self._adoption.due = True
        self.life.claims.look_for_work()

    def _set_aside(self, execution: str, why: str) -> None:
        self.access.hub.refuse(execution, ExecutionParked(f"execution {execution} was set aside: {why}"))

    async def _obey(self) -> None:
        """Carry out the commands that others left for this runner."""
        life = self.life
        life.inbox.receive(await self.means.reader.run(lambda store: store.commands(life.runner)))
        for execution in life.inbox.executions():
            driver = life.drivers.get(execution)
            if driver is not None:  # else it is just being claimed, and takes them then
                life.inbox.hand_over(execution, driver.obey)

    def _lost(self, runner: str, error: BaseException) -> None:
        if self._rebirth is not None or not self.open:
            self._unheard = (runner, error)
            if runner == self.life.runner:
                self.life.cut_short()
        elif runner != self.life.runner:
            log.info("runner %s, which is no longer this process's, was lost: %s", runner, error)
        elif isinstance(error, Fenced):
            self._rebirth = asyncio.get_running_loop().create_task(self._live_again(error))
        else:
            self._break(error)

    def _moved(self, error: ForeignConnection) -> None:
        if self._broken is None:
            self._lost(self.life.runner, error)

    def _hear_again(self) -> None:
        unheard, self._unheard = self._unheard, None
        if unheard is not None:
            self._lost(*unheard)

    async def _live_again(self, why: Fenced) -> None:
        old = self.life
        log.error("runner %s lost what it owned and starts again under a new id: %s", old.runner, why)
        homeless = old.unacknowledged()
        old.abandon()
        self._former.append(old)
        try:
            await self._end_life(old, Reason.LOST_LEASE)
            await self._begin_life()
            await self._register(self.registry.all())
            # What the old life was writing when it ended is stored or refused by now.
            await self._look_around()
        except Exception as error:
            for _, stored in homeless.values():
                stored(error)
            self._break(error)
            return
        finally:
            self._rebirth = None
        for new, stored in homeless.values():
            self.access.intake.put(new._replace(owner=None, started=None), _answer(stored))
        self._hear_again()

    def _break(self, error: BaseException) -> None:
        log.critical("the engine stops: %s", error)
        self._broken = error
        self._answer_all(error)
        self.life.abandon()
        self.life.lease.release()
        self.access.hub.fail(error)

    def _answer_all(self, error: BaseException) -> None:
        for _, stored in self.life.unacknowledged().values():
            stored(error)


def _answer(stored: Callable[[BaseException | None], None]) -> Answer:
    return lambda holder, error: stored(error)
