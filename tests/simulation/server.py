"""The server of a simulation: the sessions, locks and leases that it would keep, while the rows are the disk's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from cloacina.engine.liveness.server.session import ServerSession
from cloacina.errors import StoreUnavailable
from cloacina.logic.deaths import Sign
from cloacina.store.postgres.leases import Leases, Seen
from cloacina.store.postgres.location import ServerLocation
from simulation.disk import Disk
from simulation.loop import Process, VirtualLoop, context_of
from simulation.machine import EPOCH, SimulatedMachine

T = TypeVar("T")

LOCATION = ServerLocation("postgresql://simulated/simulated", "simulated")

INSTANCE = "simulated"

_Lease = tuple[int, int, "int | None", bool]
"""When it was renewed, when it runs out, the key of its lock, and whether it was given up."""


class Server:
    """What a PostgreSQL server knows beside the tables. Its clock is the true time."""

    def __init__(self, loop: VirtualLoop, disk: Disk) -> None:
        self._loop = loop
        self.disk = disk
        self.leases: dict[str, _Lease] = {}
        self.locks: dict[int, SimulatedLeases] = {}
        self.sessions: list[SimulatedLeases] = []
        self.up_since = self.now()

    def now(self) -> int:
        """The server's clock, in microseconds."""
        return EPOCH + round(self._loop.time() * 1e6)

    def cut(self, process: Process) -> None:
        """The sessions of a process end."""
        for session in list(self.sessions):
            if session.process is process:
                session.cut()

    def restart(self) -> None:
        """All sessions end, and all locks are gone."""
        for session in list(self.sessions):
            session.cut()
        self.up_since = self.now()

    def alive(self) -> list[str]:
        """The runners that count as alive."""
        return [id for (id,) in self.disk.rows("SELECT id FROM runners WHERE state = 'alive' ORDER BY id")]

    def dead(self, runner: str) -> bool:
        """True if a runner is registered and not alive."""
        return bool(self.disk.rows("SELECT 1 FROM runners WHERE id = ?1 AND state <> 'alive'", runner))


class SimulatedLeases(Leases):
    """`Leases` of one session of one process."""

    def __init__(self, server: Server, process: Process, pause: Callable[[], float]) -> None:
        self.instance = INSTANCE
        self.pooled = False
        self.lost = asyncio.Event()
        self.process = process
        self._server = server
        self._pause = pause
        self._heard: Callable[[], None] | None = None
        server.sessions.append(self)

    def cut(self) -> None:
        """The connection ends: for the server at once, for the process when it comes to look."""
        server = self._server
        if self in server.sessions:
            server.sessions.remove(self)
            server.locks = {key: session for key, session in server.locks.items() if session is not self}
        self.lost.set()

    async def lock(self, key: int) -> bool:
        await self._asked()
        return self._server.locks.setdefault(key, self) is self

    async def take(self, runner: str, lease: float, key: int | None) -> None:
        await self._asked()
        self._renew(runner, lease, key)

    async def renew(self, runner: str, lease: float, key: int | None) -> bool:
        await self._asked()
        before = self._server.leases.get(runner)
        if before is None or before[3] or self._server.dead(runner):
            return False
        self._renew(runner, lease, key)
        return True

    async def look(self, runner: str, lease: float, key: int | None) -> Seen:
        renewed = await self.renew(runner, lease, key)
        server = self._server
        signs = {
            other: Sign(when, until, None if lock is None else lock in server.locks, given_up)
            for other, (when, until, lock, given_up) in server.leases.items()
            if other != runner
        }
        for other in server.alive():
            if other != runner and other not in signs:
                signs[other] = Sign(None)
        return Seen(renewed, server.now(), server.up_since, signs)

    async def give_up(self, runner: str) -> None:
        await self._asked()
        if runner in self._server.leases:
            self._server.leases[runner] = (*self._server.leases[runner][:3], True)

    async def remove(self, runner: str, key: int | None = None) -> None:
        await self._asked()
        self._server.leases.pop(runner, None)
        if key is not None and self._server.locks.get(key) is self:
            del self._server.locks[key]

    async def listen(self, heard: Callable[[], None]) -> None:
        await self._asked()
        self._heard = heard

    async def ring(self) -> None:
        await self._asked()
        for session in self._server.sessions:
            if session is not self and session._heard is not None:
                loop = asyncio.get_running_loop()
                loop.call_later(self._pause(), session._heard, context=context_of(session.process))

    async def close(self) -> None:
        self.cut()

    def drop(self) -> None:
        self.cut()

    def _renew(self, runner: str, lease: float, key: int | None) -> None:
        now = self._server.now()
        self._server.leases[runner] = (now, now + round(lease * 1e6), key, False)

    async def _asked(self) -> None:
        """Wait for the server, there and back."""
        await asyncio.sleep(self._pause())
        main = self.process.main
        if self.lost.is_set() or main is None or not self._server.disk.reached_by(main):
            self.cut()
            raise StoreUnavailable("simulated: the session is lost")


def _self_of(task: asyncio.Task[Any]) -> object:
    frame = getattr(task.get_coro(), "cr_frame", None)
    return None if frame is None else frame.f_locals.get("self")


class SimulatedSession(ServerSession):
    """`ServerSession` whose thread is a part of its process on the virtual loop."""

    def __init__(self, server: Server, machine: SimulatedMachine) -> None:
        super().__init__(LOCATION, machine.clock, machine.randomness)
        self._server = server
        self._machine = machine
        self._context = context_of(machine.threads)
        self._working: set[asyncio.Task[Any]] = set()

    def call(self, work: Coroutine[Any, Any, T]) -> asyncio.Future[T]:
        """Do ``work`` as the session's thread would."""
        task: asyncio.Task[T] = asyncio.get_running_loop().create_task(work, context=self._context.copy())
        self._working.add(task)
        task.add_done_callback(self._working.discard)
        return task

    def _tell(self, call: Callable[[], None]) -> None:
        asyncio.get_running_loop().call_soon(call, context=self._context.copy())

    def _begin_thread(self) -> None:
        self._loop = asyncio.get_running_loop()

        async def serve() -> None:
            try:
                await self._live()
            finally:
                self.post(self._ended.set)

        self.call(serve())

    def _end_thread(self) -> None:
        return None

    def _tasks(self) -> list[asyncio.Task[Any]]:
        ours = {self} if self.guest is None else {self, self.guest}
        mine = [task for task in asyncio.all_tasks() if _self_of(task) in ours]
        mine = [task for task in mine if task is not asyncio.current_task() and task not in self._working]
        return sorted(mine, key=lambda task: int(task.get_name().rpartition("-")[2]))

    async def _reach(self) -> Leases:
        machine = self._machine
        leases = SimulatedLeases(self._server, machine.threads, machine.pause)
        await leases._asked()
        return leases
