"""Rules about what is done again: retries and forks."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from cloacina.errors import (
    CloacinaError,
    ForkRefused,
)
from statemachine.ground import Any_, Ground
from statemachine.model import ExecutionModel
from statemachine.shapes import Shape


class Again(Ground):
    """See the module's text."""

    @precondition(lambda self: self._may_fork())
    @rule(desk=Any_, which=Any_)
    def retry(self, desk: int, which: int) -> None:
        slot, one = self._desk(desk), self._execution(which, live=False)
        again = one.to_retry() if one.over else set()
        copies = {id for id in again if one.tasks[id].rows and one.tasks[id].rows[-1].number > 0}
        self._fork(slot, one, again, {}, copies, lambda desk: desk.retry(one.id))

    @precondition(lambda self: self._may_fork())
    @rule(
        desk=Any_,
        which=Any_,
        task=st.none() | Any_,
        replace=st.sampled_from([{}, {"log": ["new"]}, {"flag": True}]),
    )
    def fork(self, desk: int, which: int, task: int | None, replace: dict[str, Any]) -> None:
        slot, one = self._desk(desk), self._execution(which, live=False)
        names = [shape.id for shape in one.shape.tasks]
        start = None if task is None else names[task % len(names)]
        again = one.to_redo(names if start is None else [start]) if one.over else set()
        self._fork(
            slot,
            one,
            again,
            replace,
            set(),
            lambda desk: desk.fork(one.id, from_task=start, replace=replace or None),
        )

    def _fork(
        self, slot: int, one: ExecutionModel, again: set[str], replace: dict[str, Any], copies: set[str],
        ask: Callable[[Any], Coroutine[Any, Any, Any]],
    ) -> None:  # fmt: skip
        """``again`` is done again; of ``copies`` the checkpoints are kept."""
        targets = self._targets(slot, one)
        kept = one.touched() - again
        agreeing = [
            (shape, version)
            for shape, version in targets
            if version == one.version or not (kept and self._objects(slot, one, shape, kept))
        ]
        room = self._room(slot, 1) if again and agreeing else True
        made = self._bounded(lambda: ask(self.real.desks[slot]), room)
        if made is None:
            return
        if isinstance(made, CloacinaError):
            assert isinstance(made, ForkRefused), made
            assert not again or len(agreeing) < len(targets), f"{made}, and {one} can be forked"
            self._note("a fork was refused" if one.over else "a live one was to be forked")
            return
        assert again, f"{made} is a fork of {one}"
        row = self.run(self.real.rows()).executions[made.id]
        found = [(shape, version) for shape, version in agreeing if version == row.version]
        assert found, f"{row} is a fork of {one} under a version that cannot go on from there"
        new = one.fork(made.id, again, *found[0], replace)
        for id in copies:
            task = found[0][0].task(id)
            if (
                task is not None
                and one.tasks[id].state != "completed"
                and found[0][0].edition == one.shape.edition
            ):
                new.tasks[id].notes = dict(one.tasks[id].notes)
        new.made = self.world.now
        self.world.executions[new.id] = new
        self._note("a fork was made" + (" under another version" if row.version != one.version else ""))
        self.settle()

    def _targets(self, slot: int, one: ExecutionModel) -> list[tuple[Shape, str]]:
        """The versions that a fork may run on."""
        name = one.shape.name
        if slot != 2 and name in self.world.runners[slot].has:
            return [self.world.runners[slot].has[name]]
        offered = [runner.has[name] for runner in self.world.runners.values() if name in runner.has]
        known = [(shape, version) for (of, version), shape in self.world.known.items() if of == name]
        return offered or known

    def _objects(self, slot: int, one: ExecutionModel, shape: Shape, kept: set[str]) -> bool:
        """True if a version cannot go on from ``kept``, by the policy of whoever is asked, if he has the workflow."""
        has = slot != 2 and shape.name in self.world.runners[slot].has
        policy = shape.policy if has else "adopt_if_compatible"
        return policy == "pin" or one.objection(shape, kept, forgiving=policy == "adopt")
