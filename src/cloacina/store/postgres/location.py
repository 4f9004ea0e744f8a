"""A location on a server: the URL of a PostgreSQL database, and the schema in it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote_to_bytes, urlsplit, urlunsplit

from cloacina.errors import ValidationError

DEFAULT_SCHEMA = "cloacina"
"""The schema of a program that names none."""

FORM = "postgresql://user:password@host:5432/database"

_SCHEMA = re.compile(r"[a-z][a-z0-9_]{0,47}")
_HOSTS = re.compile(r"(?:(?:\[[0-9A-Fa-f:.]*\]|[^\s:,\[\]]*)(?::\d{1,5})?(?:,|$))*")
_PORTS = re.compile(r"[0-9,]*")
_RESERVED = re.compile(r"pg_.*|public|information_schema")


@dataclass(frozen=True, slots=True)
class ServerLocation:
    """A PostgreSQL database and a schema in it. Its text and its repr never show the password."""

    url: str = field(repr=False)
    schema: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "schema", check_schema(self.schema))

    def __str__(self) -> str:
        parts = urlsplit(self.url)
        user, at, host = parts.netloc.rpartition("@")
        place = f"{user.partition(':')[0]}{at}{host}"
        return f"postgresql://{place}{parts.path} (schema {self.schema})"


def check_schema(name: object) -> str:
    """Return ``name`` if it may name a schema of ours. Raises `ValidationError`.

    One to 48 of a-z, 0-9 and _, beginning with a letter: nothing that PostgreSQL would fold or cut short. Names that
    it keeps for itself, and ``public``, are refused.
    """
    if not isinstance(name, str):
        raise ValidationError(f"a schema needs a name, a string; got {type(name).__name__}")
    if _SCHEMA.fullmatch(name) is None or _RESERVED.fullmatch(name):
        shown = f"{name[:60]!a}" + ("…" if len(name) > 60 else "")
        raise ValidationError(
            f"{shown} cannot name a schema: use 1 to 48 of the characters a-z, 0-9 and '_', start with a letter, and "
            "leave names that begin with 'pg_', 'public' and 'information_schema' to PostgreSQL"
        )
    return str.__str__(name)  # a member of an enum would write itself otherwise


def server_location(url: str, schema: str | None) -> ServerLocation:
    """Read the URL of a PostgreSQL database; a driver named in its scheme (``+asyncpg``) is ignored.

    Raises `ValidationError`, with a message that repeats no part of the URL that may be secret.
    """
    named = DEFAULT_SCHEMA if schema is None else check_schema(schema)
    try:
        parts = urlsplit(url)
        parameters = dict(parse_qsl(parts.query, strict_parsing=bool(parts.query)))
        nul = b"\0" in unquote_to_bytes(url)
    except ValueError:  # whose text quotes the URL
        raise _unreadable() from None
    hosts = parts.netloc.rpartition("@")[2]
    # A password with a slash or a number sign in it would be taken for a part that may be shown.
    if (
        not url.partition(":")[2].startswith("//")
        or not _HOSTS.fullmatch(hosts)
        or "@" in parts.path
        or parts.fragment
        or nul
        or not _PORTS.fullmatch(parameters.get("port", ""))
    ):
        raise _unreadable()
    return ServerLocation(urlunsplit(("postgresql", *parts[1:])), named)


def _unreadable() -> ValidationError:
    return ValidationError(
        f"this is no URL of a PostgreSQL database; write {FORM}, with special characters of the password as %XX"
    )
