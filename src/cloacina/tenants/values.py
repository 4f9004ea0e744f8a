"""What a tenant is made with, and what its processes log in with: two values that never show a password."""

from __future__ import annotations

import hmac
import os
import re
from base64 import urlsafe_b64encode
from dataclasses import KW_ONLY, dataclass, field

from cloacina.errors import ValidationError
from cloacina.store.postgres.location import check_schema

PASSWORD_BYTES = 32
"""Of the system's randomness in a password that is drawn."""
SHORTEST_PASSWORD = 16

_PASSWORD = re.compile(rf"[\x21-\x7e]{{{SHORTEST_PASSWORD},256}}")


@dataclass(frozen=True, slots=True)
class TenantConfig:
    """What a tenant is to be. On SQLite the name is all that counts.

    ``name`` is 1 to 48 of a-z, 0-9 and _, and begins with a letter. ``password`` is drawn if none is given; else it is
    16 to 256 printable ASCII characters, without spaces. ``connection_limit`` is how many sessions the tenant may have
    at once; a runner holds about five. The timeouts, in seconds, are those of sessions that set none of their own,
    while the engine's do: the longest that a statement runs, waits for a lock, or leaves its transaction idle.

    Raises `ValidationError`; its message never shows the password.
    """

    name: str
    _: KW_ONLY
    password: str | None = field(default=None, repr=False, compare=False)
    connection_limit: int = 50
    statement_timeout: float = 60.0
    lock_timeout: float = 10.0
    idle_in_transaction_timeout: float = 60.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", check_schema(self.name))
        _check_password(self.name, self.password)
        _check_number(self.name, "connection_limit", self.connection_limit, int)
        for timeout in ("statement_timeout", "lock_timeout", "idle_in_transaction_timeout"):
            _check_number(self.name, timeout, getattr(self, timeout), float)


@dataclass(frozen=True, slots=True, eq=False)
class TenantCredentials:
    """What a tenant's processes need: ``Runner(credentials.url, schema=credentials.schema)``.

    ``url`` holds the password; the text and the repr of the whole show neither. On SQLite the url is the file's, and
    there is no ``schema``, ``username`` or ``password``.
    """

    name: str
    schema: str | None
    username: str | None
    password: str | None = field(repr=False)
    url: str = field(repr=False)

    def __eq__(self, other: object) -> bool:
        """True if all is equal; how long that takes does not tell where two passwords differ."""
        if not isinstance(other, TenantCredentials):
            return NotImplemented
        return hmac.compare_digest(self._all(), other._all())

    def __hash__(self) -> int:
        return hash((self.name, self.schema, self.username))

    def _all(self) -> bytes:
        return repr((self.name, self.schema, self.username, self.password, self.url)).encode()


def draw_password() -> str:
    """A new password, of letters, digits, dashes and underscores."""
    return urlsafe_b64encode(os.urandom(PASSWORD_BYTES)).decode().rstrip("=")


def _check_password(tenant: str, password: object) -> None:
    if password is not None and not (isinstance(password, str) and _PASSWORD.fullmatch(password)):
        raise ValidationError(
            f"tenant {tenant!r}: password= must be {SHORTEST_PASSWORD} to 256 printable ASCII characters without "
            "spaces; leave it out, and one is drawn"
        )


def _check_number(tenant: str, name: str, value: object, kind: type[int] | type[float]) -> None:
    wanted = (int,) if kind is int else (int, float)
    least, most = (1, 10_000) if kind is int else (0.001, 86_400)
    if isinstance(value, bool) or not isinstance(value, wanted) or not least <= value <= most:
        what = "a whole number" if kind is int else "seconds"
        raise ValidationError(
            f"tenant {tenant!r}: {name}={value!r:.80} must be {what}, from {least} to {most:,}"
        )
