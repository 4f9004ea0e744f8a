"""Rules about bodies, which end when the machine says so, and about time, which passes when it does."""

from __future__ import annotations

import asyncio
from copy import deepcopy
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from statemachine.ground import Any_, Ground
from statemachine.merging import WRITES, change
from statemachine.model import ExecutionModel
from statemachine.shapes import TICK


class Bodies(Ground):
    """See the module's text."""

    @precondition(lambda self: self.stage.acts)
    @rule(which=Any_, how=st.integers(0, len(WRITES) - 1))
    def complete(self, which: int, how: int) -> None:
        found = self._body(which)
        if found is not None:
            self._complete(*found, how)
            self.settle()

    @precondition(lambda self: self.stage.acts)
    @rule(how=st.integers(0, len(WRITES) - 1))
    def complete_all(self, how: int) -> None:
        """Whatever runs now completes."""
        for one, id in [(one, id) for one, id, task in self.world.bodies() if not task.deferred]:
            self._complete(one, id, how)
        self.settle()

    @precondition(lambda self: self.stage.acts)
    @rule(how=st.integers(0, len(WRITES) - 1), rounds=st.integers(2, 6))
    def carry_through(self, how: int, rounds: int) -> None:
        """Whatever runs completes, and what follows too."""
        for number in range(rounds):
            self.complete_all((how + number) % len(WRITES))

    def _complete(self, one: ExecutionModel, id: str, how: int) -> None:
        self.numbers += 1
        before, number = one.view(id), self.numbers
        after = deepcopy(before)
        WRITES[how](after, id, number)
        self._tell(one, id, "write", lambda ctx: WRITES[how](ctx, id, number))
        one.complete(id, change(before, after), self.world.now)

    @precondition(lambda self: self.stage.acts)
    @rule(which=Any_, permanent=st.sampled_from([False, False, False, True]))
    def fail(self, which: int, permanent: bool) -> None:
        found = self._body(which)
        if found is not None:
            one, id = found
            self._tell(one, id, "fail", permanent)
            one.fail(id, self.world.now, permanent=permanent)
            self.settle()

    @precondition(lambda self: self.stage.acts)
    @rule(which=Any_, name=st.sampled_from(["first", "second"]))
    def checkpoint(self, which: int, name: str) -> None:
        found = self._body(which)
        if found is None:
            return
        one, id = found
        place = (one.id, id, one.tasks[id].rows[-1].number)
        if name in self.stage.acts[place].noted:
            return
        self.numbers += 1
        done = self._tell(one, id, "checkpoint", (name, self.numbers))
        value = self.run(self.real.patiently(_answer(done)))
        self.stage.acts[place].noted.add(name)
        expected = one.tasks[id].notes.setdefault(name, self.numbers)
        assert value == expected, f"checkpoint {name} of {place} gave {value}, and should give {expected}"
        self._note("a checkpoint was stored" if value == self.numbers else "a checkpoint was read again")
        self.settle()

    @precondition(lambda self: self.stage.acts)
    @rule(which=Any_, soon=st.booleans())
    def defer(self, which: int, soon: bool) -> None:
        found = self._body(which)
        if found is not None:
            one, id = found
            act = self.stage.acts[one.id, id, one.tasks[id].rows[-1].number]
            act.may_go_on = False
            self._tell(one, id, "defer", TICK / 4)
            one.defer(id, self.world.now)
            self._note("an attempt was deferred")
            self.settle()
            act.may_go_on = soon

    @precondition(lambda self: any(task.deferred for _, _, task in self.world.bodies()))
    @rule(which=Any_)
    def allow(self, which: int) -> None:
        """What an attempt is deferred for has come; it is seen when it is looked at again."""
        deferred = [(one, id) for one, id, task in self.world.bodies() if task.deferred]
        if deferred:
            one, id = deferred[which % len(deferred)]
            self.stage.acts[one.id, id, one.tasks[id].rows[-1].number].may_go_on = True

    # Time.

    @rule(ticks=st.integers(1, 3))
    def advance(self, ticks: int) -> None:
        for _ in range(ticks):
            for one, id, task in self.world.bodies():
                act = self.stage.acts[one.id, id, task.rows[-1].number]
                if task.deferred and act.may_go_on and not one.paused:
                    task.allowed = True
            self.run(self._advance())
            self.world.tick()
            self.settle()

    async def _advance(self) -> None:
        self.real.clock.advance(TICK)

    @precondition(lambda self: self.world.runners and (self.world.old() or self._seldom()))
    @rule(which=Any_)
    def prune(self, which: int) -> None:
        removed = self.run(self.real.runners[self._slot(which)].prune())
        expected = self._prune()
        assert removed == len(expected), f"{removed} were pruned, and should be {expected}"
        self.settle()


async def _answer(done: asyncio.Future[Any]) -> Any:
    return await done
