"""Names of tasks, workflows, schedules and the like: one pattern, one check."""

from __future__ import annotations

import re

from cloacina.errors import ValidationError

NAME = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}"
"""What a name looks like. ASCII only: no two names look alike, and each is safe in SQL, paths and URLs."""

_NAME = re.compile(NAME)
_SHOWN = 40


def check_name(kind: str, name: object, error: type[ValidationError] = ValidationError) -> str:
    """Return ``name`` as a plain string if it may name a ``kind`` (such as ``"task"``, for the message).

    Raises ``error`` if it is not a string, or does not match `NAME` from end to end.
    """
    if not isinstance(name, str):
        raise error(f"{_article(kind)} {kind} needs a name, a string; got {type(name).__name__}")
    if _NAME.fullmatch(name) is None:
        shown = repr(name[:_SHOWN]) + ("…" if len(name) > _SHOWN else "")
        raise error(
            f"{shown} cannot name {_article(kind)} {kind}: use 1 to 100 of the characters A-Z, a-z, 0-9, '_', '.' and "
            "'-', and start with a letter, a digit or '_'"
        )
    return str.__str__(name)


def _article(kind: str) -> str:
    return "an" if kind[0] in "aeiou" else "a"
