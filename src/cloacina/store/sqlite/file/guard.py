"""The guard: keeps other libraries, plain ``open()`` and forked children off a database that is open here.

POSIX locks belong to a process and an inode: when any file descriptor on that inode is closed, all locks of
the process on it are gone. So a second SQLite library, or an ``open()`` and close of the same file, silently
takes away the locks of the connection that the engine holds; the next one to close removes the write-ahead
log, and commits that were acknowledged with it (SQLite, "How To Corrupt An SQLite Database File", 2.2).
A forked child inherits connections whose locks it does not have (the same page, 2.6).
"""

from __future__ import annotations

import contextlib
import os
import sys
import weakref
from typing import TypeAlias
from urllib.parse import unquote

import apsw

from cloacina.errors import ForeignConnection, ForkedProcess
from cloacina.store.location import Location

Identity: TypeAlias = tuple[int, int]
"""Device and inode of a file."""

REMEDY = (
    "read it through the runner, with cloacina.open_readonly(url) or from another process, copy it with "
    "runner.backup(path), or shut the runner down first"
)

_open: dict[weakref.ref[apsw.Connection], dict[Identity, str]] = {}
_inherited: frozenset[Identity] = frozenset()
_installed = False


def watch(connection: apsw.Connection, location: Location) -> None:
    """From now until ``connection`` is closed, refuse to open its files otherwise in this process.

    Called again once the write-ahead log exists; costs one test per audit event, and one ``stat`` per file
    that the process opens.
    """
    _install()
    _open[weakref.ref(connection, _forget)] = {
        identity: str(file) for file in location.files if (identity := identify(file))
    }


def unwatch(connection: apsw.Connection) -> None:
    """Forget ``connection``, which is closed."""
    _forget(weakref.ref(connection))


def is_open(path: str | os.PathLike[str]) -> bool:
    """True if ``path`` leads to a file of a database that is open in this process."""
    return _watched(path) is not None


def refuse_inherited(location: Location) -> None:
    """Raise `ForkedProcess` if a process that this one was forked from had the database open."""
    if _inherited and location.path and identify(location.path) in _inherited:
        raise ForkedProcess(
            f"database {location} was open in the process that this one was forked from, and SQLite cannot "
            "open it again here; fork first and open afterwards, or start the child with 'spawn'"
        )


def identify(path: str | bytes | os.PathLike[str]) -> Identity | None:
    """Device and inode of ``path``, or None if it does not exist or cannot be looked at."""
    try:
        found = os.stat(path)  # noqa: PTH116 - a path may be bytes
    except (OSError, ValueError):
        return None
    return found.st_dev, found.st_ino


def _install() -> None:
    global _installed
    if not _installed:
        _installed = True
        sys.addaudithook(_audit)
        os.register_at_fork(after_in_child=_after_fork)


def _forget(reference: weakref.ref[apsw.Connection]) -> None:
    _open.pop(reference, None)


def _audit(event: str, arguments: tuple[object, ...]) -> None:
    """Called for every audit event of the process, so the tests that dismiss most of them come first."""
    if not _open or (event != "open" and event != "sqlite3.connect"):
        return
    target = arguments[0]
    if not isinstance(target, (str, bytes, os.PathLike)):
        return
    path = _watched(target)  # pyright: ignore[reportUnknownArgumentType]
    if path is not None:
        what = "open()" if event == "open" else "the sqlite3 module"
        raise ForeignConnection(
            f"{what} would open {path} while cloacina has that database open in this process, which "
            f"drops its locks and can lose committed work; {REMEDY}"
        )


def _watched(target: str | bytes | os.PathLike[str]) -> str | None:
    """The watched file that ``target``, a path or a URI, leads to."""
    identity = identify(target) or _identify_uri(os.fsdecode(target))
    for files in list(_open.values()) if identity else ():
        if identity in files:
            return files[identity]
    return None


def _identify_uri(uri: str) -> Identity | None:
    """The file that a ``file:`` URI leads to."""
    if not uri.startswith("file:"):
        return None
    path = unquote(uri[len("file:") :].partition("?")[0].partition("#")[0])
    if path.startswith("//"):
        path = "/" + path[2:].partition("/")[2]
    return identify(path)


def _after_fork() -> None:
    """In a forked child: keep what was inherited out of reach, and never let it be closed.

    Closing the last connection copies the log into the database and deletes it, on the strength of locks that
    the child believes it has. So each connection gets a reference that nothing gives back.
    """
    global _inherited
    for reference, files in list(_open.items()):
        _inherited |= files.keys()
        connection = reference()
        if connection is not None:
            _keep_for_ever(connection)
    _open.clear()


def _keep_for_ever(connection: apsw.Connection) -> None:
    with contextlib.suppress(ImportError):
        import ctypes

        ctypes.pythonapi.Py_IncRef(ctypes.py_object(connection))
