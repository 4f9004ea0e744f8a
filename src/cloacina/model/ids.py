"""Ids of executions and runners: UUID version 7, increasing within a process."""

from __future__ import annotations

import os

entropy = os.urandom
"""Where ids draw their bytes from; the simulator, which must draw the same twice, has its own."""

_RANDOM_BITS = 74
_last = 0


def new_id(now: int) -> str:
    """A new UUIDv7 (RFC 9562, section 5.7) for the moment ``now``, in microseconds since the epoch.

    Ids made later in a process sort after those made before, even within one millisecond or when the wall
    clock runs back. Two threads may call this at once only under the interpreter lock.
    """
    global _last
    drawn = int.from_bytes(entropy(10), "big")
    fresh = (now // 1000 << _RANDOM_BITS) | (drawn & ((1 << _RANDOM_BITS) - 1))
    if fresh <= _last:
        fresh = _last + 1 + (drawn & 0xFFFFFFFF)
    _last = fresh
    millis, rest = fresh >> _RANDOM_BITS, fresh & ((1 << _RANDOM_BITS) - 1)
    value = millis << 80 | 7 << 76 | (rest >> 62) << 64 | 2 << 62 | (rest & ((1 << 62) - 1))
    text = f"{value:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def _forget() -> None:
    global _last
    _last = 0


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
