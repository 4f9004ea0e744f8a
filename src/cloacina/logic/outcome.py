"""How an execution ends: Completed, unless a failure was neither passed nor optional."""

from __future__ import annotations

from typing import NamedTuple

from cloacina.errors import ContextError
from cloacina.logic.conditions import turning
from cloacina.logic.standing import Standing
from cloacina.model.conditions import Condition
from cloacina.model.status import ExecutionStatus, TaskState


class Outcome(NamedTuple):
    """The status, and the canonical indexes of the broken tasks that were neither passed nor optional."""

    status: ExecutionStatus
    unpassed: tuple[int, ...]


_ALL_WELL = Outcome(ExecutionStatus.COMPLETED, ())


def outcome(standing: Standing) -> Outcome:
    """How the execution ends. All its tasks must have ended, by themselves."""
    if TaskState.FAILED not in standing.states:
        return _ALL_WELL
    unpassed = tuple(i for i in broken_for_good(standing) if not standing.dag.tasks[i].optional)
    return Outcome(ExecutionStatus.FAILED, unpassed) if unpassed else _ALL_WELL


def broken_for_good(standing: Standing) -> list[int]:
    """The canonical indexes of the broken tasks that were not passed, optional ones included."""
    broken = [i for i in range(len(standing.states)) if standing.broken(i)]
    passed = _passed(standing, broken)
    return [i for i in broken if not passed >> i & 1]


def _passed(standing: Standing, broken: list[int]) -> int:
    """The set of broken tasks that were passed.

    A skipped task asks the tasks that it broke, which come after it and were skipped too. A Failed one asks
    those, and the tasks that it stood for, which come before it. So this order needs no second look.
    """
    passed = _passed_by_dependents(standing, broken)
    recovered = _recovered(standing, broken)
    skipped = [i for i in reversed(broken) if standing.states[i] is TaskState.SKIPPED]
    failed = [i for i in broken if standing.states[i] is TaskState.FAILED]
    for i in skipped + failed:
        if passed >> i & 1:
            continue
        broke = [after for after in standing.dag.dependents[i] if _was_broken(standing, after)]
        stood_for = standing.stood_for(i)
        if (
            (broke and all(passed >> after & 1 for after in broke))
            or (stood_for and not stood_for & ~passed)
            or recovered >> i & 1
        ):
            passed |= 1 << i
    return passed


def _passed_by_dependents(standing: Standing, broken: list[int]) -> int:
    """The set of broken tasks that a direct dependent passed by completing."""
    dag, passed = standing.dag, 0
    for after in {after for i in broken for after in dag.dependents[i]}:
        if standing.states[after] is not TaskState.COMPLETED:
            continue
        rule = dag.tasks[after].rule
        spared = None if rule is None else _spared(standing, after, rule)
        for i in standing.broken_dependencies(after):
            if spared is None or dag.ids[i] in spared:
                passed |= 1 << i
    return passed


def _spared(standing: Standing, i: int, rule: Condition) -> frozenset[str]:
    """The ids that the rule tests and under which it would have held as well, had the one been Completed.

    None at all if it holds even with all dependencies Failed, as the rule of an alert or a clean-up does.
    """
    try:
        if standing.holds(i, rule, lambda _: TaskState.FAILED):
            return frozenset()
        return rule.tasks() - turning(rule, standing.state_of, lambda: standing.view_of(i))
    except ContextError:
        return frozenset()  # Another version of the workflow, adopted since, cannot build the view any more.


def _recovered(standing: Standing, broken: list[int]) -> int:
    """The set of tasks for which Completed tasks that recover stand in, and of those skipped only for these."""
    recovered = 0
    for i, task in enumerate(standing.dag.tasks):
        if task.recovers and standing.states[i] is TaskState.COMPLETED:
            recovered |= standing.stood_for(i)
    if not recovered:
        return 0
    for i in broken:
        breakers = standing.broken_dependencies(i) if standing.states[i] is TaskState.SKIPPED else []
        if breakers and all(recovered >> breaker & 1 for breaker in breakers):
            recovered |= 1 << i
    return recovered


def _was_broken(standing: Standing, i: int) -> bool:
    return standing.states[i] is TaskState.SKIPPED and standing.broken(i)
