"""What became of each task of one execution, and what that means for others: broken, stood in for, carried.

The words of the five rules (`docs/explanation/trigger-rules.md`), each a method:

* *broken*: Failed, or skipped as ``dependency_failed``;
* a task *stands for* the broken dependencies that its rule names and for whose sake it ran, and for what
  those stood for in turn;
* a Completed task *carries* what it stands for and what its Completed dependencies carry;
* a task *covers* a broken one with what it carries: it carries it, or that one was skipped only because of
  tasks that are covered.

Sets of tasks are integers: bit i is the task with canonical index i. A task's state is set once and its
dependencies end before it, so every answer about tasks that ended is final and is remembered. Nothing is
computed as long as nothing is broken.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

from cloacina.errors import ContextError
from cloacina.logic.conditions import StateOf, evaluate
from cloacina.model.conditions import Condition
from cloacina.model.dag.dag import Dag
from cloacina.model.json.values import JSON
from cloacina.model.rules import replaceable
from cloacina.model.status import Reason, TaskState

_Answer = TypeVar("_Answer")


class _Memory:
    """Answers that were found once, by task. Made for the first question that a broken task raises."""

    __slots__ = ("carried", "cones", "stood_for", "targets", "uncovered")

    def __init__(self) -> None:
        self.carried: dict[int, int] = {}
        self.cones: dict[int, tuple[int, int]] = {}
        self.stood_for: dict[int, int] = {}
        self.targets: dict[int, list[int]] = {}
        self.uncovered: dict[int, int] = {}


class Standing:
    """The states of all tasks by canonical index, and the questions that the rules ask about them.

    The engine writes ``states`` and ``reasons``; a terminal state is set once. ``view_of`` gives the view
    that a task's rule sees, and may raise `ContextError`.
    """

    __slots__ = (
        "_memo",
        "dag",
        "reasons",
        "states",
        "view_of",
    )

    def __init__(self, dag: Dag, view_of: Callable[[int], Mapping[str, JSON]]) -> None:
        self.dag = dag
        self.view_of = view_of
        self.states = [TaskState.PENDING] * len(dag.tasks)
        self.reasons: list[Reason | None] = [None] * len(dag.tasks)
        self._memo: _Memory | None = None

    @property
    def _memory(self) -> _Memory:
        if self._memo is None:
            self._memo = _Memory()
        return self._memo

    def broken(self, i: int) -> bool:
        """True if task ``i`` is Failed, or was skipped as ``dependency_failed``."""
        return self.states[i] is TaskState.FAILED or (
            self.states[i] is TaskState.SKIPPED and self.reasons[i] is Reason.DEPENDENCY_FAILED
        )

    def completed_dependencies(self, i: int) -> list[int]:
        """The dependencies of task ``i`` that are Completed."""
        return [needed for needed in self.dag.dependencies[i] if self.states[needed] is TaskState.COMPLETED]

    def broken_dependencies(self, i: int) -> list[int]:
        """The dependencies of task ``i`` that are broken."""
        return [needed for needed in self.dag.dependencies[i] if self.broken(needed)]

    def state_of(self, task: str) -> TaskState:
        """The state of a task, by its id."""
        return self.states[self.dag.index[task]]

    def state_if_mended(self, task: str) -> TaskState:
        """The state of a task, by its id, had the broken ones been Completed."""
        i = self.dag.index[task]
        return TaskState.COMPLETED if self.broken(i) else self.states[i]

    def holds(self, i: int, rule: Condition, state_of: StateOf) -> bool:
        """True if the rule of task ``i`` holds with other outcomes and the context as it is.

        Raises `ContextError` if the rule needs the view of the task and that cannot be built.
        """
        return evaluate(rule, state_of, lambda: self.view_of(i))

    def targets(self, i: int) -> list[int]:
        """The broken dependencies for which task ``i``, which has ended, is itself a stand-in."""
        found = self._memory.targets.get(i)
        if found is None:
            found = self._memory.targets[i] = self._find_targets(i)
        return found

    def stood_for(self, i: int) -> int:
        """The set of tasks that task ``i`` stands for: its targets, and what those stood for."""
        return _remembered(self._memory.stood_for, i, self.targets, self._unite_targets)

    def carried(self, i: int) -> int:
        """The set of tasks that the Completed task ``i`` carries; `covers` knows what follows from it."""
        return _remembered(self._memory.carried, i, self.completed_dependencies, self._unite_carried)

    def inflow(self, i: int) -> int:
        """The set of tasks that the Completed dependencies of task ``i`` carry."""
        carried = 0
        for needed in self.completed_dependencies(i):
            carried |= self.carried(needed)
        return carried

    def covers(self, carried: int, i: int) -> bool:
        """True if the set ``carried`` stands for the broken task ``i``.

        It does if it has ``i``, or if ``i`` was skipped and it covers each broken dependency of ``i``. So no
        way up from ``i`` through broken tasks may reach a Failed one without meeting the set.
        """
        if carried and self._no_way_past(carried, i):
            return True
        self._memory.uncovered[i] = carried
        return False

    def _no_way_past(self, carried: int, i: int) -> bool:
        # Two shortcuts keep the walk short. If the set has no skipped task above, any Failed one above that it
        # lacks is a way past it. And what a set does not cover, no part of that set covers.
        ways = [i]
        seen: set[int] = set()
        while ways:
            at = ways.pop()
            if carried >> at & 1 or at in seen:
                continue
            seen.add(at)
            failed, skipped = self._cone(at)
            if not failed & ~carried:
                continue
            if not skipped & carried or not carried & ~self._memory.uncovered.get(at, 0):
                return False
            ways.extend(self.broken_dependencies(at))
        return True

    def _find_targets(self, i: int) -> list[int]:
        rule = self.dag.tasks[i].rule
        if rule is None or self.states[i] not in (TaskState.COMPLETED, TaskState.FAILED):
            return []
        named = replaceable(rule)
        found = [needed for needed in self.broken_dependencies(i) if self.dag.ids[needed] in named]
        if not found:
            return []
        try:
            self.holds(i, rule, self.state_of)  # It did hold, unless testing it is what failed.
            return [] if self.holds(i, rule, self.state_if_mended) else found
        except ContextError:
            return []  # The task failed because its view cannot be built, so it took nobody's place.

    def _unite_targets(self, i: int) -> int:
        united = 0
        for target in self.targets(i):
            united |= 1 << target | self._memory.stood_for[target]
        return united

    def _unite_carried(self, i: int) -> int:
        return self.inflow(i) | self.stood_for(i)

    def _cone(self, i: int) -> tuple[int, int]:
        """The Failed tasks that broke task ``i``, and the skipped ones on the way; ``i`` itself included."""
        return _remembered(self._memory.cones, i, self._breakers, self._unite_cones)

    def _breakers(self, i: int) -> list[int]:
        return [] if self.states[i] is TaskState.FAILED else self.broken_dependencies(i)

    def _unite_cones(self, i: int) -> tuple[int, int]:
        if self.states[i] is TaskState.FAILED:
            return 1 << i, 0
        failed = 0
        skipped = 1 << i
        for breaker in self._breakers(i):
            above = self._memory.cones[breaker]
            failed |= above[0]
            skipped |= above[1]
        return failed, skipped


def _remembered(
    memory: dict[int, _Answer],
    i: int,
    needs: Callable[[int], Iterable[int]],
    answer: Callable[[int], _Answer],
) -> _Answer:
    # Answers what is needed first, without recursion: a DAG may be as deep as it has tasks.
    stack = [i]
    while stack:
        at = stack[-1]
        missing = () if at in memory else [needed for needed in needs(at) if needed not in memory]
        if missing:
            stack.extend(missing)
            continue
        stack.pop()
        if at not in memory:
            memory[at] = answer(at)
    return memory[i]
