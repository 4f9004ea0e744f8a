"""Rules about who is there: runners and clients come and go, die, and bring other versions."""

from __future__ import annotations

import asyncio

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from cloacina.errors import (
    RunnerClosed,
)
from statemachine.ground import NAMES, Any_, Ground
from statemachine.shapes import built
from support.runners import lose


class Comings(Ground):
    """See the module's text."""

    @precondition(lambda self: self.place.own and len(self.world.runners) < 2)
    @rule(red=st.sampled_from([0, 0, 1, None]), blue=st.sampled_from([0, 0, 1, None]))
    def start(self, red: int | None, blue: int | None) -> None:
        self._start(0 if 0 not in self.world.runners else 1, [red, blue])
        self.settle()

    @precondition(lambda self: self.place.own and self.world.runners)
    @rule(which=Any_)
    def crash(self, which: int) -> None:
        slot = self._slot(which)
        self._leave(slot)
        self.real.run(self._after_a_look(lambda: self.real.crash(slot)))
        dead = self.world.runners.pop(slot)
        if self.world.runners:
            self.world.lost(dead.id, "crash")
        self.settle()

    @precondition(lambda self: self.place.own and self.world.runners)
    @rule(which=Any_)
    def shut_down(self, which: int) -> None:
        slot = self._slot(which)
        waits = self._waits_at(slot)
        self.run(self._after_a_look(lambda: self.real.shutdown(slot)))
        self.world.lost(self.world.runners.pop(slot).id, "shutdown")
        for number in waits:
            self._refused(self.real.waits.pop(number), RunnerClosed)
            del self.world.waits[number]
        self.settle()

    @precondition(lambda self: self.world.runners)
    @rule(which=Any_)
    def lose_lease(self, which: int) -> None:
        """A runner learns that it counts as dead, and lives again."""
        slot = self._slot(which)
        runner, model = self.real.runners[slot], self.world.runners[slot]

        async def rebirth() -> str:
            self.world.lost(model.id, "lost_lease")
            lose(runner)
            while runner._engine._rebirth is not None:
                await asyncio.sleep(0.0005)
            return runner.id

        model.id = self.run(self._after_a_look(rebirth))
        self.world.reborn = model
        self.settle()
        self.world.reborn = None

    @precondition(lambda self: self.place.own and self.real.client is None)
    @rule()
    def open_client(self) -> None:
        self.run(self.real.open_client())
        self.settle()

    @precondition(lambda self: self.place.own and self.real.client is not None)
    @rule()
    def close_client(self) -> None:
        waits = self._waits_at(2)
        self.run(self.real.close_client())
        for number in waits:
            self._refused(self.real.waits.pop(number), RunnerClosed)
            del self.world.waits[number]
        self.settle()

    @precondition(lambda self: any(len(one.has) < 2 for one in self.world.runners.values()))
    @rule(which=Any_, generation=st.integers(0, 1))
    def register(self, which: int, generation: int) -> None:
        lacking = [slot for slot, one in sorted(self.world.runners.items()) if len(one.has) < 2]
        slot = lacking[which % len(lacking)]
        name = next(name for name in NAMES if name not in self.world.runners[slot].has)
        shape, version = self.versions[name][generation]
        self.run(self.real.runners[slot].register(built(shape, self.stage)))
        self.world.runners[slot].has[name] = shape, version
        self.world.known[name, version] = shape
        self.settle()
