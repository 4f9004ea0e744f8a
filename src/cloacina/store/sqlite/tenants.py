"""Tenants in a folder: for each a database file, which its owner alone may read."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from cloacina.errors import AdminError, ValidationError
from cloacina.store.location import Location
from cloacina.store.postgres.location import check_schema
from cloacina.store.sqlite.copies.backup import failing
from cloacina.store.sqlite.copies.partial import partial, sync
from cloacina.store.sqlite.copies.restore import standing_still
from cloacina.store.sqlite.file.connection import create as create_file

_END = ".db"


def place(folder: Path, tenant: str) -> Location:
    """Where the database of a tenant is. Raises `ValidationError` for what is no folder, or no name."""
    if not folder.is_dir():
        raise ValidationError(
            f"{folder} is no folder; give one for the tenants' databases, and create it first"
        )
    return Location(folder / f"{check_schema(tenant)}{_END}")


def create(location: Location) -> None:
    """Make an empty database, which its first runner prepares. Raises `AdminError` if anything is there of it."""
    left = [path for path in _parts(location) if _there(path)]
    assert location.path is not None
    if left or not create_file(location.path):
        raise AdminError(
            f"tenant {location.path.stem!r} was not created: {left[0] if left else location.path} is there; give "
            "another name, or remove the tenant first"
        )


def remove(location: Location, refuse_live: Callable[[], None]) -> None:
    """Delete the database and what belongs to it, the file itself at last; ``refuse_live`` raises if it is in use.

    If it ends half way, it can be called again. Raises `AdminError` if nothing is there, `StoreBusy` if any program
    has the database open, and `StoreUnavailable`.
    """
    path = location.path
    assert path is not None
    if not any(map(_there, _parts(location))):
        raise AdminError(f"there is no tenant {path.stem!r} in folder {path.parent}; see list_tenants()")
    if path.is_symlink():
        raise AdminError(
            f"tenant {path.stem!r} was not removed: {path} is a link; delete what it leads to by hand"
        )
    with failing(f"tenant {path.stem!r} was not removed", path), partial(path):
        refuse_live()
        with standing_still(location):
            for part in _parts(location):
                _delete(part)
            sync(path.parent)


def names(folder: Path) -> list[str]:
    """The tenants whose databases are in ``folder``, in order. Raises `ValidationError` for what is no folder."""
    place(folder, "a")
    return sorted(path.stem for path in folder.glob(f"*{_END}") if path.is_file() and _name(path.stem))


def _parts(location: Location) -> list[Path]:
    """All that belongs to a database; its file comes last, so what is left of it is seen as long as it is."""
    assert location.path is not None
    beside = (location.runners, location.payloads, location.wal, location.shm)
    return [*(path for path in beside if path is not None), location.path]


def _there(path: Path) -> bool:
    return path.exists() or path.is_symlink()


def _delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _name(stem: str) -> bool:
    try:
        return bool(check_schema(stem))
    except ValidationError:
        return False
