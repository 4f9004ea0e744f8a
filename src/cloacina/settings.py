"""Every knob of a runner, as one frozen value with units and defaults."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from cloacina.errors import ValidationError

PREFIX = "CLOACINA_"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How a runner behaves. Every number can also be set as ``CLOACINA_<NAME>`` in the environment.

    What each of them does, and its unit, stands in `docs/how-to/running.md`.

    Raises `ValidationError` for a value that is not a number of the field's kind or is out of range.
    """

    async_slots: int = 256
    """How many ``async def`` bodies may run at once."""
    thread_slots: int = 32
    """How many ``def`` bodies may run at once."""
    transaction_connections: int = 8
    """How many bodies with a transaction may run at once, each with a connection (PostgreSQL)."""
    transaction_timeout: float = 60.0
    """Seconds that a body's transaction may be open if its task has no timeout (PostgreSQL)."""
    process_slots: int = 0
    """How many bodies may run at once in processes of their own; 0 means one for each CPU."""
    process_idle: float = 300.0
    """Seconds without work after which a process for bodies ends."""
    process_attempts: int = 0
    """Attempts after which another process takes the place of a process for bodies; 0 means no bound."""
    window: int = 0
    """How many active executions the runner holds in memory; 0 means four times all slots."""
    max_pending: int = 0
    """Executions that may wait without an owner before a submit raises `QueueFull`; 0 means no bound."""
    max_waiting: int = 10_000
    """Executions kept in memory that only wait for a retry; more are stored away until they are due."""
    lease: float = 30.0
    """Seconds without a sign of life after which a runner that still holds its lock counts as dead."""
    poll_interval: float = 1.0
    """Seconds between looks for dead runners and for work of other processes. No SQL while nothing changed."""
    start_patience: float = 0.0
    """Seconds to wait at the start for a database that cannot be reached; 0 means to fail at once."""
    shutdown_grace: float = 30.0
    """Seconds that running bodies get to finish when the runner is left."""
    cancel_grace: float = 5.0
    """Seconds an ``async`` body may ignore its cancellation before it is written off."""
    command_timeout: float = 10.0
    """Seconds to wait until the owner of an execution in another process has carried out a command."""
    callback_timeout: float = 30.0
    """Seconds that ``on_success`` and ``on_failure`` may take."""
    loop_block_limit: float = 60.0
    """Seconds the event loop may be blocked before the runner gives up what it owns."""
    crash_cap: int = 3
    """Crashes of a task that ran as the only suspect, after which it fails as poisoned."""
    keep_completed_days: float = 30.0
    """Days that a completed execution is kept after its end; 0 means for ever."""
    keep_failed_days: float = 90.0
    """Days that a failed or cancelled execution is kept after its end; 0 means for ever."""
    prune_interval: float = 3600.0
    """Seconds between looks for executions that were kept long enough; the first look is at the start."""
    group_rows: int = 2_000
    """Rows after which a commit takes no further execution."""
    max_value_bytes: int = 1_000_000
    """Largest encoded value under one context key, in bytes."""
    max_context_bytes: int = 4_000_000
    """Largest encoded context, in bytes."""
    allow_unsafe_server: bool = False
    """Run on a PostgreSQL server whose settings let commits be lost when its machine fails."""

    def __post_init__(self) -> None:
        for name in _TYPES:
            _check(name, getattr(self, name))
        if not isinstance(self.allow_unsafe_server, bool):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ValidationError(
                f"setting allow_unsafe_server={self.allow_unsafe_server!r:.80} must be True or False"
            )
        if not self.process_slots:
            object.__setattr__(self, "process_slots", _cpus())
        if not self.window:
            slots = self.async_slots + self.thread_slots + self.process_slots
            object.__setattr__(self, "window", 4 * slots)

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] | None = None, **overrides: Any) -> Settings:
        """Settings from ``CLOACINA_*`` variables, with ``overrides`` on top.

        Raises `ValidationError` if a variable's text is no number.
        """
        source = os.environ if environ is None else environ
        values: dict[str, Any] = {}
        for name in _TYPES:
            text = source.get(PREFIX + name.upper())
            if text is not None:
                values[name] = _parse(name, text)
        return cls(**{**values, **overrides})


_MAY_BE_ZERO = frozenset(
    {
        "window", "max_pending", "max_waiting", "process_slots", "process_attempts", "start_patience",
        "shutdown_grace", "cancel_grace",
        "keep_completed_days", "keep_failed_days",
    }
)  # fmt: skip


def _cpus() -> int:
    """How many CPUs this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _kind(name: str) -> type[int] | type[float]:
    return int if _TYPES[name] == "int" else float


def _check(name: str, value: object) -> None:
    kind = _kind(name)
    if isinstance(value, bool) or not isinstance(value, int if kind is int else (int, float)):
        raise ValidationError(f"setting {name}={value!r} must be {_KINDS[kind]}")
    least = 0 if name in _MAY_BE_ZERO else 1 if kind is int else 0.001
    if not least <= value < math.inf:
        raise ValidationError(f"setting {name}={value!r} is out of range: give at least {least}")


def _parse(name: str, text: str) -> int | float:
    kind = _kind(name)
    try:
        return int(text) if kind is int else float(text)
    except ValueError:
        raise ValidationError(f"{PREFIX}{name.upper()}={text!r} must be {_KINDS[kind]}") from None


_KINDS: dict[type, str] = {int: "a whole number", float: "a number"}
_TYPES: dict[str, object] = {
    field.name: field.type for field in fields(Settings) if field.type in ("int", "float")
}
"""Of the fields that are numbers."""
