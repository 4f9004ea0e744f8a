"""Encryption keys: checked, and read from the environment or from a file that only its owner may read."""

from __future__ import annotations

import base64
import binascii
import os
import re
import stat
from collections.abc import Mapping
from os import PathLike

from cloacina.errors import ValidationError

VARIABLE = "CLOACINA_PAYLOAD_KEYS"
KEY_BYTES = 32

_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_MOST_BYTES = 100_000
_HINT = "make one with cloacina.store.payloads.keys.new_key()"


def new_key() -> str:
    """A new key, as the base64 text that the environment variable and the key file hold."""
    return base64.b64encode(os.urandom(KEY_BYTES)).decode()


def check_keys(keys: Mapping[str, bytes]) -> dict[str, bytes]:
    """``keys`` if they can be used. Raises `ValidationError`, without the key in its message."""
    if not isinstance(keys, Mapping) or not keys:  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ValidationError(f"Encryption: keys must be a mapping of ids to {KEY_BYTES} bytes; {_HINT}")
    for id, key in keys.items():
        if not isinstance(id, str) or not _ID.fullmatch(id):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ValidationError(
                "Encryption: a key's id is 1 to 64 letters, digits, dots, dashes and underscores; "
                f"that of key number {[*keys].index(id) + 1} is not"
            )
        if not isinstance(key, bytes) or len(key) != KEY_BYTES:  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ValidationError(f"Encryption: key {id!r} must be {KEY_BYTES} bytes; {_HINT}")
    return dict(keys)


def keys_in_environment(variable: str, environ: Mapping[str, str]) -> dict[str, bytes]:
    """The keys in an environment variable, in their order. Raises `ValidationError`."""
    text = environ.get(variable)
    if text is None:
        raise ValidationError(
            f"the environment variable {variable} with the payload keys is not set; {_HINT}"
        )
    return _parse(text.replace(",", "\n"), f"the environment variable {variable}")


def keys_in_file(path: str | PathLike[str]) -> dict[str, bytes]:
    """The keys in a file, in their order. Raises `ValidationError` also if others may read or write it."""
    try:
        text = _read(path)
    except (OSError, ValueError) as error:
        raise ValidationError(f"the key file {os.fspath(path)} cannot be read: {error}") from None
    lines = (line.partition("#")[0] for line in text.splitlines())
    return _parse("\n".join(lines), f"the key file {os.fspath(path)}")


def _read(path: str | PathLike[str]) -> str:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise ValueError("it is not an ordinary file")
        if found.st_mode & 0o077 or found.st_uid not in (0, os.geteuid()):
            raise ValueError(
                f"it has mode {stat.S_IMODE(found.st_mode):04o} and owner {found.st_uid}, and only its owner, "
                "this user or root, may have access to it; run chmod 600 on it"
            )
        return os.read(descriptor, _MOST_BYTES).decode("ascii", "replace")
    finally:
        os.close(descriptor)


def _parse(text: str, source: str) -> dict[str, bytes]:
    """Keys from ``id:base64`` lines. Messages number the entries, since either half may be the secret one."""
    keys: dict[str, bytes] = {}
    entries = [line.strip() for line in text.splitlines() if line.strip()]
    for number, entry in enumerate(entries, 1):
        id, colon, encoded = entry.partition(":")
        try:
            key = base64.b64decode(encoded, validate=True)
        except (binascii.Error, ValueError):
            key = b""
        if not colon or not _ID.fullmatch(id) or len(key) != KEY_BYTES:
            raise ValidationError(
                f"{source}: entry {number} is not an id, a colon and {KEY_BYTES} bytes as base64; {_HINT}"
            )
        if id in keys:
            raise ValidationError(f"{source}: entry {number} has the id of an earlier one, {id!r}")
        keys[id] = key
    if not keys:
        raise ValidationError(f"{source} holds no key; {_HINT}")
    return keys
