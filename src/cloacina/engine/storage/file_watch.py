"""The file watch: learns from the kernel that a file was written to, at no cost while it is not.

Linux only (inotify). It opens no descriptor on the file itself, whose locks SQLite would lose by that.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

_MODIFIED, _ONCE = 0x00000002, 0x80000000
_EVENT_BYTES = 4_096


class FileWatch:
    """Tells once that a file was written to, each time after it was armed."""

    def __init__(self, libc: Any, fd: int, path: str) -> None:
        self._libc = libc
        self._fd = fd
        self._path = os.fsencode(path)
        self._told: Callable[[], None] | None = None
        asyncio.get_running_loop().add_reader(fd, self._read)

    @classmethod
    def of(cls, path: str) -> FileWatch | None:
        """A watch on the file, for the running event loop; None where there is no such thing."""
        if not sys.platform.startswith("linux"):
            return None
        import ctypes  # costs a millisecond that a mere import of the package does not need

        libc: Any = ctypes.CDLL(None)
        fd: int = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC) if hasattr(libc, "inotify_init1") else -1
        return cls(libc, fd, path) if fd >= 0 else None

    def arm(self, told: Callable[[], None]) -> bool:
        """Call ``told`` once after the next write; False if the file cannot be watched."""
        self._told = told
        return self._fd >= 0 and self._libc.inotify_add_watch(self._fd, self._path, _MODIFIED | _ONCE) >= 0

    def close(self) -> None:
        """Watch no more."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            asyncio.get_running_loop().remove_reader(fd)
            os.close(fd)

    def _read(self) -> None:
        with suppress(BlockingIOError):
            os.read(self._fd, _EVENT_BYTES)
        told, self._told = self._told, None
        if told is not None:
            told()
