"""The protocol of a payload codec: bytes that a payload becomes on its way into the database, and back."""

from __future__ import annotations

import sys
from typing import Protocol

from cloacina.errors import ValidationError
from cloacina.store.payloads.place import PayloadPlace


class PayloadCodec(Protocol):
    """Changes payloads before they are stored, and gives them back unchanged.

    A codec that leaves all payloads of up to some bytes alone may say so in an attribute ``over``: it is not asked
    about them then.

    It is called on the threads of the store, two at once at most, never on the event loop; it may block, but
    every commit waits for it. Whatever it raises counts as a payload that cannot be stored, or cannot be
    read, except that an ``OSError`` and a ``MemoryError`` while storing mean that a later try may succeed.
    """

    marker: str
    """Stored with each payload that it has encoded: a lower-case letter, then up to 15 of them or digits."""

    def encode(self, data: bytes, where: PayloadPlace) -> bytes | None:
        """What to store instead of ``data`` in ``where``, or None to leave it as it is."""
        ...

    def decode(self, data: bytes, where: PayloadPlace) -> bytes:
        """What ``encode`` was given. Raises anything at all if that cannot be told for certain."""
        ...


def check_size(name: str, value: object, *, least: int, most: int = sys.maxsize) -> int:
    """``value``, if it is a whole number from ``least`` to ``most``. Raises `ValidationError`, naming ``name``."""
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        bounds = f"of at least {least}" if most == sys.maxsize else f"from {least} to {most}"
        raise ValidationError(f"{name}={value!r:.80} must be a whole number {bounds}")
    return value
