"""A database opened to be read with SQL: one statement at a time, and nothing that could write or wait for long."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from types import TracebackType
from typing import Any

import apsw

from cloacina.clock import Clock, SystemClock
from cloacina.errors import StoreError, ValidationError
from cloacina.store.location import Location, parse_location
from cloacina.store.migrations import MIGRATIONS
from cloacina.store.sqlite.file import connection
from cloacina.store.sqlite.file.connection import Connection
from cloacina.store.sqlite.file.errors import translate
from cloacina.store.sqlite.file.prepare import recognise

Params = Sequence[object] | Mapping[str, object]


class ReadOnlyDatabase:
    """What `open_readonly` returns. It may be used from several threads, which take turns."""

    def __init__(self, location: Location, timeout: float, clock: Clock) -> None:
        self._timeout = timeout
        self._clock = clock
        self._turn = threading.Lock()
        self._connection = _Reading(location, busy_timeout=min(timeout, 5.0), read_only=True)
        try:
            self.schema_version = recognise(self._connection)
            if not self.schema_version:
                raise ValidationError(f"database {location} is empty: no runner has been started on it")
            self._connection.follow_wal()
            self._connection.allow_reading_only()
        except BaseException:
            self.close()
            raise

    def query(self, sql: str, params: Params = ()) -> list[dict[str, Any]]:
        """Run one statement that reads, and return its rows: one dict each, by the names of the columns.

        ``params`` are the values for ``?`` in a sequence, or for ``:name`` in a mapping. Raises `ValidationError`
        for SQL that is wrong or does anything but read, with what SQLite says of it, and for two columns of one
        name; `StoreError` if it takes longer than the ``timeout``, and if the database cannot be read.
        """
        if isinstance(params, str | bytes):
            raise ValidationError(f"params={params!r:.80} is no list of values: write ({params!r:.80},)")
        with self._turn:
            names, rows = self._select(sql, params)
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ValidationError(f"two columns are named {twice!r}: give one another name with AS")
        return [dict(zip(names, row, strict=True)) for row in rows]

    def close(self) -> None:
        """Close; twice does nothing."""
        with self._turn:
            self._connection.close(checkpoint=False)

    def __enter__(self) -> ReadOnlyDatabase:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"ReadOnlyDatabase({str(self._connection.location)!r})"

    def _select(self, sql: str, params: Params) -> tuple[list[str], list[tuple[Any, ...]]]:
        until = self._clock.monotonic() + self._timeout
        try:
            return self._connection.select(sql, params, lambda: self._clock.monotonic() >= until)
        except apsw.InterruptError:
            raise StoreError(
                f"database {self._connection.location}: the query took longer than {self._timeout} s and was given "
                "up: narrow it, or give open_readonly(..., timeout=...)"
            ) from None
        except apsw.AuthError as error:
            raise ValidationError(f"only statements that read are allowed here: {error}") from error
        except KeyError as error:
            raise ValidationError(f"the query has a :{error.args[0]}, and params no value for it") from error
        except (apsw.SQLError, apsw.BindingsError, TypeError, OverflowError, UnicodeError) as error:
            raise ValidationError(f"SQLite refuses the query: {error}{self._hint()}") from error
        except (apsw.Error, MemoryError) as error:
            raise translate(error, str(self._connection.location)) from error

    def _hint(self) -> str:
        if self.schema_version == len(MIGRATIONS):
            return ""
        return (
            f" (the database was opened with schema version {self.schema_version}, not {len(MIGRATIONS)}: the first "
            "runner of this version of cloacina brings it there)"
        )


def open_readonly(
    url: str | PathLike[str], *, timeout: float = 30.0, clock: Clock | None = None
) -> ReadOnlyDatabase:
    """Open the database at ``url`` for SQL on the engine's own tables, which `docs/reference/schema.md` describes.

    It may be opened beside a runner, in its process or another one, and where nobody has it open. It is never
    written to, nor brought to another schema. A query may take ``timeout`` seconds: while it reads, the
    write-ahead log cannot be emptied. Calls block; on an event loop use ``asyncio.to_thread``.

    Raises `ValidationError` for a database that is not there or in memory, `StoreCorrupt` for one that is not
    ours, `SchemaTooNew`, and `StoreUnavailable`.
    """
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or not timeout > 0:  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ValidationError(f"timeout={timeout!r:.80} must be a number of seconds above 0")
    location = parse_location(url).resolved()
    if location.path is None:
        raise ValidationError(
            "a database in memory belongs to its runner: only one in a file can be opened twice"
        )
    if not location.path.exists():
        raise ValidationError(f"there is no database {location}: a runner makes it")
    return ReadOnlyDatabase(location, timeout, clock or SystemClock())


class _Reading(Connection):
    """A connection that runs what strangers wrote."""

    def allow_reading_only(self) -> None:
        """From now on refuse every statement that does anything else."""
        self._raw.authorizer = _allow

    def select(
        self, sql: str, params: Params, late: Callable[[], bool]
    ) -> tuple[list[str], list[tuple[Any, ...]]]:
        """The names of the columns, and the rows, of one statement; interrupted when it is ``late``.

        Raises the driver's own errors.
        """
        self._check_process()
        cursor: Any = self._raw.cursor()
        cursor.exec_trace = _only_one()
        names: list[str] = []
        rows: list[tuple[Any, ...]] = []
        self._raw.set_progress_handler(late, connection.TICK_STEPS)
        try:
            for row in cursor.execute(sql, params):
                names = names or [column[0] for column in cursor.get_description()]
                rows.append(row)
        finally:
            self._raw.set_progress_handler(None)
            cursor.close(True)
        return names, rows


def _only_one() -> Callable[[object, str, object], bool]:
    """Refuses a second statement."""
    seen = 0

    def trace(cursor: object, sql: str, bindings: object) -> bool:
        nonlocal seen
        seen += 1
        if seen > 1:
            raise ValidationError("one statement at a time: what follows the first semicolon was not run")
        return True

    return trace


_READS = {
    apsw.SQLITE_SELECT,
    apsw.SQLITE_READ,
    apsw.SQLITE_FUNCTION,
    apsw.SQLITE_RECURSIVE,
}

_LOOKS = frozenset({"table_info", "table_xinfo", "table_list", "index_list", "index_info", "index_xinfo"})
"""Pragmas that tell of the schema, and do nothing else."""

_FIGURES = frozenset({"user_version", "application_id", "page_count", "page_size", "freelist_count"})
"""Pragmas that tell a figure unless they are given one."""


def _allow(
    operation: int, first: str | None, second: str | None, database: str | None, trigger: str | None
) -> int:
    """Called by SQLite for everything that a statement would do."""
    if operation in _READS:
        return apsw.SQLITE_OK
    if operation == apsw.SQLITE_PRAGMA and (first in _LOOKS or (first in _FIGURES and second is None)):
        return apsw.SQLITE_OK
    return apsw.SQLITE_DENY
