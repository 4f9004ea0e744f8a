"""Sizes that users give to codecs, checked."""

from __future__ import annotations

import sys

from cloacina.errors import ValidationError


def check_size(name: str, value: object, *, least: int, most: int = sys.maxsize) -> int:
    """``value``, if it is a whole number from ``least`` to ``most``. Raises `ValidationError`, naming ``name``."""
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        bounds = f"of at least {least}" if most == sys.maxsize else f"from {least} to {most}"
        raise ValidationError(f"{name}={value!r:.80} must be a whole number {bounds}")
    return value
