"""The words that help somebody to mend a definition."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from types import FunctionType

LISTED = 10
"""How many things a message spells out before it only counts the rest."""


def did_you_mean(name: object, known: Iterable[str]) -> str:
    """A question that offers the names in ``known`` that look like ``name``; empty if none does."""
    import difflib  # only ever needed on the way to an error

    close = difflib.get_close_matches(str(name), list(known), n=3, cutoff=0.6)
    return f" Did you mean {' or '.join(repr(found) for found in close)}?" if close else ""


def listing(names: Sequence[str]) -> str:
    """``'a', 'b', 'c'``, cut after ten."""
    shown = ", ".join(repr(name) for name in names[:LISTED])
    return shown if len(names) <= LISTED else f"{shown} and {len(names) - LISTED} more"


def shown(value: object, limit: int = 80) -> str:
    """``value`` as code would write it, cut to ``limit`` characters; safe for any object whatever."""
    if isinstance(value, FunctionType):
        return f"<function {value.__qualname__}>"  # its address helps nobody
    try:
        text = repr(value)
    except Exception:
        text = f"<{type(value).__name__}>"
    return text if len(text) <= limit else f"{text[:limit]}…"
