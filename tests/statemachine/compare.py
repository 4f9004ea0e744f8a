"""The comparison: what is stored against what the model says, and where reality had a choice, whether it was lawful."""

from __future__ import annotations

import json
from collections.abc import Iterator
from copy import deepcopy

from cloacina.model.status import ExecutionStatus, TaskState
from statemachine.merging import Json
from statemachine.model import ExecutionModel, TaskModel
from statemachine.rows import Rows
from statemachine.shapes import TICK
from statemachine.stage import Place
from statemachine.world import RunnerModel, World, is_suspect, short
from support.rows import AttemptRow, ExecutionRow


class Differs(Exception):
    """Reality is not as it should be, or not yet."""


class Comparison:
    """One look at everything that is stored. ``now`` is the clock, in microseconds.

    `accept` raises `Differs`, and else takes over what reality chose.
    """

    def __init__(self, world: World, rows: Rows, now: int) -> None:
        self._world = world
        self._rows = rows
        self._now = now
        self._started: list[tuple[ExecutionModel, str]] = []
        self._happened: list[str] = []
        self.views: dict[Place, Json] = {}
        """What the bodies that started should see."""

    def accept(self) -> None:
        world, rows = self._world, self._rows
        if list(rows.executions) != sorted(world.executions):
            raise Differs(f"stored are {list(rows.executions)}, and should be {sorted(world.executions)}")
        before = world.executions
        found = {id: self._settled(one) for id, one in before.items()}
        world.executions = found
        try:
            for check in (self._duties, self._slots, self._priorities, self._runners):
                check()
        except Differs:
            world.executions = before
            raise
        for what in self._happened:
            world.happened[what] += 1
        world.queued = {
            (one.id, id) for runner in world.runners.values() for one, id in world.waiting_for_slots(runner)
        }
        world.unclaimed = {one.id for one in world.live if one.owner is None and self._wants_driver(one)}

    # One execution.

    def _settled(self, one: ExecutionModel) -> ExecutionModel:
        """The execution as it should be, with what reality chose."""
        row = self._rows.executions[one.id]
        tries = [False] if one.over else [True] if row.owner in self._world.alive else [False, True]
        problem = None
        for decided in tries:
            happened, started = len(self._happened), len(self._started)
            try:
                return self._agreed(deepcopy(one) if one.finished is None else one, row, decided=decided)
            except Differs as differs:
                problem = problem or differs
                del self._happened[happened:], self._started[started:]
        assert problem is not None
        raise problem

    def _agreed(self, one: ExecutionModel, row: ExecutionRow, *, decided: bool) -> ExecutionModel:
        self._version(one, row)
        self._owner(one, row)
        if decided:
            one.decide(self._world.now)
            one.undecided = False
        elif row.wake_at is not None and row.wake_at > self._now:
            one.undecided = False
        attempts = self._rows.attempts.get(one.id, {})
        if not one.over:
            self._starts(one, row, attempts)
        self._same(one, row, attempts)
        if one.over and one.finished is None:
            one.finished = self._world.now
            self._happened.append(f"an execution ended: {one.status}")
        return one

    def _version(self, one: ExecutionModel, row: ExecutionRow) -> None:
        world = self._world
        if row.version != one.version:
            taker = [
                r for r in world.runners.values() if r.has.get(one.shape.name, (None, ""))[1] == row.version
            ]
            others = [runner for runner in world.offering(one) if runner is not world.reborn]
            if not taker or others or not _takes(taker[0], one):
                raise Differs(f"{short(one)} has become {row}, and nobody might adopt it")
            one.adopt(*taker[0].has[one.shape.name])
            self._happened.append("an execution was adopted by another version")
        if row.status == "parked" and not one.parked:
            if world.offering(one) or not any(_may_park(r, one) for r in world.runners.values()):
                raise Differs(f"{short(one)} was parked: {row}")
            one.parked = True
            self._happened.append("an execution was parked for its version")
        elif one.parked and row.status != "parked" and world.offering(one):
            one.parked, one.undecided = False, True
            self._happened.append("a parked execution was freed by its version")

    def _owner(self, one: ExecutionModel, row: ExecutionRow) -> None:
        if one.over:
            return
        taker = self._world.alive.get(row.owner or "")
        if row.owner is not None and taker is None and row.owner != one.owner:
            raise Differs(f"{row} is owned by nobody who lives")
        if taker is not None and row.owner != one.owner:
            rests = self._world.stores_away and not any(task.runs for task in one.tasks.values())
            if one.owner is not None and not rests:
                raise Differs(f"{row} was taken from {one.owner}")
            if not taker.offers(one):
                raise Differs(f"{row} was claimed by {taker}, who does not have that version")
            if one.began is not None:
                self._happened.append("an execution went on under another owner")
        if row.owner is None and one.owner is not None and not row.over:
            self._happened.append("an execution was stored away")
        one.owner = row.owner

    def _starts(self, one: ExecutionModel, row: ExecutionRow, attempts: dict[str, list[AttemptRow]]) -> None:
        ready = one.startable(self._world.now)
        for id, task in one.tasks.items():
            stored = attempts.get(id, [])
            if not stored or row.owner not in self._world.alive:
                continue
            last = stored[-1]
            if task.deferred and task.allowed and last.state == "running" and len(stored) == len(task.rows):
                one.go_on(id, self._world.now)
                self._happened.append("a deferred attempt went on")
            if len(stored) == len(task.rows) + 1 and id in ready and last.state == "running":
                if last.runner != row.owner:
                    raise Differs(f"{last} was started by another than the owner of {row}")
                if is_suspect(task):
                    self._happened.append("a suspect was started")
                if task.due is not None:
                    self._happened.append("a retry was started")
                one.start(id, self._world.now, suspect=is_suspect(task))
                self._started.append((one, id))
                self.views[one.id, id, last.attempt] = one.view(id)

    def _same(self, one: ExecutionModel, row: ExecutionRow, attempts: dict[str, list[AttemptRow]]) -> None:
        stored = {
            id: [(r.attempt, r.state, r.reason, bool(r.suspect)) for r in rows]
            for id, rows in attempts.items()
        }
        wanted = {
            id: [(r.number, r.state, r.reason, r.suspect) for r in task.rows]
            for id, task in one.tasks.items()
            if task.rows
        }
        _equal("the attempts", one, stored, wanted)
        _equal("the status", one, row.status, one.shown_status())
        _equal("when it began", one, row.started is not None, one.began is not None)
        _equal("when it ended", one, row.finished is not None, one.over)
        _equal("its input", one, json.loads(row.input), one.input)
        _equal(
            "what it was submitted with",
            one,
            (row.workflow, row.key, row.priority, tuple(json.loads(row.tags)), row.forked_from),
            (one.shape.name, one.key, one.priority, one.tags, one.forked_from),
        )
        if one.over:
            _equal("its result", one, json.loads(row.result or row.input), one.context)
            _equal(
                "whether it has an error", one, row.error is not None, one.status is ExecutionStatus.FAILED
            )
        left = [command.kind for command in sorted(self._rows.commands, key=lambda c: (c.sent, c.id))
                if command.execution == one.id]  # fmt: skip
        _equal("the commands that are left", one, left, [kind for kind, _ in one.commands])
        for id, task in one.tasks.items():
            _equal(f"the checkpoints of {id}", one, self._rows.notes.get((one.id, id), {}), task.notes)
            self._same_attempts(one, id, task, attempts.get(id, []))

    def _same_attempts(self, one: ExecutionModel, id: str, task: TaskModel, rows: list[AttemptRow]) -> None:
        for row in rows:
            _equal(f"whether {row} has a delta", one, row.delta is not None, row.state == "completed")
        if task.due is not None:
            wait = (rows[-1].retry_at or 0) - (rows[-1].finished or 0)
            shape = one.shape.task(id)
            assert shape is not None
            _equal(f"the wait of {id}", one, wait, round(shape.delay * TICK * 1e6))

    # All of them.

    def _wants_driver(self, one: ExecutionModel) -> bool:
        late = one.late is not None and one.late <= self._world.now
        ready = one.undecided or bool(one.startable(self._world.now))
        return not one.parked and (late or (ready and not one.paused))

    def _duties(self) -> None:
        """What may not be left undone."""
        for one in self._world.live:
            if one.owner is None:
                self._duty_of_others(one)
            elif one.owner in self._world.alive:
                self._duty_of_owner(one, self._world.alive[one.owner])

    def _duty_of_others(self, one: ExecutionModel) -> None:
        world, offering = self._world, self._world.offering(one)
        if offering:
            if one.parked:
                raise Differs(f"{short(one)} is parked, and {offering} has its version")
            idle = [runner for runner in offering if not world.full(runner)]
            if idle and self._wants_driver(one):
                raise Differs(f"nobody drives {short(one)}, and {short(idle)} has room")
            if self._wants_driver(one):
                self._happened.append("an execution waits for room")
            return
        if any(_takes(runner, one) for runner in world.runners.values()):
            raise Differs(f"{short(one)} is adopted by nobody")
        if any(_may_park(r, one) for r in world.runners.values()) and not (one.parked or one.paused):
            raise Differs(f"{short(one)} is not parked")

    def _duty_of_owner(self, one: ExecutionModel, runner: RunnerModel) -> None:
        if self._world.taken(runner) >= self._world.slots:
            if one.startable(self._world.now):
                self._happened.append("a task waits for a slot")
            return
        for id, task in one.tasks.items():
            if task.deferred and task.allowed and not one.paused:
                raise Differs(f"{id} of {short(one)} is deferred for nothing")
        for id in one.startable(self._world.now):
            if is_suspect(one.tasks[id]) and self._world.runs_suspect(runner):
                self._happened.append("a suspect waits for another")
            else:
                raise Differs(f"{id} of {short(one)} does not start, and {runner.id} has a slot")

    def _slots(self) -> None:
        for runner in self._world.runners.values():
            if self._world.taken(runner) > self._world.slots:
                raise Differs(f"{runner} runs {self._world.taken(runner)} bodies")
            suspects = [
                task
                for one in self._world.owned(runner)
                for task in one.tasks.values()
                if task.runs and not task.deferred and task.rows[-1].suspect
            ]
            if len(suspects) > 1:
                raise Differs(f"{runner} runs {len(suspects)} suspects at once")

    def _priorities(self) -> None:
        """What waited since the last step was not passed by what has a lower priority."""
        for runner in self._world.runners.values():
            left = [
                one.priority
                for one, id in self._world.waiting_for_slots(runner)
                if (one.id, id) in self._world.queued and not is_suspect(one.tasks[id])
            ]
            for one, id in self._started:
                passed = one.owner == runner.id and left and one.priority < max(left)
                if passed and not one.tasks[id].rows[-1].suspect:
                    raise Differs(f"{id} of {short(one)} was started before others of priority {max(left)}")
        if len(self._world.runners) == 1:
            self._claims()

    def _claims(self) -> None:
        [runner] = self._world.runners.values()
        left = [
            (one.priority, one.id)
            for one in self._world.live
            if one.owner is None
            and one.id in self._world.unclaimed
            and runner.offers(one)
            and self._wants_driver(one)
        ]
        for one, _ in self._started:
            if one.id in self._world.unclaimed:
                for priority, id in left:
                    if (-priority, id) < (-one.priority, one.id):
                        raise Differs(f"{short(one)} was claimed before {id} with priority {priority}")

    def _runners(self) -> None:
        alive = {id for id, state in self._rows.runners.items() if state == "alive"}
        missing = set(self._world.alive) - alive
        if missing:
            raise Differs(f"{missing} are not stored as alive: {self._rows.runners}")
        if self._world.runners and alive - set(self._world.alive):
            raise Differs(f"{alive - set(self._world.alive)} are stored as alive, and dead")


