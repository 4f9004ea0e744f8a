"""A partial file: written beside its place, and given its name once it is whole and on the disk.

It is locked while it is being made, so that what a process left that died is told from what one is making.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Generator
from pathlib import Path

from cloacina.errors import StoreBusy, StoreUnavailable

_HOT = ("-journal", "-wal", "-shm")
"""What SQLite would play back into a file that it belongs to by its name."""


@contextlib.contextmanager
def partial(place: Path) -> Generator[Path, None, None]:
    """A new, empty file to be made into ``place``, for its owner only; removed at the end if it is still there.

    Raises `StoreBusy` if somebody makes one for this place, `StoreUnavailable` if none can be made.
    """
    path = _beside(place)
    try:
        descriptor = _lock(path)
    except BlockingIOError:
        raise StoreBusy(f"{path} is being written by another process; wait until that has ended") from None
    except OSError as error:
        raise StoreUnavailable(
            f"{path} cannot be written: {error.strerror}; check the rights and the space of its folder"
        ) from error
    try:
        yield path
    finally:
        for left in (path, *_companions(path)):
            with contextlib.suppress(OSError):
                if left != path or _is(path, descriptor):
                    left.unlink()
        os.close(descriptor)


def being_made(place: Path) -> bool:
    """True if a process has a partial file for ``place`` right now."""
    try:
        descriptor = os.open(_beside(place), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False


def finish(path: Path, place: Path) -> None:
    """Give the partial file ``path``, which nobody has open, its name, for good. Raises ``OSError``.

    What another file of that name has left beside it goes first, or SQLite would play it back into the new one.
    """
    sync(path)
    for left in _companions(place):
        left.unlink(missing_ok=True)
    sync(place.parent)
    path.replace(place)
    sync(place.parent)


def sync(path: Path) -> None:
    """Bring a file or folder to the disk. Raises ``OSError``."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _beside(place: Path) -> Path:
    return place.with_name(f"{place.name}.partial")


def _companions(path: Path) -> list[Path]:
    return [path.with_name(path.name + end) for end in _HOT]


def _lock(path: Path) -> int:
    """Make the file, or take over what a dead process left of it, empty."""
    while True:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        descriptor = os.open(path, flags, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is(path, descriptor):
                os.fchmod(descriptor, 0o600)
                os.ftruncate(descriptor, 0)
                for left in _companions(path):
                    left.unlink(missing_ok=True)
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # another process has finished or removed the file meanwhile


def _is(path: Path, descriptor: int) -> bool:
    """True if ``path`` leads to the file that is open as ``descriptor``."""
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
