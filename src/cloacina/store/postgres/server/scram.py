"""The SCRAM-SHA-256 verifier of a password: all that a server needs, and nothing that one could log in with.

By RFC 5802 and 7677, in the form that PostgreSQL stores and takes in place of a password. So the password itself is in
no statement, and in no log of the server.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from base64 import b64encode

_ITERATIONS = 4096
"""What RFC 7677 asks for at least; a generated password is not to be guessed however quick one guess is."""


def scram_verifier(password: str, salt: bytes | None = None) -> str:
    """What the server is told of ``password``, printable ASCII, which SASLprep leaves as it is; the salt is drawn."""
    salt = os.urandom(16) if salt is None else salt
    salted = hashlib.pbkdf2_hmac("sha256", password.encode("ascii"), salt, _ITERATIONS)
    stored = hashlib.sha256(_keyed(salted, b"Client Key")).digest()
    server = _keyed(salted, b"Server Key")
    return f"SCRAM-SHA-256${_ITERATIONS}:{_text(salt)}${_text(stored)}:{_text(server)}"


def _keyed(key: bytes, message: bytes) -> bytes:
    return hmac.digest(key, message, "sha256")


def _text(data: bytes) -> str:
    return b64encode(data).decode("ascii")
