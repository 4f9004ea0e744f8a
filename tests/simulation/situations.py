"""The rare situations that a long run must have seen, or it did not look where it should."""

from __future__ import annotations

from collections import Counter
from typing import get_args

from simulation.disk import Hiccup
from simulation.plan import Kind

SITUATIONS: frozenset[str] = frozenset(
    {
        # Processes.
        *(f"a blow: {kind}" for kind in get_args(Kind)),
        "logged: runner %s lost what it owned and starts again under a new id: %s",
        "logged: the runner gives up what it owns: %s",
        "logged: bodies that did not end and are cut: %d",
        "logged: the runner could not be stored as stopped; others will find it dead: %s",
        "logged: the database takes no writes; what is not stored yet is done again by the next runner",
        "a body of a dead runner began",
        "logged: a body was not started: the runner's lease is not fresh",
        # The database.
        *(f"a job was {hiccup}" for hiccup in Hiccup),
        *(f"the reply of {name} was lost" for name in ("commit", "insert_unowned", "recover", "send")),
        "a commit changed nothing, since it had been done",
        "a recover changed nothing, since it had been done",
        "a void changed nothing, since it had been done",
        "a group in doubt was made void",
        "a group of a dead runner was refused",
        "logged: the database does not take part for now, trying again: %s",
        "logged: the store refused what an execution wrote: %s",
        # Executions.
        "an execution had three owners",
        "an execution was stored away",
        "an execution that had been stored away was claimed",
        "an execution was given up by recover",
        "an execution was adopted by another version",
        "an execution was parked: version",
        "a parked execution was freed",
        "a paused execution ended as cancelled",
        "a paused execution ended as failed",
        # Attempts.
        *(f"an attempt was interrupted: {why}" for why in ("crash", "lost_lease", "shutdown", "deferred")),
        "a task was interrupted twice",
        "a task was started again after two crashes",
        "a suspect was started",
        "a task ended without running: poisoned",
        "a task ended without running: execution_timeout",
        "a task ended without running: cancelled",
        "an attempt went from running to timed_out",
        "an attempt went from deferred to running",
        "an attempt went from deferred to cancelled",
        "an attempt was copied by a fork",
        "logged: the body ignored its cancellation for %ss and was written off",
        # Commands.
        *(f"a command was left for the owner: {kind}" for kind in ("cancel", "pause", "resume")),
        "a command was obeyed",
        "a command ended with its execution",
        "resume was refused: CommandTimeout",
        "a caller was told RunnerClosed",
        "a caller was told StoreRefused",
    }
)  # fmt: skip


def missing(found: Counter[str]) -> list[str]:
    """The situations that never came about."""
    return sorted(name for name in SITUATIONS if not found[name])
