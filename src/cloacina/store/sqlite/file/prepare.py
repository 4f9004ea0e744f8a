"""Preparing a database: recognise it, and bring it to the schema of this version, once.

Any number of processes may do so at the same time: the work is one transaction behind SQLite's write lock,
and whoever comes second finds it done.
"""

from __future__ import annotations

import contextlib
import os

import apsw

from cloacina.errors import SchemaTooNew, StoreBusy, StoreCorrupt, StoreUnavailable
from cloacina.store.migrations import MIGRATIONS
from cloacina.store.sqlite.file.connection import Connection
from cloacina.store.sqlite.file.errors import RESTORE

APPLICATION_ID = 0x636C6F61
"""Marks a file as ours in SQLite's header ("cloa")."""

CHECKED_BYTES = 100_000_000
"""A file of up to this size is checked as a whole when it is opened, at about 0.7 s a gigabyte."""

THOROUGH_BYTES = 10_000_000
"""Up to this size, every index is compared with its table as well, at about 7 s a gigabyte."""

_WAL = "PRAGMA journal_mode = WAL"

_PAUSES = 100
"""How often the journal mode is tried again, after as many milliseconds as there were tries: about 5 s."""


def prepare(connection: Connection, *, make: bool = True) -> None:
    """Check that the database is ours and sound, set its journal mode, and migrate it if it is older.

    Nothing is written to a database that is refused. Raises `StoreCorrupt` if it is damaged or somebody
    else's, `SchemaTooNew`, and `StoreUnavailable` where it cannot have a write-ahead log, and for an empty one
    unless it is to ``make`` that a database.
    """
    version = recognise(connection)
    if version:
        _check(connection)
    elif not make:
        raise missing(connection.location, "is empty")
    _use_wal(connection)
    if version < len(MIGRATIONS):
        with connection.transaction():
            _migrate(connection, recognise(connection))


def missing(location: object, how: str) -> StoreUnavailable:
    """The error of somebody who makes no database, about one that nobody has made."""
    return StoreUnavailable(
        f"database {location} {how}: start a runner, which makes it, or give another path"
    )


def recognise(connection: Connection) -> int:
    """The schema version of the database, 0 for an empty one.

    Raises `StoreCorrupt` if it is somebody else's, `SchemaTooNew`.
    """
    size = _file_size(connection)
    with connection.snapshot():  # another process may be making the database right now
        application = connection.value("PRAGMA application_id")
        version: int = connection.value("PRAGMA user_version")
        tables = connection.value("SELECT count(*) FROM sqlite_schema")
        pages = connection.value("PRAGMA page_count")
    if application == APPLICATION_ID and version > len(MIGRATIONS):
        raise SchemaTooNew(
            f"database {connection.location} has schema version {version}, and this version of cloacina "
            f"knows {len(MIGRATIONS)}; upgrade cloacina, or give another path"
        )
    empty = not (application or version or tables) and (pages or not size)
    if application != APPLICATION_ID and not empty:
        raise StoreCorrupt(
            f"database {connection.location} belongs to another program, and nothing was written to it; "
            "give cloacina a file of its own"
        )
    return version


def _file_size(connection: Connection) -> int:
    """In bytes. SQLite itself takes a file of one byte for an empty database."""
    path = connection.location.path
    try:
        return path.stat().st_size if path else 0
    except OSError:
        return 0


def _check(connection: Connection) -> None:
    """Look for damage in a small database; a larger one is checked by SQLite page by page as it is read."""
    pages, size = connection.value("PRAGMA page_count"), connection.value("PRAGMA page_size")
    if pages * size > CHECKED_BYTES:
        return
    thorough = pages * size <= THOROUGH_BYTES
    problem = connection.value("PRAGMA integrity_check(1)" if thorough else "PRAGMA quick_check(1)")
    if problem != "ok":
        raise StoreCorrupt(
            f"database {connection.location} is damaged ({str(problem).splitlines()[-1]}); stop every process "
            f"that uses it and {RESTORE}"
        )


def _use_wal(connection: Connection) -> None:
    """Turn the write-ahead log on, which the file remembers."""
    if connection.location.path is None:
        return
    mode = _switch_to_wal(connection)
    if mode != "wal":
        raise StoreUnavailable(
            f"database {connection.location} cannot have a write-ahead log where it is, perhaps on a network "
            "file system; give a path on a local disk"
        )


def _switch_to_wal(connection: Connection) -> str:
    """The journal mode after the switch.

    To change it SQLite wants a new file for itself, and does not wait for processes that do the same.
    """
    for pause in range(1, _PAUSES + 1):
        with contextlib.suppress(StoreBusy):
            return str(connection.value(_WAL))
        apsw.sleep(pause)
    return str(connection.value(_WAL))


def _migrate(connection: Connection, version: int) -> None:
    for script in MIGRATIONS[version:]:
        connection.rows(script)
    if version == 0:
        instance = os.urandom(16).hex()
        connection.rows("INSERT INTO meta (key, value) VALUES ('instance', ?), ('epoch', '1')", (instance,))
    connection.rows(
        "INSERT INTO meta (key, value) VALUES ('schema_version', ?) "
        "ON CONFLICT (key) DO UPDATE SET value = excluded.value",
        (str(len(MIGRATIONS)),),
    )
    connection.rows(f"PRAGMA user_version = {len(MIGRATIONS)}")
    connection.rows(f"PRAGMA application_id = {APPLICATION_ID}")