def _takes(runner: RunnerModel, one: ExecutionModel) -> bool:
    """True if a runner may adopt an execution whose version nobody has."""
    if one.shape.name not in runner.has:
        return False
    shape, _ = runner.has[one.shape.name]
    return shape.policy != "pin" and not one.objection(
        shape, one.touched(), forgiving=shape.policy == "adopt"
    )


def _may_park(runner: RunnerModel, one: ExecutionModel) -> bool:
    has = runner.has.get(one.shape.name)
    return has is not None and has[0].policy != "pin" and not _takes(runner, one)


def _equal(what: str, one: ExecutionModel, found: object, wanted: object) -> None:
    if found != wanted:
        raise Differs(f"{what} of execution {one.id}: {found}, and should be {wanted}\n{one}")


def lasting(before: Rows, after: Rows, removed: set[str]) -> Iterator[str]:
    """What changed from one step to the next that may never change, by the rows alone."""
    keys = [row.key for row in after.executions.values() if row.key is not None]
    if len(keys) != len(set(keys)):
        yield f"two executions have one key: {keys}"
    for id, row in before.executions.items():
        if id not in after.executions:
            if id not in removed:
                yield f"{row} is gone"
            continue
        if row.over and after.executions[id] != row:
            yield f"{row} had ended, and is {after.executions[id]}"
        for task, rows in before.attempts.get(id, {}).items():
            later = after.attempts.get(id, {}).get(task, [])
            for old, new in zip(rows, [*later, *[None] * len(rows)], strict=False):
                if new is None or (old != new and old.state not in ("running", "deferred")):
                    yield f"{old} has become {new}"
    for rows in (rows for tasks in after.attempts.values() for rows in tasks.values()):
        numbers = [row.attempt for row in rows]
        if numbers not in ([0], list(range(1, len(rows) + 1))):
            yield f"the numbers of {rows} are {numbers}"


def same_states(one: ExecutionModel) -> dict[str, TaskState]:
    return {task.id: one.tasks[task.id].state for task in one.shape.order}
