"""Whether a task runs once all its dependencies have ended, or why it is skipped."""

from __future__ import annotations

from cloacina.logic.conditions import could_hold
from cloacina.logic.standing import Standing
from cloacina.model.conditions import Condition
from cloacina.model.status import Reason, TaskState


def decide(standing: Standing, i: int) -> Reason | None:
    """None if task ``i`` runs now, else why it is skipped. All its dependencies must have ended.

    Without a rule it runs if at least one dependency is Completed (or it has none) and each broken one is
    optional or stood in for. With a rule it runs if that holds. Raises `ContextError` if the rule needs the
    view of the task and that cannot be built: the task has failed then.
    """
    rule = standing.dag.tasks[i].rule
    if rule is not None:
        return _decide_by_rule(standing, i, rule)
    states, completed = standing.states, TaskState.COMPLETED
    for needed in standing.dag.dependencies[i]:
        if states[needed] is not completed:
            return _decide_by_dependencies(standing, i)
    return None


def _decide_by_rule(standing: Standing, i: int, rule: Condition) -> Reason | None:
    if standing.holds(i, rule, standing.state_of):
        return None
    if standing.broken_dependencies(i) and could_hold(rule, standing.state_if_mended):
        return Reason.DEPENDENCY_FAILED
    return Reason.RULE_NOT_MET


def _decide_by_dependencies(standing: Standing, i: int) -> Reason | None:
    broken = standing.broken_dependencies(i)
    if not standing.completed_dependencies(i):
        return Reason.DEPENDENCY_FAILED if broken else Reason.DEPENDENCIES_SKIPPED
    to_replace = [needed for needed in broken if not standing.dag.tasks[needed].optional]
    if to_replace:
        inflow = standing.inflow(i)
        if not all(standing.covers(inflow, needed) for needed in to_replace):
            return Reason.DEPENDENCY_FAILED
    return None
