"""A length of time as users write it: a number of seconds, or a timedelta."""

from __future__ import annotations

from datetime import timedelta
from typing import TypeAlias

from cloacina.errors import WorkflowError
from cloacina.model.definition.hints import shown

Duration: TypeAlias = "float | timedelta"

LONGEST = 366 * 86_400.0
"""The longest time that a definition may ask for, in seconds."""


def seconds(what: str, value: object, *, zero: bool = False) -> float:
    """``value`` as seconds, at most 366 days; 0 only where ``zero`` says so.

    Raises `WorkflowError` for anything else, and names ``what``.
    """
    if isinstance(value, timedelta):
        value = value.total_seconds()
    elif isinstance(value, bool) or not isinstance(value, (int, float)):
        raise WorkflowError(f"{what}={shown(value)} is no length of time: give seconds or a timedelta")
    if not 0 <= value <= LONGEST or not (value or zero):
        least = "0 or more" if zero else "more than 0"
        raise WorkflowError(f"{what}={shown(value)} is out of range: give {least} and at most 366 days")
    return float(value)
