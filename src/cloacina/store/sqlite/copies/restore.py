"""A restore: a backup becomes the database, and the database that was there is kept beside it.

Whatever happens on the way, the file at the place is the old database or the new one, whole. While it is made
nobody else can open either: the partial file tells runners that start, an exclusive lock keeps out the rest.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Generator
from pathlib import Path
from typing import NamedTuple

from cloacina.errors import StoreBusy, StoreCorrupt, ValidationError
from cloacina.model.status import Reason
from cloacina.observe.logs import get_logger
from cloacina.store.location import Location
from cloacina.store.nouns import runners
from cloacina.store.sqlite.copies.backup import check, copy, failing, payload_files
from cloacina.store.sqlite.copies.partial import finish, partial
from cloacina.store.sqlite.file.connection import Connection
from cloacina.store.sqlite.file.prepare import APPLICATION_ID, recognise

_EPOCH = "SELECT CAST(value AS INTEGER) FROM meta WHERE key = 'epoch'"
_RAISE_EPOCH = "UPDATE meta SET value = CAST(? AS TEXT) WHERE key = 'epoch'"
_HAS_COMMANDS = "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = 'commands')"

log = get_logger("restore")


class Restored(NamedTuple):
    """What a restore did: the epoch of the database from now on, and where the old one is, if there was one."""

    epoch: int
    kept: Path | None


def restore(backup: Location, target: Location, now: int, refuse_live: Callable[[], None]) -> Restored:
    """Put the database ``backup`` at ``target``; ``refuse_live`` raises if a runner is alive there.

    All runners in it are declared dead and what they owned is free. Raises `ValidationError` for files that
    cannot be meant, `StoreBusy` if somebody has the database open, and as `recognise` for what is no backup.
    """
    place, origin = _places(backup, target)
    what = f"database {place} was not restored from {origin}"
    with failing(what, place), partial(place) as path:
        refuse_live()
        with standing_still(target) as present:
            _recognise(backup)
            copy(backup, path, lambda: True)
            epoch = _begin_epoch(path, present, now)
            check(path, f"a copy of {origin} did not pass its check: it, or the disk of the copy, is damaged")
            payload_files(origin).copy_to(payload_files(place))
            return Restored(epoch, _swap(path, place, sound=present is not None))


def _places(backup: Location, target: Location) -> tuple[Path, Path]:
    place, origin = target.path, backup.path
    if place is None or origin is None:
        raise ValidationError("a database in memory cannot be restored, nor be a backup: give files")
    if not origin.is_file():
        raise ValidationError(f"there is no backup {origin}")
    if place.exists() and place.samefile(origin):
        raise ValidationError(f"backup {origin} is the database itself: give another one")
    return place, origin


def _recognise(backup: Location) -> None:
    connection = Connection(backup, busy_timeout=5.0, read_only=True)
    try:
        if not recognise(connection):
            raise ValidationError(f"backup {backup} is empty")
    finally:
        connection.close(checkpoint=False)


@contextlib.contextmanager
def standing_still(target: Location) -> Generator[int | None, None, None]:
    """Keep everybody off the present database, whose log is empty then; gives its epoch.

    Gives None, and keeps nobody off, if there is none or if it is damaged: then its files are moved as they are.
    """
    connection = _alone(target)
    if connection is None:
        yield None
        return
    try:
        yield int(connection.value(_EPOCH) or 0)
    finally:
        connection.close(checkpoint=False)


def _alone(target: Location) -> Connection | None:
    """The only connection to the present database, which is locked; None if there is none or it is damaged."""
    assert target.path is not None
    if not target.path.exists() or not target.path.stat().st_size:
        return None
    try:
        connection = Connection(target, busy_timeout=1.0)
        try:
            _lock(connection)
        except BaseException:
            connection.close(checkpoint=False)
            raise
    except StoreBusy as error:
        raise StoreBusy(
            f"database {target} is open in another program: close what reads it or submits to it first"
        ) from error
    except StoreCorrupt as error:
        log.warning("what is to be replaced is set aside as it is: %s", error)
        return None
    return connection


def _lock(connection: Connection) -> None:
    """Empty the log into the file, which nobody else may have open, and keep others off it."""
    application = connection.value("PRAGMA application_id")
    if application != APPLICATION_ID and connection.value("SELECT count(*) FROM sqlite_schema"):
        raise ValidationError(
            f"{connection.location} belongs to another program: give the path of cloacina's database"
        )
    connection.rows("PRAGMA locking_mode = EXCLUSIVE")
    if connection.value("PRAGMA journal_mode = DELETE") != "delete":
        raise StoreBusy("its log is in use")
    connection.rows("BEGIN EXCLUSIVE")
    connection.rows(_EPOCH)


def _begin_epoch(path: Path, present: int | None, now: int) -> int:
    """Make the copy the database of a new epoch, in which nobody owns anything."""
    connection = Connection(Location(path), busy_timeout=0.0)
    try:
        epoch = max(int(connection.value(_EPOCH) or 0), present or 0) + 1
        with connection.transaction():
            connection.change(_RAISE_EPOCH, (epoch,))
            _free_everything(connection, now)
        return epoch
    finally:
        connection.close()


def _free_everything(connection: Connection, now: int) -> None:
    """Declare every runner dead and free what it owned; none has crashed. The schema may be an older one."""
    has_commands = bool(connection.value(_HAS_COMMANDS))
    owners = {row.id for row in runners.alive(connection)} | {*runners.orphans(connection)}
    for owner in sorted(owners):
        runners.free(connection, owner, Reason.LOST_LEASE, now, has_commands=has_commands)


def _swap(path: Path, place: Path, *, sound: bool) -> Path | None:
    """Keep what is at ``place`` under another name and put the file ``path`` there; return that name.

    The log of a database that is not ``sound`` is kept with it; that of another one is empty.
    """
    if not place.exists():
        finish(path, place)
        return None
    kept = _free_name(place)
    with contextlib.ExitStack() as undo:
        for end in () if sound else ("-wal", "-journal"):
            _set_aside(place.with_name(place.name + end), kept.with_name(kept.name + end), undo)
        try:
            # A second name rather than another one: so there is a database at the place at every moment.
            os.link(place, kept)
            undo.callback(kept.unlink)
        except OSError:
            _set_aside(place, kept, undo)
        finish(path, place)
        undo.pop_all()
    return kept


def _set_aside(file: Path, name: Path, undo: contextlib.ExitStack) -> None:
    with contextlib.suppress(FileNotFoundError):
        file.rename(name)
        undo.callback(name.rename, file)


def _free_name(place: Path) -> Path:
    """A name for the old database; one that a restore gave it that died before the end is taken away."""
    number = 1
    while (name := place.with_name(f"{place.name}.before-restore-{number}")).exists():
        if name.samefile(place):
            name.unlink()
            break
        number += 1
    return name
