"""Encryption of every payload at rest: AES-256-GCM, with named keys that can be rotated.

What is stored is ``1 || length of key id || key id || nonce (12) || ciphertext || tag (16)``. The nonce is drawn
anew each time. With random nonces one AES key is good for 2^32 messages (NIST SP 800-38D, 8.3), which an
engine can write in two days; so each execution has a key of its own, derived from the user's with keyed
BLAKE2b (RFC 7693). The associated data is the place of the payload, so that one that is copied to another
row, column or database is refused.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from hashlib import blake2b
from os import PathLike
from typing import TYPE_CHECKING

from cloacina.errors import MissingExtra, PayloadError, ValidationError
from cloacina.store.payloads.keys import VARIABLE, check_keys, keys_in_environment, keys_in_file
from cloacina.store.payloads.place import PayloadPlace

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_FORM = 1
_NONCE = 12
_TAG = 16
_PURPOSE = b"cloacina.payload"


class Encryption:
    """Encrypts every payload with the key ``current``, and reads those of all ``keys``.

    ``keys`` are 32 random bytes each, by an id of your choice, which is stored with each payload. To rotate, add
    a key and make it ``current``; remove the old one when nothing that it encrypted is stored any more. With
    ``current=None`` nothing is encrypted any more, but what was is still read. Once everything is
    encrypted, ``accept_plain=False`` refuses payloads that are not: somebody could have put them there.

    Raises `ValidationError` for bad keys, `MissingExtra` if ``cloacina[signing]`` is not installed.
    """

    marker = "e"

    def __init__(self, keys: Mapping[str, bytes], current: str | None, *, accept_plain: bool = True) -> None:
        self._keys = check_keys(keys)
        if current is not None and current not in self._keys:
            raise ValidationError(f"Encryption: current={current!r:.80} is none of the keys: {_listed(keys)}")
        self._current = current
        self.required = not accept_plain
        self._cipher, self._refusal = _library()

    @classmethod
    def from_environment(
        cls, variable: str = VARIABLE, *, environ: Mapping[str, str] | None = None, accept_plain: bool = True
    ) -> Encryption:
        """The keys in an environment variable: ``id:base64`` each, commas between them, the current one first."""
        keys = keys_in_environment(variable, os.environ if environ is None else environ)
        return cls(keys, next(iter(keys)), accept_plain=accept_plain)

    @classmethod
    def from_file(cls, path: str | PathLike[str], *, accept_plain: bool = True) -> Encryption:
        """The keys in a file: ``id:base64`` on a line each, the current one first; ``#`` begins a comment.

        Raises `ValidationError` if the file may be read or written by anyone but its owner, or if that is
        somebody other than this user and root.
        """
        keys = keys_in_file(path)
        return cls(keys, next(iter(keys)), accept_plain=accept_plain)

    def encode(self, data: bytes, where: PayloadPlace) -> bytes | None:
        id = self._current
        if id is None:
            return None
        name, nonce = id.encode(), os.urandom(_NONCE)
        sealed = self._cipher(_derived(self._keys[id], where)).encrypt(nonce, data, where.identity(id))
        return b"".join((bytes((_FORM, len(name))), name, nonce, sealed))

    def decode(self, data: bytes, where: PayloadPlace) -> bytes:
        start = 2 + (data[1] if len(data) > 1 else 0)
        if len(data) < start + _NONCE + _TAG or data[0] != _FORM:
            raise PayloadError("it is damaged: this is not what encryption stores")
        id = data[2:start].decode("ascii", "replace")
        key = self._keys.get(id)
        if key is None:
            raise PayloadError(
                f"it was encrypted with key {id!r}, and Encryption was given {_listed(self._keys)}"
            )
        nonce, sealed = data[start : start + _NONCE], data[start + _NONCE :]
        try:
            return self._cipher(_derived(key, where)).decrypt(nonce, sealed, where.identity(id))
        except self._refusal:
            raise PayloadError(
                f"it was changed or moved from elsewhere since it was encrypted, or key {id!r} is another now"
            ) from None

    def __reduce__(self) -> str:
        raise TypeError("Encryption keys are not pickled: let the other process read them where this one did")

    def __repr__(self) -> str:
        return f"Encryption(keys={_listed(self._keys)}, current={self._current!r})"


def _library() -> tuple[type[AESGCM], type[Exception]]:
    try:
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    except ImportError as error:
        raise MissingExtra(
            "Encryption needs the package cryptography: pip install 'cloacina[signing]'"
        ) from error
    return AESGCM, InvalidTag


def _derived(key: bytes, where: PayloadPlace) -> bytes:
    """The key of one execution. Neither field can hold the byte between them."""
    label = f"{where.home.instance}\0{where.execution}".encode()
    return blake2b(label, key=key, digest_size=32, person=_PURPOSE).digest()


def _listed(keys: Mapping[str, object]) -> str:
    return ", ".join(map(repr, keys)) or "none"
