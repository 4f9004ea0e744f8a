"""The situations that a long run must have seen, or it did not look where it should."""

from __future__ import annotations

from collections import Counter

_STANDINGS = ("is pending", "is running", "is paused", "has ended")

SITUATIONS: frozenset[str] = frozenset(
    {
        "a caller was told ExecutionNotFound",
        "a checkpoint was read again",
        "a checkpoint was stored",
        "a deferred attempt was interrupted",
        "a deferred attempt went on",
        "a fork was made",
        "a fork was refused",
        "a key was in use for something else",
        "a key was used again",
        "a live one was to be forked",
        "a retry was started",
        "a task waits for a slot",
        "an attempt ran out of time",
        "an attempt was deferred",
        "an attempt was interrupted: lost_lease",
        "an execution ended: cancelled",
        "an execution ended: completed",
        "an execution ended: failed",
        "an execution waits for room",
        "an execution was stored away",
        "an execution went on under another owner",
        "old executions were pruned",
        "the queue was full",
        *(
            f"{kind} of one that {standing}"
            for kind in ("cancel", "pause", "resume")
            for standing in _STANDINGS
        ),
    }
)

NOT_IN_MEMORY: frozenset[str] = frozenset(
    {
        "a caller was told CommandTimeout",
        "a caller was told RegistrationError",
        "a command was left for a dead owner",
        "a dead runner's work was found at a start",
        "a fork was made under another version",
        "a parked execution was freed by its version",
        "a suspect waits for another",
        "a suspect was started",
        "an attempt was interrupted: crash",
        "an attempt was interrupted: shutdown",
        "an execution was adopted by another version",
        "an execution was parked for its version",
        "runners: 2",
    }
)
"""Those that need a second runner, a client, or a runner that comes back."""


def missing(found: Counter[str], where: str) -> list[str]:
    """The situations that never came about on one kind of database."""
    expected = SITUATIONS if where == "memory" else SITUATIONS | NOT_IN_MEMORY
    return sorted(name for name in expected if not found[name])
