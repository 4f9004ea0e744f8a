"""A place where runners live, one process after the other: what happens to them, and what is asked of them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextvars import Context
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

from cloacina import Runner
from cloacina.engine.liveness.files import lease
from cloacina.errors import CloacinaError, ExecutionParked, RunnerClosed
from simulation.loop import Process, context_of
from simulation.machine import SimulatedMachine
from simulation.plan import Blow

if TYPE_CHECKING:
    from simulation.play import Play

LONGEST_START = 600.0
"""Seconds within which a process must be up once nothing harms it."""

AGAIN = 0.2
"""Seconds between two tries to ask again."""


class Place:
    """See the module's text."""

    def __init__(self, play: Play, number: int, folder: Path | None, chance: Random) -> None:
        self.number = number
        self.runner: Runner | None = None
        """The runner that works here now."""
        self.process = Process(f"{number}")
        self._play = play
        self._loop = play.loop
        self._folder = folder
        self._chance = chance
        self._lives = 0
        self._generation = 0
        self._ailing = 0
        """How many blows have not been recovered from."""
        self._all: list[tuple[Process, SimulatedMachine, list[Any]]] = []
        """Every process that was here, with what belongs to it: nothing of a dead one may be collected meanwhile."""

    # A process.

    def begin(self) -> None:
        """Start a process."""
        self._lives += 1
        self.process = process = Process(f"{self.number}.{self._lives}")
        self.machine = machine = SimulatedMachine(
            self._loop,
            process,
            self._play.disk,
            self._folder,
            self._play.location,
            Random(self._chance.random()),
        )
        for trip in self._play.plan.trips:
            if (trip.place, trip.life) == (self.number, self._lives):
                self._play.disk.hiccups[process.name, trip.job] = trip.hiccup
        self._context: Context = context_of(process)
        self._all.append((process, machine, []))
        self._spawn(self._live())

    async def _live(self) -> None:
        play = self._play
        runner = Runner(
            "sqlite:///simulated.db", workflows=play.generations[self._generation], settings=play.settings
        )
        self._all[-1][2].append(runner)
        runner._engine.machine = self.machine
        await runner.start()
        self.runner = runner

    def _spawn(self, work: Any) -> asyncio.Task[None]:
        task: asyncio.Task[None] = self._loop.create_task(work, context=self._context.copy())
        self._all[-1][2].append(task)
        task.add_done_callback(self._look_at)
        return task

    def _look_at(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() is not None:
            error = task.exception()
            if isinstance(error, CloacinaError):
                self._play.happened(f"a caller was told {type(error).__name__}")
                self._play.note("refused", repr(error))
            else:
                self._play.broken(f"a caller was told {error!r}")

    def do(self, work: Callable[[], Awaitable[None]]) -> None:
        """Have something done by the runner that is here, if there is one."""
        if self.runner is not None:
            self._spawn(work())

    async def insist(self, work: Callable[[], Awaitable[None]]) -> None:
        """Have something done, again and again until it was done: by the next runners if need be."""
        while True:
            if self.runner is not None and not self.process.frozen:
                process, task = self.process, self._spawn(work())
                while not task.done() and not process.dead:
                    await asyncio.sleep(AGAIN)
                answered = task.done() and not task.cancelled()
                if answered and isinstance(task.exception(), ExecutionParked | None):
                    return
            await asyncio.sleep(AGAIN)

    @property
    def busy(self) -> bool:
        """True if something is being done that was asked for."""
        return any(isinstance(one, asyncio.Task) and not one.done() for one in self._all[-1][2])

    def live_runner(self) -> Runner:
        """The runner that works here now. Raises `RunnerClosed` if there is none."""
        if self.runner is None:
            raise RunnerClosed("simulated: there is no runner here now")
        return self.runner

    # Blows.

    def suffer(self, blow: Blow) -> None:
        """Let ``blow`` come, so many steps from now, and recover from it later."""
        self._ailing += 1
        if blow.kind in ("kill", "freeze", "block") and blow.steps and self.process.stepped is None:
            self._count_down(self.process, blow)
        else:
            self._strike(blow)

    def _count_down(self, process: Process, blow: Blow) -> None:
        left = blow.steps

        def stepped() -> None:
            nonlocal left
            left -= 1
            if left <= 0:
                process.stepped = None
                self._strike(blow)

        process.stepped = stepped

        def late() -> None:
            if process.stepped is stepped:
                process.stepped = None
                self._strike(blow)

        self._loop.call_later(blow.seconds, late, context=Context())

    def _strike(self, blow: Blow) -> None:
        process, machine = self.process, self.machine
        self._play.note(process, "suffers", blow.kind)
        self._play.happened(f"a blow: {blow.kind}")
        if blow.generation is not None:
            self._generation = blow.generation

        def well() -> None:
            self._play.note(process, "recovers from", blow.kind)
            if blow.kind in ("freeze", "block"):
                for one in (process, machine.threads):
                    self._loop.thaw(one)
                process.excused |= not self._play.disk.reached_by(process)  # it cannot tell what it gave up
            elif blow.kind == "slow":
                machine.slow = 1.0
            elif blow.kind == "outage":
                self._play.disk.down.discard(process.name)
            elif blow.kind == "restart":
                self._play.disk.outages -= 1
            elif blow.kind == "kill" and process is self.process:
                self.begin()
            self._ailing -= 1

        if blow.kind == "kill":
            self.kill()
        elif blow.kind == "freeze":
            process.frozen = machine.threads.frozen = True
        elif blow.kind == "block":
            process.frozen = process.excused = True
        elif blow.kind == "stop":
            self._loop.create_task(self._stop(blow.seconds), context=Context())
            return
        elif blow.kind == "jump":
            machine.clock.ahead += round(self._chance.uniform(-100e6, 100e6))
        elif blow.kind == "slow":
            machine.slow = 50.0
        elif blow.kind == "outage":
            process.excused |= self._play.plan.on_server  # alone with its outage, it looks dead
            process.excused |= self._play.just_thawed(process)
            self._play.disk.down.add(process.name)
        elif blow.kind == "cut":
            process.excused = True
            self._play.server.cut(machine.threads)
        elif blow.kind == "restart":
            self._play.server.restart()
            self._play.disk.outages += 1
            for one in self._play.runs_in.values():
                one.excused |= self._play.just_thawed(one)
        elif blow.kind == "unfile" and self.runner is not None and self._folder is not None:
            process.excused = True
            self._folder.joinpath(self.runner._engine.life.runner).unlink(missing_ok=True)
        self._loop.call_later(blow.seconds, well, context=Context())

    def kill(self) -> None:
        """Let the process die where it is."""
        process, machine = self.process, self.machine
        process.dead = machine.threads.dead = True
        self.runner = None
        self._play.server.cut(machine.threads)
        for held in list(lease._held):
            if held._machine is machine:
                held.forget()

    async def _stop(self, seconds: float) -> None:
        """Shut the runner down, and start another process so many seconds after it has ended."""
        process = self.process
        await self.end()
        await asyncio.sleep(seconds)
        if process is self.process:
            self.begin()
        self._ailing -= 1

    async def end(self) -> None:
        """Shut the runner down, if there is one, and end its process."""
        process, runner = self.process, self.runner
        self.runner = None
        if runner is not None:
            ending = self._spawn(runner.shutdown())
            while not ending.done() and not process.dead:
                await asyncio.sleep(AGAIN)
            if not process.dead and (ending.cancelled() or ending.exception() is not None):
                self._play.broken(f"a runner could not be shut down: {ending}")
        if process is self.process:
            self.kill()

    async def recovered(self) -> None:
        """Wait until a runner works here and nothing is the matter with it."""
        end = self._loop.time() + LONGEST_START
        while self._ailing or self.runner is None:
            if self._loop.time() > end:
                self._play.broken(f"{self.process} does not come up")
            await asyncio.sleep(AGAIN)

    def bury(self) -> None:
        """The play is over: let go of everything, and let nothing say that it was not finished."""
        self.kill()
        for _, _, held in self._all:
            for one in held:
                if isinstance(one, asyncio.Task):
                    one._log_destroy_pending = False  # type: ignore[attr-defined]
