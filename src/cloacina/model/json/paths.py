"""A path: where in a value something stands, and how values are shown in messages."""

from __future__ import annotations

_SHOWN_STEP, _SHOWN_PATH = 40, 200


def join_path(path: str, *steps: str | int) -> str:
    """Return ``path`` with further steps, such as ``orders[3].price``; printable, and cut if very long."""
    for step in steps:
        if isinstance(step, str) and step.isidentifier() and len(step) <= _SHOWN_STEP:
            path += f".{step}" if path else step
        else:
            path += f"[{shorten(step)}]"
    return path if len(path) <= _SHOWN_PATH else f"{path[: _SHOWN_PATH - 60]}…{path[-59:]}"


def shorten(value: object) -> str:
    """The repr of a scalar, cut so that it fits into a message; of anything else, its type."""
    if isinstance(value, str | bytes | bytearray):
        return f"{value[:_SHOWN_STEP]!r}…" if len(value) > _SHOWN_STEP else repr(value)
    if isinstance(value, int) and value.bit_length() > 128:
        return f"an int of {value.bit_length()} bits"
    return repr(value) if value is None or isinstance(value, int | float) else f"<{type(value).__name__}>"
