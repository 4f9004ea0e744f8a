"""A location: where a database is, read from the URL or path that the user gave."""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path

from cloacina.errors import ValidationError
from cloacina.store.postgres.location import FORM, ServerLocation, server_location

DEFAULT_URL = "sqlite:///cloacina.db"
"""The file that a program uses that names none."""

_FORMS = f"sqlite:///relative.db, sqlite:////absolute/path.db, sqlite://:memory:, a plain path or {FORM}"
_SCHEME = re.compile(r"(?:(sqlite|file|postgres|postgresql):|([A-Za-z][A-Za-z0-9+.-]*)://)", re.IGNORECASE)
_SERVER = re.compile(r"postgres(?:ql)?(?:\+[A-Za-z0-9_]+)?:", re.IGNORECASE)
_LOGIN = re.compile(r":.*@")


@dataclass(frozen=True, slots=True)
class Location:
    """Where a database is: ``path`` is its file, None for one in memory. Its text is for messages."""

    path: Path | None

    @property
    def runners(self) -> Path | None:
        """The folder in which the runners of this database keep their leases."""
        return self.path and self.path.with_name(self.path.name + "-runners")

    @property
    def payloads(self) -> Path | None:
        """The folder of payloads that are too large for the database file."""
        return self.path and self.path.with_name(self.path.name + "-payloads")

    @property
    def wal(self) -> Path | None:
        """The write-ahead log beside the file."""
        return self.path and self.path.with_name(self.path.name + "-wal")

    @property
    def shm(self) -> Path | None:
        """The index of the write-ahead log, which carries SQLite's locks."""
        return self.path and self.path.with_name(self.path.name + "-shm")

    @property
    def files(self) -> tuple[Path, ...]:
        """The files that make up the database while it is open; none in memory."""
        return tuple(file for file in (self.path, self.wal, self.shm) if file is not None)

    def __str__(self) -> str:
        return ":memory:" if self.path is None else str(self.path)

    def resolved(self) -> Location:
        """Follow links, and return the location of the file itself, which need not exist yet.

        Raises `ValidationError` if the folder does not exist or if something other than a file is there.
        """
        if self.path is None:
            return self
        path = Path(os.path.realpath(self.path))
        try:
            kind = _kind(path)
            folder = _kind(path.parent)
        except OSError as error:
            raise ValidationError(f"database {self}: {error.strerror}; give another path") from error
        if kind == stat.S_IFDIR:
            raise ValidationError(f"database {self} is a folder; give the path of a file in it")
        if kind not in (None, stat.S_IFREG):
            raise ValidationError(f"database {self} is not an ordinary file; give the path of one")
        if folder != stat.S_IFDIR:
            raise ValidationError(f"database {self}: there is no folder {path.parent}; create it first")
        return Location(path)


def read_location(url: str | os.PathLike[str], schema: str | None = None) -> Location | ServerLocation:
    """Read the URL of a database on SQLite or PostgreSQL; ``schema`` is for the latter only.

    See `parse_location` and `server_location`. Raises `ValidationError`.
    """
    if isinstance(url, str) and _SERVER.match(url):
        return server_location(url, schema)
    if schema is not None:
        raise ValidationError(
            f"schema={schema!a:.80} is for PostgreSQL: on SQLite every tenant has a file of its own; give its path"
        )
    return parse_location(url)


def shown_url(url: str | os.PathLike[str]) -> str | os.PathLike[str]:
    """``url`` for a message or a repr: without password and parameters, of whatever database it may be."""
    if not isinstance(url, str):
        return url
    if not _SERVER.match(url):
        return _shown(url) if "://" in url else url
    try:
        return str(server_location(url, None)).partition(" (schema")[0]
    except ValidationError:
        return "postgresql://***"


def parse_location(url: str | os.PathLike[str]) -> Location:
    """Read the URL or the path of an SQLite database; nothing is opened, a path starts at the current folder.

    ``sqlite:///relative.db``, ``sqlite:////absolute.db``, ``sqlite://./relative.db``, ``sqlite://:memory:``
    and plain paths are understood; percent signs mean themselves. Raises `ValidationError` for anything
    else, with a message that repeats no login.
    """
    text = os.fspath(url) if isinstance(url, os.PathLike) else url
    if not isinstance(text, str):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ValidationError(
            f"a database URL is a string or a path, not {type(url).__name__}; write {_FORMS}"
        )
    if "\0" in text:
        raise ValidationError("a database URL contains no NUL character")
    scheme = None if isinstance(url, os.PathLike) else _SCHEME.match(text)
    path = text if scheme is None else _path_of(text, (scheme[1] or scheme[2]).lower())
    if not path.strip():
        raise ValidationError(f"the database URL {_shown(text)!r} names no file; write {_FORMS}")
    return Location(None if path == ":memory:" else Path.cwd() / path)


def _path_of(url: str, scheme: str) -> str:
    """The path in a URL with ``scheme``."""
    if scheme.partition("+")[0] in ("postgres", "postgresql"):
        raise ValidationError(
            "only an SQLite database is a file: give the URL or the path of one; for a server there are psql, "
            "pg_dump and pg_restore"
        )
    if scheme != "sqlite":
        raise ValidationError(f"the database URL scheme {scheme!r} is unknown; write {_FORMS}")
    slashes, rest = url[len("sqlite:") :][:2], url[len("sqlite://") :]
    if slashes != "//":
        raise ValidationError(f"the database URL {_shown(url)!r} lacks its slashes; write {_FORMS}")
    if "?" in rest:
        raise ValidationError(f"the database URL {_shown(url)!r} has a query string, and none is understood")
    if rest in (":memory:", "/:memory:"):
        return ":memory:"
    if rest.startswith("/"):
        return rest[1:]
    if rest.startswith(("./", "../")) or not rest:
        return rest
    raise ValidationError(
        f"the database URL {_shown(url)!r} names a host; a file has three slashes: {_FORMS}"
    )


def _shown(url: str) -> str:
    """``url`` without what may be secret: login and query string."""
    return _LOGIN.sub(":***@", url.partition("?")[0])


def _kind(path: Path) -> int | None:
    """The file type bits of what is at ``path``, or None if nothing is."""
    try:
        return stat.S_IFMT(path.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return None
