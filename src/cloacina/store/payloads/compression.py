"""Compression of payloads over a size, with the standard library's zlib."""

from __future__ import annotations

import zlib

from cloacina.errors import PayloadError
from cloacina.store.payloads.codec import check_size
from cloacina.store.payloads.place import PayloadPlace

MOST_BYTES = 256_000_000


class Compression:
    """Compresses payloads of more than ``over`` bytes, if that saves at least a quarter of them.

    ``level`` is zlib's, from 1, fast, to 9, small. A payload that would be read as more than 256 MB is refused, so
    that a few bytes in the database cannot fill the memory. Raises `ValidationError` for another size or level.
    """

    marker = "z"

    def __init__(self, *, over: int = 1_000, level: int = 1) -> None:
        self.over = check_size("Compression: over", over, least=0)
        self._level = check_size("Compression: level", level, least=1, most=9)

    def encode(self, data: bytes, where: PayloadPlace) -> bytes | None:
        if len(data) <= self.over:
            return None
        made = zlib.compress(data, self._level)
        # What is stored is text, for which every three bytes become four characters.
        return made if 4 * len(made) <= 3 * len(data) else None

    def decode(self, data: bytes, where: PayloadPlace) -> bytes:
        reader = zlib.decompressobj()
        text = reader.decompress(data, MOST_BYTES)
        if not reader.eof or reader.unused_data:
            raise PayloadError(f"its compressed text is cut off, or longer than {MOST_BYTES} bytes")
        return text

    def __repr__(self) -> str:
        return f"Compression(over={self.over}, level={self._level})"
