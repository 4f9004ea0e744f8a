"""The error table: what each result code of SQLite means to the engine, and what the user can do."""

from __future__ import annotations

from typing import NamedTuple

import apsw

from cloacina.errors import (
    ForeignConnection,
    StoreBusy,
    StoreCorrupt,
    StoreError,
    StoreRefused,
    StoreUnavailable,
)

RESTORE = "restore a backup with cloacina.backup.restore(backup, url)"


class Meaning(NamedTuple):
    """The class of error that a code becomes, what happened, and what to do."""

    raises: type[StoreError]
    happened: str
    remedy: str


_BUSY = Meaning(
    StoreBusy, "is locked by another connection", "it is tried again; if it stays so, find who holds it"
)
_FULL = Meaning(StoreUnavailable, "cannot grow: the disk is full", "free some space; work resumes by itself")
_MEMORY = Meaning(StoreUnavailable, "got no memory", "free some memory; work resumes by itself")
_DISK = Meaning(StoreUnavailable, "could not be read or written", "check the disk and the file system")
_CLOSED = Meaning(
    StoreUnavailable, "cannot be opened", "check that the file and its folder may be read and written"
)
_READ_ONLY = Meaning(
    StoreUnavailable, "is read-only", "make the file and its folder writable for this user and process"
)
_MISFIT = Meaning(StoreRefused, "refused the content", "it can never be stored as it is")
_DAMAGED = Meaning(StoreCorrupt, "is damaged", f"stop every process that uses it and {RESTORE}")
_FOREIGN = Meaning(StoreCorrupt, "is not an SQLite database", f"give another path, or {RESTORE}")
_MOVED = Meaning(
    ForeignConnection, "was moved or replaced while it was open", "put the file back and start again"
)
_UNKNOWN = Meaning(StoreUnavailable, "failed", "please report this if it does not pass")

# An extended code is looked up before the primary code in its lowest byte; codes not listed are _UNKNOWN.
MEANINGS: dict[int, Meaning] = {
    apsw.SQLITE_BUSY: _BUSY,
    apsw.SQLITE_LOCKED: _BUSY,
    apsw.SQLITE_PROTOCOL: _BUSY,
    apsw.SQLITE_SCHEMA: _BUSY,
    apsw.SQLITE_INTERRUPT: _BUSY,
    apsw.SQLITE_ABORT: _BUSY,
    apsw.SQLITE_READONLY: _READ_ONLY,
    apsw.SQLITE_PERM: _READ_ONLY,
    apsw.SQLITE_READONLY_DBMOVED: _MOVED,
    apsw.SQLITE_FULL: _FULL,
    apsw.SQLITE_NOMEM: _MEMORY,
    apsw.SQLITE_IOERR: _DISK,
    apsw.SQLITE_IOERR_NOMEM: _MEMORY,
    apsw.SQLITE_IOERR_CORRUPTFS: _DAMAGED,
    apsw.SQLITE_IOERR_DATA: _DAMAGED,
    apsw.SQLITE_CANTOPEN: _CLOSED,
    apsw.SQLITE_NOLFS: _DISK,
    apsw.SQLITE_CONSTRAINT: _MISFIT,
    apsw.SQLITE_TOOBIG: _MISFIT,
    apsw.SQLITE_MISMATCH: _MISFIT,
    apsw.SQLITE_CORRUPT: _DAMAGED,
    apsw.SQLITE_NOTADB: _FOREIGN,
}


def meaning_of(code: int) -> Meaning:
    """What the result code ``code``, primary or extended, means."""
    return MEANINGS.get(code) or MEANINGS.get(code & 0xFF, _UNKNOWN)


def translate(error: BaseException, database: str) -> StoreError:
    """The error that the engine knows for one raised by the driver; ``database`` is named in its message."""
    if isinstance(error, MemoryError):
        code, name = apsw.SQLITE_NOMEM, "out of memory"
    elif isinstance(error, (UnicodeError, OverflowError)):
        code, name = apsw.SQLITE_MISMATCH, type(error).__name__
    elif isinstance(error, apsw.ConnectionClosedError):
        return StoreError(f"database {database} was closed by this process; open it again")
    else:
        code = getattr(error, "extendedresult", apsw.SQLITE_ERROR)
        name = str(apsw.mapping_extended_result_codes.get(code) or apsw.mapping_result_codes.get(code & 0xFF))
    meaning = meaning_of(code)
    said = " ".join(str(error).split())  # a damaged schema is quoted with its lines
    return meaning.raises(f"database {database} {meaning.happened} ({name}: {said}); {meaning.remedy}")
