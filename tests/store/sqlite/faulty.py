"""A file system for SQLite in which the n-th call fails, once or from then on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import apsw

CODES = {
    "EIO": {
        "xRead": apsw.SQLITE_IOERR_READ,
        "xWrite": apsw.SQLITE_IOERR_WRITE,
        "xSync": apsw.SQLITE_IOERR_FSYNC,
    },
    "ENOSPC": {"xWrite": apsw.SQLITE_FULL, "xOpen": apsw.SQLITE_CANTOPEN},
}


class FaultyVfs(apsw.VFS):
    """Passes everything on to the real file system, except for what `arm` says."""

    def __init__(self, name: str, base: str) -> None:
        super().__init__(name, base)
        self.base = base
        self.calls: list[str] = []
        self._fails: Callable[[int], bool] = lambda number: False
        self._codes: dict[str, int] = {}
        self._torn = False

    def arm(self, number: int, *, kind: str, for_ever: bool, torn: bool) -> None:
        """Let call ``number`` (from 0) fail, and all after it if ``for_ever``; ``torn``: write half of it."""
        self.calls.clear()
        self._fails = (lambda n: n >= number) if for_ever else (lambda n: n == number)
        self._codes = CODES[kind]
        self._torn = torn

    def disarm(self) -> None:
        self._fails = lambda number: False

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:
        self.happens("xOpen")
        return FaultyFile(self, name, flags)

    def xDelete(self, filename: str, syncdir: bool) -> None:
        self.happens("xDelete")
        super().xDelete(filename, syncdir)

    def happens(self, call: str, half: Callable[[], None] = lambda: None) -> None:
        """Count a call; raise what SQLite is to see if it is the one that fails."""
        number = len(self.calls)
        self.calls.append(call)
        if self._fails(number):
            if self._torn:
                half()
            code = self._codes.get(call, apsw.SQLITE_IOERR)
            error: Any = apsw.exception_for(code)
            error.extendedresult = code
            raise error


class FaultyFile(apsw.VFSFile):
    def __init__(self, vfs: FaultyVfs, name: str | apsw.URIFilename | None, flags: list[int]) -> None:
        super().__init__(vfs.base, name, flags)
        self._vfs = vfs

    def xRead(self, amount: int, offset: int) -> bytes:
        self._vfs.happens("xRead")
        return super().xRead(amount, offset)

    def xWrite(self, data: Any, offset: int) -> None:
        def half() -> None:
            apsw.VFSFile.xWrite(self, bytes(data)[: len(data) // 2], offset)

        self._vfs.happens("xWrite", half)
        super().xWrite(data, offset)

    def xSync(self, flags: int) -> None:
        self._vfs.happens("xSync")
        super().xSync(flags)

    def xTruncate(self, newsize: int) -> None:
        self._vfs.happens("xTruncate")
        super().xTruncate(newsize)

    def xFileSize(self) -> int:
        self._vfs.happens("xFileSize")
        return super().xFileSize()

    def xLock(self, level: int) -> None:
        self._vfs.happens("xLock")
        super().xLock(level)
