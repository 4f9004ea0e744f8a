"""Offloading: large payloads are files beside the database, and the row only says which."""

from __future__ import annotations

from hashlib import sha256

from cloacina.errors import PayloadError, ValidationError
from cloacina.store.payloads.codec import check_size
from cloacina.store.payloads.folder import PayloadFolder
from cloacina.store.payloads.place import PayloadPlace

_DIGEST, _LENGTH = 32, 8


class Offload:
    """Stores payloads of more than ``over`` bytes as files in ``<database>-payloads/<execution>/``.

    A file is on the disk, whole, before the row that names it is committed; it is compared with what the row says
    of it whenever it is read, and removed with its execution. ``over`` counts bytes after the codecs before
    this one, which is the last. A database in memory has no files.
    """

    marker = "f"

    def __init__(self, *, over: int = 256_000) -> None:
        self.over = check_size("Offload: over", over, least=100)

    def encode(self, data: bytes, where: PayloadPlace) -> bytes | None:
        if len(data) <= self.over:
            return None
        digest = sha256(data)
        _folder(where).put(where.execution, digest.hexdigest(), data)
        return digest.digest() + len(data).to_bytes(_LENGTH, "big")

    def decode(self, data: bytes, where: PayloadPlace) -> bytes:
        if len(data) != _DIGEST + _LENGTH:
            raise PayloadError("it is damaged: this is not what offloading stores")
        digest, length = data[:_DIGEST], int.from_bytes(data[_DIGEST:], "big")
        folder = _folder(where)
        found = folder.get(where.execution, digest.hex(), length)
        if found is None:
            path = folder.file(where.execution, digest.hex())
            raise PayloadError(f"its file {path} is missing: put it back from a backup")
        if len(found) != length or sha256(found).digest() != digest:
            path = folder.file(where.execution, digest.hex())
            raise PayloadError(f"its file {path} was damaged or changed: restore it from a backup")
        return found

    def __repr__(self) -> str:
        return f"Offload(over={self.over})"


def _folder(where: PayloadPlace) -> PayloadFolder:
    if where.home.folder is None:
        raise ValidationError(
            "Offload needs a database in a file: memory and servers have no folder beside them"
        )
    return PayloadFolder(where.home.folder)
