"""The ground that all rules stand on: how an example begins and ends, and what every step ends with."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any, ClassVar, TypeVar

from hypothesis import currently_in_test_context, event
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize

from cloacina.errors import (
    CloacinaError,
    ExecutionParked,
    QueueFull,
)
from cloacina.model import ids
from statemachine.compare import Comparison, Differs, lasting
from statemachine.looks import look_through
from statemachine.model import ExecutionModel
from statemachine.places import Place
from statemachine.reality import Reality
from statemachine.rows import Rows
from statemachine.running import note_failure
from statemachine.shapes import TICK, Shape, built, shapes, successors
from statemachine.stage import Stage
from statemachine.world import RunnerModel, World

T = TypeVar("T")
Any_ = st.integers(0, 10_000)
"""Which of those that there are: what there is depends on what reality chose, what is drawn must not."""
NAMES = ("red", "blue")
MOST = 12
"""Executions that are live at a time."""
PATIENCE = 150
"""Looks until it is sure that something does not come about."""


class Ground(RuleBasedStateMachine):
    """See the module's text. ``place`` is the database; a subclass has it."""

    place: ClassVar[Place]
    happened: ClassVar[Counter[str]] = Counter()
    """What came about in all examples so far."""

    def __init__(self) -> None:
        super().__init__()
        ids._last = 0  # an earlier example's clock was far ahead
        self.stage = Stage()
        self.versions: dict[str, list[tuple[Shape, str]]] = {}
        self.numbers = 0
        self.steps = 0
        self.rows: Rows | None = None
        self.removed: set[str] = set()
        self.reality: Reality | None = None
        self.sound = False
        """False while something is under way, or went wrong."""

    @initialize(
        red=shapes("red").flatmap(lambda one: st.tuples(st.just(one), successors(one))),
        blue=shapes("blue").flatmap(lambda one: st.tuples(st.just(one), successors(one))),
        slots=st.sampled_from([8, 2, 1]),
        window=st.sampled_from([50, 3, 1]),
        waiting=st.sampled_from([1000, 0]),
        pending=st.sampled_from([0, 0, 3]),
        keep=st.sampled_from([0.0, 2.5]),
        first=st.sampled_from([0, 1, 2]),
    )
    def begin(
        self, red: tuple[Shape, ...], blue: tuple[Shape, ...], slots: int, window: int, waiting: int, pending: int,
        keep: float, first: int,
    ) -> None:  # fmt: skip
        days = keep * TICK / 86_400
        self.reality = Reality(
            self.place,
            {
                "async_slots": slots, "thread_slots": 1, "process_slots": 1, "window": window, "max_waiting": waiting,
                "max_pending": pending, "keep_completed_days": days, "keep_failed_days": days,
            },
        )  # fmt: skip
        self.world = World(slots, window, keep, stores_away=waiting == 0)
        self.pending = pending
        for one in (*red, *blue):
            self.versions.setdefault(one.name, []).append((one, built(one, self.stage).version))
        self._start(0, [0, 0])
        self.settle()
        self.submit_first(first)

    def submit_first(self, many: int) -> None:
        """Begin with some work."""

    def teardown(self) -> None:
        note_failure()
        if self.reality is None:
            return
        try:
            if self.sound:
                self.run(self.real.blink())
                self.settle()
        finally:
            self.reality.close()
            if hasattr(self, "world"):
                self.happened.update(self.world.happened)

    def _start(self, slot: int, generations: list[int | None]) -> None:
        chosen = {
            name: self.versions[name][generation]
            for name, generation in zip(NAMES, generations, strict=True)
            if generation is not None
        }
        for id in {one.owner for one in self.world.live if one.owner} - set(self.world.alive):
            self.world.lost(id, "crash")
            self._note("a dead runner's work was found at a start")
        self.run(self.real.start(slot, [built(shape, self.stage) for shape, _ in chosen.values()]))
        self.world.runners[slot] = RunnerModel(self.real.runners[slot].id, dict(chosen))
        for shape, version in chosen.values():
            self.world.known[shape.name, version] = shape
        if self.place.own:
            self._prune()
        self._note(f"runners: {len(self.world.runners)}")

    def _prune(self) -> list[str]:
        removed = self.world.prune()
        self.removed |= set(removed)
        if removed:
            self._note("old executions were pruned")
        return removed

    # What every step ends with.

    def settle(self) -> None:
        """Let everything that follows come about, and compare."""
        self.steps += 1
        self.world.happened["steps"] += 1
        self.sound = False
        self.real.run(self._settle())
        self.sound = True

    async def _after_a_look(self, strike: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Compare, and strike before anything else comes about."""
        await self._agree()
        return await strike()

    async def _settle(self) -> None:
        for last in (False, False, True):
            rows = await self._agree()
            try:
                await self._look()
            except AssertionError:
                if last:  # else somebody may just have heard of something
                    raise
            else:
                break
        assert not self.stage.wrong, self.stage.wrong
        if self.rows is not None:
            broken = [*lasting(self.rows, rows, self.removed)]
            assert not broken, "\n".join(broken)
        self.rows = rows

    async def _look(self) -> None:
        """Ask one after the other of those who can be asked."""
        desks = self.real.desks
        if desks:
            await look_through(desks[sorted(desks)[self.steps % len(desks)]], self.world)

    async def _agree(self) -> Rows:
        """Wait until model and reality agree; return what is stored then."""
        patience = PATIENCE
        while True:
            await self.real.calm()
            rows = await self.real.rows()
            comparison = Comparison(self.world, rows, self.real.clock.now())
            try:
                comparison.accept()
                await self._bodies(comparison)
                await self._told()
            except Differs as differs:
                patience -= 1
                if not patience:
                    raise AssertionError(f"{differs}") from None
                if patience < PATIENCE - 20:  # doorbells and sockets have a time of their own
                    await asyncio.sleep(0.003 if patience > PATIENCE - 50 else 0.04)
                await self.real.blink(5 if patience < PATIENCE - 50 else 1)
            else:
                return rows

    async def _bodies(self, comparison: Comparison) -> None:
        """The bodies that run are those of the attempts that do."""
        running = {(one.id, id, task.rows[-1].number) for one, id, task in self.world.bodies()}
        for _ in range(200):
            if running == set(self.stage.acts):
                break
            await asyncio.sleep(0)
        else:
            raise Differs(f"the bodies of {set(self.stage.acts)} run, and should those of {running}")
        for place, view in comparison.views.items():
            assert self.stage.acts[place].view == view, (
                f"{place} saw {self.stage.acts[place].view}, not {view}"
            )

    async def _told(self) -> None:
        """Those who wait for an end are told of it, and of nothing else."""
        for number, wait in list(self.real.waits.items()):
            one = self.world.executions.get(self.world.waits[number])
            if wait.done():
                del self.real.waits[number]
                del self.world.waits[number]
                if isinstance(wait.exception(), ExecutionParked):
                    assert one is None or one.parked, f"{wait} was told that {one} is parked"
                else:
                    assert one is None or wait.result().status == one.status, f"{wait} was told of {one}"
            elif one is None or one.over or one.parked:
                raise Differs(f"{wait} was not told how {one} ended")

    # Small helps.

    @property
    def real(self) -> Reality:
        assert self.reality is not None
        return self.reality

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        self.sound = False
        return self.real.run(self.real.patiently(work))

    def _note(self, what: str) -> None:
        self.world.happened[what] += 1
        if currently_in_test_context():
            event(what)

    def _raises(self, kind: type[CloacinaError], work: Coroutine[Any, Any, Any]) -> None:
        try:
            answer = self.run(work)
        except kind:
            self._note(f"a caller was told {kind.__name__}")
        else:
            raise AssertionError(f"{answer} in place of {kind.__name__}")

    def _refused(self, wait: asyncio.Task[Any], kind: type[CloacinaError]) -> None:
        assert wait.done() and isinstance(wait.exception(), kind), wait

    def _bounded(self, work: Callable[[], Coroutine[Any, Any, Any]], room: bool | None) -> Any:
        """The answer or the error; None if the queue was full, as it may be where ``room`` is not known."""
        try:
            answer = self.run(work())
        except QueueFull:
            assert room is not True, "QueueFull, and there is room"
            self._note("the queue was full")
            return None
        except CloacinaError as error:
            return error
        assert room is not False, f"{answer}, and the queue was full"
        return answer

    def _room(self, slot: int, more: int, *, plain: bool = False) -> bool | None:
        """True if so many fit in, False if not, None if a runner may take it without asking."""
        if not self.pending:
            return True
        rows = self.real.run(self._agree())  # somebody may have claimed something since the last step
        waiting = sum(row.owner is None and not row.over for row in rows.executions.values())
        if waiting + more <= self.pending:
            return True
        return None if plain else False

    def _slot(self, which: int) -> int:
        return sorted(self.world.runners)[which % len(self.world.runners)]

    def _desk(self, which: int) -> int:
        return sorted(self.real.desks)[which % len(self.real.desks)]

    def _execution(self, which: int, *, live: bool | None = None) -> ExecutionModel:
        all_ = list(self.world.executions.values())
        chosen = [one for one in all_ if live is None or one.over is not live] or all_
        return chosen[which % len(chosen)]

    def _body(self, which: int) -> tuple[ExecutionModel, str] | None:
        found = [(one, id) for one, id, task in self.world.bodies() if not task.deferred]
        return found[which % len(found)] if found else None

    def _tell(self, one: ExecutionModel, id: str, what: str, detail: Any) -> Any:
        place = (one.id, id, one.tasks[id].rows[-1].number)

        async def tell() -> Any:
            return [self.stage.tell(place, what, detail)]

        return self.run(tell())[0]

    def _may_fork(self) -> bool:
        """Mostly of what has ended: others are refused, and that is soon seen."""
        ended = len(self.world.executions) - len(self.world.live)
        return (
            bool(self.real.desks and self.world.executions)
            and len(self.world.live) < MOST
            and (ended > 0 or self._seldom())
        )

    def _seldom(self) -> bool:
        return self.steps % 10 == 0

    def _may_submit(self) -> bool:
        return bool(self.real.desks) and len(self.world.live) < MOST

    def _knows(self, slot: int, name: str) -> bool:
        if slot != 2:
            return name in self.world.runners[slot].has
        return any(of == name for of, _ in self.world.known)

    def _born(
        self, slot: int, born: list[str], name: str, input: dict[str, Any], key: str | None = None, priority: int = 0,
        tags: tuple[str, ...] = (),
    ) -> None:  # fmt: skip
        """New executions were acknowledged: they are there, with a version that whoever was asked may give them."""
        rows = self.run(self.real.rows()).executions
        for id in born:
            assert id in rows and id not in self.world.executions, f"{id} was acknowledged: {rows}"
            version = rows[id].version
            known = self.world.known[name, version]
            one = ExecutionModel(id, known, version, input, key, priority, tags, made=self.world.now)
            lawful = {version for _, version in self._targets(slot, one)}
            assert version in lawful, f"{rows[id]} has none of {lawful}"
            self.world.executions[id] = one

    def _wait(self, slot: int, id: str, task: asyncio.Task[Any]) -> None:
        self.numbers += 1
        self.real.waits[self.numbers] = task
        self.world.waits[self.numbers] = id
        self.waiting_at = {**getattr(self, "waiting_at", {}), self.numbers: slot}

    def _waits_at(self, slot: int) -> list[int]:
        return [number for number in self.real.waits if self.waiting_at[number] == slot]

    def _leave(self, slot: int) -> None:
        """Whoever waits at a runner that is about to die dies with it."""
        for number in self._waits_at(slot):
            self.real.waits.pop(number).cancel()
            del self.world.waits[number]

    def _task(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        async def begin() -> list[asyncio.Task[Any]]:
            return [asyncio.ensure_future(work)]

        return self.run(begin())[0]


def input_of(flag: bool, rich: bool) -> dict[str, Any]:
    return {"flag": flag, "log": [], "tree": {"t0": 0}} if rich else {"flag": flag}
