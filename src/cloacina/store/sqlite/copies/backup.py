"""A backup: a consistent copy of a database, made while others write to it.

It is read in one snapshot, which takes a second or two for a gigabyte. Nobody waits meanwhile, but the write-ahead
log cannot be emptied, so it grows by what is written. The copy has no free pages, so it may be smaller.
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import apsw

from cloacina.errors import (
    RunnerClosed,
    StoreCorrupt,
    StoreUnavailable,
    ValidationError,
)
from cloacina.store.location import Location
from cloacina.store.payloads.folder import PayloadFolder
from cloacina.store.sqlite.copies.partial import finish, partial, sync
from cloacina.store.sqlite.file import guard
from cloacina.store.sqlite.file.connection import Connection
from cloacina.store.sqlite.file.errors import translate

SYNC_BYTES = 8_000_000
"""How much is copied before it is brought to the disk. All at once, commits would wait for the disk for a second."""


def back_up(
    source: Location, target: Location, *, overwrite: bool, go_on: Callable[[], bool] = lambda: True
) -> Path:
    """Copy the database at ``source`` to the file ``target``, which appears when it is whole; return its path.

    ``go_on`` is asked now and then; when it answers False, `RunnerClosed` is raised. Raises `ValidationError` if
    the target may not be written, `StoreUnavailable` if it cannot be, `StoreCorrupt` if the database is damaged.
    Nothing is left of a backup that was not finished.
    """
    origin, place = _checked(source, target, overwrite)
    what = f"backup {place} was not made"
    with failing(what, place), partial(place) as path, _payloads_beside(origin, place) as take_payloads:
        take_payloads()
        copy(source, path, go_on)
        take_payloads()
        check(path, f"a copy of {source} did not pass its check: it, or the disk of the copy, is damaged")
        _checked(source, target, overwrite)
        finish(path, place)
    return place


def copy(source: Location, path: Path, go_on: Callable[[], bool]) -> None:
    """Copy a database into the empty file at ``path``, without a log and without free pages.

    Raises errors of the driver, to be called inside `failing`.
    """
    connection = Connection(source, busy_timeout=5.0, read_only=True)
    try:
        connection.copy_into(path, _Progress(path, go_on).tick)
    except apsw.InterruptError:
        raise RunnerClosed("it was given up: its runner is shut down, or nobody waits for it") from None
    except (apsw.CorruptError, apsw.NotADBError) as error:
        raise translate(error, str(source)) from error
    finally:
        connection.close(checkpoint=False)


def check(path: Path, complaint: str) -> None:
    """Read the whole of a file that nobody writes to; raise `StoreCorrupt` with ``complaint`` if it is damaged."""
    uri = f"file:{quote(str(path))}?immutable=1"
    flags = apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI
    connection: Any
    with contextlib.closing(apsw.Connection(uri, flags=flags)) as connection:
        connection.execute("PRAGMA cell_size_check = ON")
        problem = str(connection.execute("PRAGMA quick_check(1)").get)
    if problem != "ok":
        raise StoreCorrupt(f"{complaint} ({problem.splitlines()[-1]})")


def payload_files(database: Path) -> PayloadFolder:
    """The folder of the payload files of a database."""
    folder = Location(database).payloads
    assert folder is not None
    return PayloadFolder(folder)


@contextlib.contextmanager
def failing(what: str, place: Path) -> Generator[None, None, None]:
    """Say ``what`` has failed with every error of the driver or the operating system that is raised inside."""
    try:
        yield
    except (apsw.FullError, OSError) as error:
        if isinstance(error, OSError) and error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise StoreUnavailable(f"{what}: {error.strerror or error}") from error
        raise StoreUnavailable(f"{what}: the disk is full; free some space and try again") from error
    except (apsw.Error, MemoryError) as error:
        meaning = translate(error, f"or copy {place}")
        raise type(meaning)(f"{what}: {meaning}") from error


class _Progress:
    """Brings what was copied to the disk in small parts, and asks whether to go on."""

    def __init__(self, path: Path, go_on: Callable[[], bool]) -> None:
        self._path = path
        self._go_on = go_on
        self._synced = 0

    def tick(self) -> bool:
        """True to give up."""
        size = self._path.stat().st_size
        if size - self._synced >= SYNC_BYTES:
            sync(self._path)
            self._synced = size
        return not self._go_on()


@contextlib.contextmanager
def _payloads_beside(origin: Path, place: Path) -> Generator[Callable[[], None], None, None]:
    """What copies the payload files of ``origin`` for a backup at ``place``; others are removed at the end.

    If the backup is not made, none stay; those of an older one that it was to replace do.
    """
    files, copies = payload_files(origin), payload_files(place)
    wanted: set[str] = set()
    renewed = place.exists()

    def take() -> None:
        wanted.update(files.copy_to(copies))

    try:
        yield take
    except BaseException:
        if not renewed:
            copies.keep_only(())
        raise
    copies.keep_only(wanted)


def _checked(source: Location, target: Location, overwrite: bool) -> tuple[Path, Path]:
    origin = source.path
    if origin is None or target.path is None:
        raise ValidationError("a database in memory has no backup, and none is made in memory: give files")
    place = target.resolved().path
    assert place is not None
    found = guard.identify(place)
    if found is not None and (guard.is_open(place) or found in map(guard.identify, source.files)):
        raise ValidationError(f"backup {place} is a database that is in use: give another path")
    if found is not None and not overwrite:
        raise ValidationError(f"backup {place} exists: give another path, or overwrite=True")
    return origin, place
