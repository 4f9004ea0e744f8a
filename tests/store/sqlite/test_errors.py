"""The error table: every result code of SQLite becomes one of our classes."""

from __future__ import annotations

from typing import Any

import apsw
import pytest

from cloacina.errors import (
    ForeignConnection,
    StoreBusy,
    StoreCorrupt,
    StoreError,
    StoreRefused,
    StoreUnavailable,
)
from cloacina.store.sqlite.file.errors import meaning_of, translate

CLASSES = {
    "BUSY BUSY_SNAPSHOT BUSY_RECOVERY BUSY_TIMEOUT LOCKED LOCKED_SHAREDCACHE PROTOCOL": StoreBusy,
    "READONLY READONLY_RECOVERY READONLY_CANTLOCK READONLY_ROLLBACK READONLY_CANTINIT READONLY_DIRECTORY": (
        StoreUnavailable
    ),
    "READONLY_DBMOVED": ForeignConnection,
    "FULL NOMEM IOERR IOERR_READ IOERR_WRITE IOERR_FSYNC IOERR_LOCK IOERR_SHMSIZE IOERR_NOMEM": StoreUnavailable,
    "CANTOPEN CANTOPEN_ISDIR CANTOPEN_FULLPATH PERM ERROR MISUSE RANGE AUTH INTERNAL": StoreUnavailable,
    "CONSTRAINT CONSTRAINT_UNIQUE CONSTRAINT_PRIMARYKEY CONSTRAINT_NOTNULL CONSTRAINT_DATATYPE": StoreRefused,
    "TOOBIG MISMATCH": StoreRefused,
    "CORRUPT CORRUPT_VTAB CORRUPT_SEQUENCE CORRUPT_INDEX NOTADB IOERR_CORRUPTFS IOERR_DATA": StoreCorrupt,
}


@pytest.mark.parametrize(
    ("name", "class_"), [(name, class_) for names, class_ in CLASSES.items() for name in names.split()]
)
def test_the_class_of_a_code(name: str, class_: type[StoreError]) -> None:
    code: int = getattr(apsw, f"SQLITE_{name}")
    error: Any = apsw.exception_for(code)
    error.extendedresult = code
    translated = translate(error, "/some/file.db")
    assert type(translated) is class_
    assert "/some/file.db" in str(translated) and f"SQLITE_{name}" in str(translated)


@pytest.mark.parametrize("code", sorted(k for k in apsw.mapping_extended_result_codes if isinstance(k, int)))
def test_an_extended_code_means_what_its_primary_code_does(code: int) -> None:
    exceptions = {apsw.SQLITE_READONLY_DBMOVED, apsw.SQLITE_IOERR_CORRUPTFS, apsw.SQLITE_IOERR_DATA}
    alike = meaning_of(code).raises is meaning_of(code & 0xFF).raises
    assert alike == (code not in exceptions)


@pytest.mark.parametrize(
    ("error", "class_"),
    [
        (MemoryError(), StoreUnavailable),
        (OverflowError("int too big"), StoreRefused),
        (UnicodeError("surrogates"), StoreRefused),
        (apsw.ConnectionClosedError(), StoreError),
        (apsw.BindingsError("count"), StoreUnavailable),
    ],
)
def test_errors_without_a_code(error: Exception, class_: type[StoreError]) -> None:
    assert type(translate(error, "x.db")) is class_
