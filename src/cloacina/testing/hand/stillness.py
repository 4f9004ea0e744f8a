"""Stillness: when nothing more happens in a runner unless its clock moves, or somebody outside does something."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from cloacina.engine.bodies.courier import Courier
from cloacina.engine.engine import Engine
from cloacina.engine.executors.attempt import Attempt
from cloacina.testing.bodies import Bodies
from cloacina.testing.hand.machine import HandMachine

ROUNDS = 20
"""How many times the event loop goes round without anything happening before that counts as stillness."""

SPINS, LOOK_AGAIN = 200, 0.001
"""So often it is looked at once whether a body has ended, and then after pauses, in seconds."""


class Stillness:
    """See the module's text. What bodies do themselves takes real time: it is waited for."""

    def __init__(self, engine: Engine, machine: HandMachine, bodies: Bodies, patience: float) -> None:
        """``patience``: seconds, of real time, that a body may run without anything happening."""
        self._engine = engine
        self._machine = machine
        self._bodies = bodies
        self._patience = patience

    async def reached(self) -> list[str]:
        """Wait for it; return what still runs when the patience is over, in words."""
        loop = asyncio.get_running_loop()
        rounds, since, seen = 0, loop.time(), self._sign()
        while True:
            running = self._running()
            if rounds >= ROUNDS and (not running or loop.time() - since > self._patience):
                return running
            await asyncio.sleep(0 if rounds < SPINS else LOOK_AGAIN)
            sign = self._sign()
            rounds += 1
            if sign != seen:
                rounds, since, seen = 0, loop.time(), sign

    def _sign(self) -> tuple[int, int, int]:
        """A value that changes with everything that happens."""
        return self._machine.jobs, self._bodies.clock.armed, self._bodies.moves

    def _running(self) -> list[str]:
        """What takes real time now, and waits for neither the clock nor another execution."""
        if self._machine.dead or not self._engine.open:
            return []
        found = {id(attempt): _words(attempt) for attempt in self._bodies.at_work()}
        deferred = 0
        for driver in self._engine.life.drivers.values():
            for attempt in driver.running.values():
                if attempt.errands is not None and attempt.errands.deferred is not None and not attempt.slot:
                    deferred += 1
                elif attempt.launched and attempt.slot and not self._bodies.waits(attempt):
                    found[id(attempt)] = _words(attempt)
        if deferred > sum(map(_sleep_of_a_deferral, self._bodies.clock.calls)):
            found[0] = "the condition of a deferred task"
        if self._machine.retries:
            found[2] = "the database, which does not take part,"
        if self._engine.means.callbacks.busy:
            found[1] = "a callback"
        return list(found.values())


def _words(attempt: Attempt) -> str:
    return f"the body of task {attempt.task!r} (attempt {attempt.attempt})"


def _sleep_of_a_deferral(call: Callable[[], None]) -> bool:
    return getattr(getattr(call, "func", None), "__module__", None) == Courier.__module__
