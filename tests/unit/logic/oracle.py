"""The five rules of readiness and outcome once more, as naively as the text allows: sets of ids and recursion.

Shares nothing with `cloacina.logic` but the conditions as values. `Dag` stands in for the real one, so that
tests can make thousands of them cheaply.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Any

from cloacina.logic.outcome import Outcome, outcome
from cloacina.logic.readiness import decide
from cloacina.logic.standing import Standing
from cloacina.model.rules import (
    All,
    Any_,
    Condition,
    ContextValue,
    None_,
    Not,
    TaskFailed,
    TaskSkipped,
    TaskSuccess,
)
from cloacina.model.status import ExecutionStatus, Reason, TaskState

C, F, S = TaskState.COMPLETED, TaskState.FAILED, TaskState.SKIPPED


@dataclass(frozen=True)
class Task:
    """As much of a task as the rules look at."""

    id: str
    dependencies: tuple[str, ...] = ()
    rule: Condition | None = None
    optional: bool = False
    recovers: bool = False


class Dag:
    """As much of a DAG as the rules look at. The tasks come in canonical order."""

    def __init__(self, tasks: Sequence[Task]) -> None:
        self.tasks = tuple(tasks)
        self.ids = tuple(task.id for task in tasks)
        self.index = {id: i for i, id in enumerate(self.ids)}
        self.dependencies = tuple(tuple(self.index[id] for id in task.dependencies) for task in tasks)
        dependents: list[list[int]] = [[] for _ in tasks]
        for i, needed in enumerate(self.dependencies):
            for at in needed:
                dependents[at].append(i)
        self.dependents = tuple(map(tuple, dependents))

    def __repr__(self) -> str:
        return "\n".join(map(str, self.tasks))


def play(
    dag: Dag,
    fails: frozenset[str],
    context: Mapping[str, Any] | None = None,
    *,
    order: Sequence[int] = (),
    make: Callable[..., Standing] = Standing,
) -> tuple[Standing, Outcome]:
    """Run a DAG by the real rules: a task that runs is Failed if it is in ``fails``, else Completed.

    ``order`` is a topological order in which tasks end; the canonical one if empty.
    """
    standing = make(dag, lambda i: context or {})
    for i in order or range(len(dag.tasks)):
        reason = decide(standing, i)
        if reason is not None:
            standing.reasons[i] = reason
            standing.states[i] = S
        else:
            standing.states[i] = F if dag.ids[i] in fails else C
    return standing, outcome(standing)


class Oracle:
    """One execution of a DAG by the text of the rules; the same arguments as `play`."""

    def __init__(self, dag: Dag, fails: frozenset[str], context: Mapping[str, Any] | None = None) -> None:
        self.tasks = {task.id: task for task in dag.tasks}
        self.context = context or {}
        self.state: dict[str, TaskState] = {}
        self.reason: dict[str, Reason] = {}
        for task in dag.tasks:
            reason = self.decide(task)
            if reason is None:
                self.state[task.id] = F if task.id in fails else C
            else:
                self.state[task.id] = S
                self.reason[task.id] = reason

    # 1. A task is decided when all its dependencies have ended.

    def decide(self, task: Task) -> Reason | None:
        if task.rule is not None:
            if self.holds(task.rule, self.state.__getitem__):
                return None
            return Reason.DEPENDENCY_FAILED if self.could_hold_if_mended(task) else Reason.RULE_NOT_MET
        one_completed = not task.dependencies or any(self.state[id] is C for id in task.dependencies)
        carried = self.joined(task)
        if one_completed and all(
            self.tasks[id].optional or id in carried for id in self.broken_dependencies(task)
        ):
            return None
        return Reason.DEPENDENCY_FAILED if self.broken_dependencies(task) else Reason.DEPENDENCIES_SKIPPED

    # 2. Broken.

    def broken(self, id: str) -> bool:
        return self.state[id] is F or self.reason.get(id) is Reason.DEPENDENCY_FAILED

    def broken_dependencies(self, task: Task) -> set[str]:
        return {id for id in task.dependencies if self.broken(id)}

    def mended(self, id: str) -> TaskState:
        return C if self.broken(id) else self.state[id]

    def could_hold_if_mended(self, task: Task) -> bool:
        assert task.rule is not None
        guesses = product((True, False), repeat=count_context_values(task.rule))
        return bool(self.broken_dependencies(task)) and any(
            self.holds(task.rule, self.mended, iter(guess)) for guess in guesses
        )

    # 3. Stand-ins, and what is carried.

    def stands_in(self, task: Task, id: str) -> bool:
        return (
            task.rule is not None
            and self.state[task.id] in (C, F)
            and id in self.broken_dependencies(task)
            and names_as_broken(task.rule, id)
            and not self.holds(task.rule, self.mended)
        )

    def stood_for(self, task: Task) -> set[str]:
        found: set[str] = set()
        for id in task.dependencies:
            if self.stands_in(task, id):
                found |= {id} | self.stood_for(self.tasks[id])
        return found

    def carried(self, task: Task) -> set[str]:
        return self.joined(task) | self.stood_for(task)

    def joined(self, task: Task) -> set[str]:
        return self.closed(
            set().union(*(self.carried(self.tasks[id]) for id in task.dependencies if self.state[id] is C))
        )

    def closed(self, carried: set[str]) -> set[str]:
        for id, reason in self.reason.items():  # In canonical order, so once is enough.
            if reason is Reason.DEPENDENCY_FAILED and self.broken_dependencies(self.tasks[id]) <= carried:
                carried = carried | {id}
        return carried

    # 4. Passed.

    def passed(self, id: str) -> bool:
        broke = [
            task.id
            for task in self.tasks.values()
            if id in task.dependencies and self.reason.get(task.id) is Reason.DEPENDENCY_FAILED
        ]
        stood_for = self.stood_for(self.tasks[id])
        return (
            any(self.continues(task, id) for task in self.tasks.values() if id in task.dependencies)
            or (bool(broke) and all(map(self.passed, broke)))
            or (bool(stood_for) and all(map(self.passed, stood_for)))
            or id in self.recovered
        )

    def continues(self, task: Task, id: str) -> bool:
        if self.state[task.id] is not C:
            return False
        rule = task.rule
        return rule is None or (
            tests(rule, id)
            and self.holds(rule, lambda other: C if other == id else self.state[other])
            and not self.holds(rule, lambda _: F)
        )

    @cached_property
    def recovered(self) -> set[str]:
        recovering = [task for task in self.tasks.values() if task.recovers and self.state[task.id] is C]
        return self.closed(set().union(*(self.stood_for(task) for task in recovering)))

    # 5. The outcome.

    def outcome(self) -> tuple[ExecutionStatus, set[str]]:
        unpassed = {
            task.id
            for task in self.tasks.values()
            if self.broken(task.id) and not task.optional and not self.passed(task.id)
        }
        return (ExecutionStatus.FAILED if unpassed else ExecutionStatus.COMPLETED), unpassed

    def holds(
        self, rule: Condition, state: Callable[[str], TaskState], guess: Any = None
    ) -> bool:  # ``guess`` gives the truth of each context value in turn, in place of the context.
        match rule:
            case TaskSuccess(task):
                return state(task) is C
            case TaskFailed(task):
                return state(task) is F
            case TaskSkipped(task):
                return state(task) is S
            case ContextValue(key):
                return next(guess) if guess is not None else bool(self.context.get(key))
            case Not(condition):
                return not self.holds(condition, state, guess)
            case All(conditions):
                return False not in [self.holds(part, state, guess) for part in conditions]
            case Any_(conditions):
                return True in [self.holds(part, state, guess) for part in conditions]
            case None_(conditions):
                return True not in [self.holds(part, state, guess) for part in conditions]
            case _:
                return True


def count_context_values(rule: Condition) -> int:
    match rule:
        case ContextValue():
            return 1
        case Not(condition):
            return count_context_values(condition)
        case All(conditions) | Any_(conditions) | None_(conditions):
            return sum(map(count_context_values, conditions))
        case _:
            return 0


def tests(rule: Condition, id: str) -> bool:
    match rule:
        case TaskSuccess(task) | TaskFailed(task) | TaskSkipped(task):
            return task == id
        case Not(condition):
            return tests(condition, id)
        case All(conditions) | Any_(conditions) | None_(conditions):
            return any(tests(part, id) for part in conditions)
        case _:
            return False


def names_as_broken(rule: Condition, id: str, negations: int = 0) -> bool:
    """True if the rule names the task as failed or skipped, or under an odd number of negations successful."""
    match rule:
        case TaskSuccess(task):
            return task == id and negations % 2 == 1
        case TaskFailed(task) | TaskSkipped(task):
            return task == id and negations % 2 == 0
        case Not(condition):
            return names_as_broken(condition, id, negations + 1)
        case None_(conditions):
            return any(names_as_broken(part, id, negations + 1) for part in conditions)
        case All(conditions) | Any_(conditions):
            return any(names_as_broken(part, id, negations) for part in conditions)
        case _:
            return False
