"""The differential of the public API: the same calls to a runner on SQLite and to one on PostgreSQL, step by step.

Two worlds that differ in nothing but the database: clocks that stand at the same moment, the same workflows, bodies
that are told the same. After each step both must show the same, to the word, but for ids and the database's name.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any, ClassVar

from hypothesis import event
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from cloacina import ExecutionStatus
from cloacina.errors import CloacinaError
from cloacina.model import ids
from statemachine.ground import NAMES, Any_, input_of
from statemachine.merging import WRITES
from statemachine.places import Place
from statemachine.reality import Reality
from statemachine.running import note_failure
from statemachine.shapes import TICK, Shape, built, shapes, successors
from statemachine.stage import Stage

_ID = re.compile("[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}")
_ONLY_THERE = "; one that joined a transaction is there once that is committed"
"""What PostgreSQL alone can do is told there alone."""
PATIENCE = 100


class Side:
    """One of the two worlds."""

    def __init__(self, place: Place, settings: dict[str, Any], start: int) -> None:
        self.stage = Stage()
        self.reality = Reality(place, settings)
        self.reality.clock._now = self.reality.clock._start = start
        self.ids: list[str] = []
        """The executions in the order of their birth."""
        self.name = place.url

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        """The answer or the error, as far as both sides must agree."""
        try:
            return self.told(self.reality.run(self.reality.patiently(work)))
        except CloacinaError as error:
            return self.told(f"{type(error).__name__}: {error}")

    def told(self, value: Any) -> str:
        """A value without what only one side has: ids become numbers in the order of birth."""
        text = str(value).replace(self.name, "<database>").replace(_ONLY_THERE, "")
        return _ID.sub(
            lambda found: f"<{self.ids.index(found[0])}>" if found[0] in self.ids else "<id>", text
        )

    async def look(self) -> list[str]:
        """All that the public API shows."""
        await self.reality.calm()
        rows = await self.reality.rows()
        self.ids += [id for id in rows.executions if id not in self.ids]
        [runner] = self.reality.runners.values()
        seen = [json.dumps(sorted(str(place[1:]) for place in self.stage.acts))]
        for info in await runner.list():
            result, why = await runner.get(info.id), await runner.explain(info.id)
            histories = {
                id: [tuple(one) for one in map(_attempt, task.history)] for id, task in result.tasks.items()
            }
            parts = (
                info.status, info.priority, info.tags, info.key, info.workflow, info.version, info.owner is None,
                info.forked_from, info.error, _ticks(info.created), result.context.to_json(), histories,
                _untimed(str(why)), rows.notes.get((info.id, "t0")),
            )  # fmt: skip
            seen.append(self.told(f"{info.id}: {parts}"))
        return seen


class BesideMachine(RuleBasedStateMachine):
    """See the module's text."""

    places: ClassVar[tuple[Place, Place]]
    happened: ClassVar[Counter[str]] = Counter()

    def __init__(self) -> None:
        super().__init__()
        ids._last = 0
        self.sides: list[Side] = []
        self.steps = 0

    @initialize(
        red=shapes("red"), blue=shapes("blue"), slots=st.sampled_from([8, 2, 1]), window=st.sampled_from([50, 1]),
        waiting=st.sampled_from([1000, 0]), pending=st.sampled_from([0, 3]),
    )  # fmt: skip
    def begin(self, red: Shape, blue: Shape, slots: int, window: int, waiting: int, pending: int) -> None:
        settings = {
            "async_slots": slots, "thread_slots": 1, "process_slots": 1, "window": window, "max_waiting": waiting,
            "max_pending": pending, "keep_completed_days": 1.0, "keep_failed_days": 1.0,
        }  # fmt: skip
        start = 1_800_000_000_000_000
        self.shapes = [red, blue]
        self.numbers = 0
        for place in self.places:
            self.sides.append(Side(place, settings, start))
        self._start()

    def teardown(self) -> None:
        note_failure()
        for side in self.sides:
            side.reality.close()

    def both(self, what: str, call: Callable[[Side], Coroutine[Any, Any, Any]]) -> None:
        """Do the same on both sides, and compare what is told, and shown then."""
        first, second = (side.run(call(side)) for side in self.sides)
        assert first == second, f"{what} told {first} on SQLite, and {second} on PostgreSQL"
        kind = first.split(":")[0]
        told = f"{what} raises {kind}" if kind.isidentifier() and kind[0].isupper() and ":" in first else what
        self.happened[told] += 1
        event(told)
        self.steps += 1
        self.compare()

    def compare(self) -> None:
        for patience in reversed(range(PATIENCE)):
            shown = [side.reality.run(side.look()) for side in self.sides]
            if shown[0] == shown[1]:
                return
            for side in self.sides:
                side.reality.run(side.reality.blink())
            assert patience, _difference(*shown)

    def _start(self) -> None:
        self.both(
            "start", lambda side: side.reality.start(0, [built(shape, side.stage) for shape in self.shapes])
        )

    # What is done.

    @rule(
        name=st.sampled_from([*NAMES * 8, "grey"]), flag=st.booleans(),
        key=st.sampled_from([*[None, "k1", None, "k2"] * 4, "\n"]), priority=st.sampled_from([*[0, 1, -1] * 6, 10**9]),
        tags=st.sampled_from([*[(), ("a",), ("a", "b")] * 6, ("b a d",)]),
        bad=st.sampled_from([None] * 40 + [float("nan"), "\ud800", "a\0", {1: 2}, "huge"]),
    )  # fmt: skip
    def submit(self, name: str, flag: bool, key: Any, priority: int, tags: Any, bad: Any) -> None:
        input = input_of(flag, True) if bad is None else {"bad": "x" * 2_000_000 if bad == "huge" else bad}
        self.both(
            "submit",
            lambda side: _id(
                side.reality.runners[0].submit(name, input, key=key, priority=priority, tags=tags)
            ),
        )

    @rule(name=st.sampled_from(NAMES), many=st.integers(0, 4), bad=st.sampled_from([*[None] * 9, 2]))
    def submit_many(self, name: str, many: int, bad: Any) -> None:
        inputs = [*(input_of(bool(number % 2), True) for number in range(many)), *([bad] if bad else [])]
        self.both("submit_many", lambda side: _len(side.reality.runners[0].submit_many(name, inputs)))

    @precondition(lambda self: self.sides[0].ids)
    @rule(which=Any_, kind=st.sampled_from(["cancel", "pause", "resume", "status"]))
    def command(self, which: int, kind: str) -> None:
        self.both(kind, lambda side: getattr(side.reality.runners[0], kind)(_of(side, which)))

    @precondition(lambda self: self.sides[0].ids)
    @rule(which=Any_)
    def retry(self, which: int) -> None:
        self.both("retry", lambda side: _id(side.reality.runners[0].retry(_of(side, which))))

    @precondition(lambda self: self.sides[0].ids)
    @rule(
        which=Any_, start=st.sampled_from([None, "t0", "t1", "t2", "tx", 5]),
        replace=st.sampled_from([None, {"log": [1]}, {"x": float("inf")}]),
    )  # fmt: skip
    def fork(self, which: int, start: Any, replace: Any) -> None:
        self.both(
            "fork",
            lambda side: _id(
                side.reality.runners[0].fork(_of(side, which), from_task=start, replace=replace)
            ),
        )

    @rule(
        status=st.sampled_from(["failed", "completed", "cancelled"]), tag=st.sampled_from([None, "a"]),
        limit=st.sampled_from([None, 1]), dry=st.booleans(), skip=st.booleans(),
    )  # fmt: skip
    def retry_many(self, status: str, tag: Any, limit: Any, dry: bool, skip: bool) -> None:
        async def work(side: Side) -> Any:
            done = await side.reality.runners[0].retry_many(
                status=status, tag=tag, limit=limit, dry_run=dry, skip_forked=skip
            )
            return [(one.execution, one.fork is None, one.tasks, one.refused) for one in done]

        self.both("retry_many", work)

    @precondition(lambda self: self.sides[0].stage.acts)
    @rule(which=Any_, how=st.integers(0, len(WRITES) - 1))
    def complete(self, which: int, how: int) -> None:
        self.numbers += 1
        number = self.numbers
        self._tell(which, "write", lambda task: lambda ctx: WRITES[how](ctx, task, number))

    @precondition(lambda self: self.sides[0].stage.acts)
    @rule(how=st.integers(0, len(WRITES) - 1), times=st.integers(2, 8))
    def carry_through(self, how: int, times: int) -> None:
        """One body after the other completes."""
        for _ in range(times):
            if self.sides[0].stage.acts:
                self.complete(0, how)

    @precondition(lambda self: self.sides[0].stage.acts)
    @rule(which=Any_, permanent=st.booleans())
    def fail(self, which: int, permanent: bool) -> None:
        self._tell(which, "fail", lambda task: permanent)

    @precondition(lambda self: self.sides[0].stage.acts)
    @rule(which=Any_, name=st.sampled_from(["first", "second", ""]))
    def checkpoint(self, which: int, name: str) -> None:
        self.numbers += 1
        number = self.numbers
        self._tell(which, "checkpoint", lambda task: (name, number))

    @precondition(lambda self: self.sides[0].stage.acts)
    @rule(which=Any_)
    def defer(self, which: int) -> None:
        self._tell(which, "defer", lambda task: TICK / 4)

    @precondition(lambda self: self.sides[0].stage.acts)
    @rule(which=Any_)
    def allow(self, which: int) -> None:
        for side in self.sides:
            side.stage.acts[self._act(side, which)].may_go_on = True

    def _tell(self, which: int, what: str, detail: Callable[[str], Any]) -> None:
        async def work(side: Side) -> None:
            place = self._act(side, which)
            side.stage.tell(place, what, detail(place[1]))

        self.both(what, work)

    def _act(self, side: Side, which: int) -> Any:
        places = sorted(side.stage.acts, key=lambda place: (side.ids.index(place[0]), place))
        return places[which % len(places)]

    @rule(ticks=st.integers(1, 3))
    def advance(self, ticks: int) -> None:
        async def work(side: Side) -> None:
            side.reality.clock.advance(TICK)

        for _ in range(ticks):
            self.both("advance", work)

    @rule(how=st.sampled_from(["crash", "shutdown"]), data=st.data())
    def restart(self, how: str, data: st.DataObject) -> None:
        """The runner goes, and another one comes, perhaps with other versions."""
        for side in self.sides:
            side.reality.run(getattr(side.reality, how)(0))
        self.shapes = [data.draw(st.just(one) | successors(one)) for one in self.shapes]
        self.happened[how] += 1
        self._start()

    @precondition(lambda self: self.steps % 5 == 0)
    @rule()
    def prune(self) -> None:
        self.both("prune", lambda side: side.reality.runners[0].prune())

    @precondition(lambda self: self.steps % 5 == 1)
    @rule(
        workflow=st.sampled_from([None, "red", "grey"]), tag=st.sampled_from([None, "a", "A"]),
        status=st.sampled_from([(), "failed", "no", (ExecutionStatus.RUNNING, "pending")]),
        limit=st.sampled_from([0, 1, 3]),
    )  # fmt: skip
    def list(self, workflow: Any, tag: Any, status: Any, limit: int) -> None:
        async def work(side: Side) -> Any:
            found = await side.reality.runners[0].list(workflow=workflow, tag=tag, status=status, limit=limit)
            return [info.id for info in found]

        self.both("list", work)

    @precondition(lambda self: self.steps % 5 == 2)
    @rule(
        id=st.sampled_from(["nothing", "", "ü", "a\0b", "'; --", 5]),
        what=st.sampled_from(["get", "explain", "cancel", "retry"]),
    )
    def unknown(self, id: Any, what: str) -> None:
        self.both(f"{what} of nothing", lambda side: getattr(side.reality.runners[0], what)(id))


async def _id(work: Coroutine[Any, Any, Any]) -> str:
    return f"handle of {(await work).id}"


async def _len(work: Coroutine[Any, Any, Any]) -> int:
    return len(await work)


def _of(side: Side, which: int) -> str:
    return side.ids[which % len(side.ids)]


def _attempt(one: Any) -> tuple[Any, ...]:
    error = None if one.error is None else (one.error.type, one.error.message)
    return one.number, one.state, one.reason, error, one.started is None, one.finished is None


def _ticks(moment: Any) -> int:
    return round((moment.timestamp() - 1_800_000_000) / TICK)


def _untimed(text: str) -> str:
    return re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d[.\d]*\+00:00", "<time>", text)


def _difference(first: Any, second: Any) -> str:
    return "\n".join(
        f"SQLite shows {one}\nPostgreSQL   {other}"
        for one, other in zip([*first, *[None] * len(second)], [*second, *[None] * len(first)], strict=True)
        if one != other
    )
