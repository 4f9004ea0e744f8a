"""Runs of the machine: so many examples, the same every time or from a seed."""

from __future__ import annotations

from hypothesis import HealthCheck, Phase, settings
from hypothesis import seed as seeded
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test

STEPS = 40
"""Of one example."""


def run(
    machine: type[RuleBasedStateMachine], examples: int, *, seed: int | None = None, shrink: bool = True
) -> None:
    """Run ``examples`` examples; without a ``seed`` they are the same every time."""
    phases = [Phase.generate, Phase.shrink] if shrink else [Phase.generate]
    chosen = settings(
        max_examples=examples, stateful_step_count=STEPS, derandomize=seed is None, deadline=None, database=None,
        suppress_health_check=list(HealthCheck), phases=phases, print_blob=False,
    )  # fmt: skip
    if seed is not None:
        machine = seeded(seed)(machine)
    run_state_machine_as_test(machine, settings=chosen)
