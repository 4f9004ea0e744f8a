"""A checksum with every payload: damage on the disk is noticed when a payload is read."""

from __future__ import annotations

from hashlib import blake2b

from cloacina.errors import PayloadError
from cloacina.store.payloads.place import PayloadPlace

_BYTES = 8


class Checksum:
    """Stores 8 bytes with each payload that tell whether it, or the row it belongs to, was changed since.

    That finds accidents, not attackers, who can work the sum out. `Encryption` finds both, and makes this
    superfluous.
    """

    marker = "c"

    def encode(self, data: bytes, where: PayloadPlace) -> bytes:
        return _sum(data, where) + data

    def decode(self, data: bytes, where: PayloadPlace) -> bytes:
        text = data[_BYTES:]
        if data[:_BYTES] != _sum(text, where):
            raise PayloadError("its checksum is another: it was damaged, or moved from elsewhere")
        return text

    def __repr__(self) -> str:
        return "Checksum()"


def _sum(data: bytes, where: PayloadPlace) -> bytes:
    made = blake2b(where.identity(), digest_size=_BYTES)
    made.update(data)
    return made.digest()
