"""Reduction: of a plan that breaks a promise, little is left."""

from __future__ import annotations

import pytest

from cloacina.engine.driving import driver
from simulation.generate import plan_of
from simulation.play import Report, play
from simulation.reduce import reduced


def test_a_failing_plan_is_made_smaller(monkeypatch: pytest.MonkeyPatch) -> None:
    """The defect: no task's changes are stored."""
    monkeypatch.setattr(driver, "encode", lambda value: "{}")
    report = next(found for seed in range(1, 50) if (found := play(plan_of(seed))).broken)
    small = reduced(report, most=60)
    assert small.broken
    assert size(small) < size(report)


def size(report: Report) -> int:
    plan = report.plan
    tasks = sum(len(workflow.tasks) for generation in plan.generations for workflow in generation)
    return tasks + len(plan.asks) + len(plan.orders) + len(plan.blows) + len(plan.trips)
