"""Runs of a machine: so many examples, the same every time or from a seed."""

from __future__ import annotations

import sys

from hypothesis import HealthCheck, Phase, settings
from hypothesis import seed as seeded
from hypothesis.errors import FlakyStrategyDefinition
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test

STEPS = 40
"""Of one example."""

_failures: list[BaseException] = []


def run(
    machine: type[RuleBasedStateMachine], examples: int, *, seed: int | None = None, shrink: bool = True
) -> None:
    """Run ``examples`` examples; without a ``seed`` they are the same every time.

    Which rules apply depends on what reality chose, two runners that race for one execution say. Hypothesis cannot
    know that, and gives up where the same draws led to another choice. That is no failure, unless there was one.
    """
    phases = [Phase.generate, Phase.shrink] if shrink else [Phase.generate]
    chosen = settings(
        max_examples=examples, stateful_step_count=STEPS, derandomize=seed is None, deadline=None, database=None,
        suppress_health_check=list(HealthCheck), phases=phases, print_blob=False,
    )  # fmt: skip
    if seed is not None:
        machine = seeded(seed)(machine)
    _failures.clear()
    try:
        run_state_machine_as_test(machine, settings=chosen)
    except FlakyStrategyDefinition:
        if _failures:
            raise AssertionError(
                f"an example failed, and its repetition did not: {_failures[0]}"
            ) from _failures[0]


def note_failure() -> None:
    """To be called by a machine's teardown: remember why the example ends, if that is a failure."""
    error = sys.exc_info()[1]
    if isinstance(error, Exception) and not type(error).__module__.startswith("hypothesis"):
        _failures.append(error)
