"""Faults: what befalls a program at its n-th transaction, or at its n-th write or sync of a file.

They are put in from outside, through the drivers: SQLite's trace of the statements, and a file system layer that
stands between it and the files; the calls of asyncpg that send a statement. Nothing of the engine is changed.
"""

from __future__ import annotations

import os
import re
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import apsw
import asyncpg
import msgspec

from acceptance.support.ledger import ledger, say
from acceptance.support.order import Fault

Step = Callable[[str, str, int, bytes], None]
"""Called before each operation on a file: its kind, the file's name, an offset or length, the data."""


class Armed:
    """A fault that is put in, and counts from `arm`."""

    def __init__(self, fault: Fault) -> None:
        self._fault = fault
        self._count = 0
        self._live = False
        self._dying = False
        if fault.kind.endswith(("-io", "-step")):
            put_in_disk(self.step)
            if fault.kind.endswith("-step"):
                sys.addaudithook(self._audit)
        else:
            apsw.connection_hooks.append(self._watch)
            self._watch_server()
        if not fault.once_up:
            self.arm()

    def arm(self) -> None:
        self._live = True

    @property
    def count(self) -> int:
        """How many chances it had so far."""
        return self._count

    def step(self, kind: str, file: str, offset: int, data: bytes) -> None:
        if not self._due():
            return
        if self._fault.kind.startswith("kill"):
            say("dying")
            die()
        say("faulted", kind, file)
        if self._fault.full:
            raise apsw.FullError("the disk is full, says the test")
        raise apsw.exception_for(apsw.SQLITE_IOERR_FSYNC if kind == "sync" else apsw.SQLITE_IOERR_WRITE)

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event in ("os.rename", "os.link", "os.remove", "os.truncate"):
            self.step(event, str(arguments[0]), 0, b"")

    def _due(self) -> bool:
        self._count += self._live
        return self._live and 0 <= self._count - self._fault.at < self._fault.times

    def _watch(self, connection: apsw.Connection) -> None:
        connection.trace_v2(apsw.SQLITE_TRACE_STMT | apsw.SQLITE_TRACE_PROFILE, self._traced)

    def _watch_server(self) -> None:
        for name in ("execute", "fetch"):
            setattr(asyncpg.Connection, name, self._watched(getattr(asyncpg.Connection, name)))

    def _watched(self, send: Callable[..., Any]) -> Callable[..., Any]:
        """``send``, with the moments before a statement that commits is sent, and after it was answered."""

        async def watched(raw: asyncpg.Connection, text: str, *rest: Any, **options: Any) -> Any:
            alone = not raw.is_in_transaction()
            commits = text == "COMMIT" or (alone and _WRITES.search(text) is not None)
            if commits:
                self._moment("-before-begin")
                self._moment("-before-commit")
            answer = await send(raw, text, *rest, **options)
            if commits:
                self._moment("-after-commit")
            return answer

        return watched

    def _traced(self, event: dict[str, Any]) -> None:
        statement = _STATEMENTS.get(event["sql"])
        if statement is not None:
            when = "before" if event["code"] == apsw.SQLITE_TRACE_STMT else "after"
            self._moment(f"-{when}-{statement}")

    def _moment(self, moment: str) -> None:
        if self._dying and moment == "-after-commit":
            die()
        if self._fault.kind.endswith(moment) and self._due():
            if self._fault.kind.startswith("kill"):
                say("dying")
                die()
            self._dying = self._fault.dies
            say("freezing")
            signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)  # to this thread: it must not go on


_STATEMENTS = {"BEGIN IMMEDIATE": "begin", "COMMIT": "commit"}
_WRITES = re.compile(r"^\s*(INSERT|UPDATE|DELETE|CREATE|WITH\b.*\b(INSERT INTO|UPDATE|DELETE FROM)\b)", re.S)
"""A statement of PostgreSQL that is a transaction by itself and changes something."""


class Recorder:
    """Writes down everything that goes to the disk, and what the ledger says in between."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        put_in_disk(self.step)
        ledger().echo = lambda line: self.step("said", "", 0, line)

    def step(self, kind: str, file: str, offset: int, data: bytes) -> None:
        text = msgspec.msgpack.encode((kind, file, offset, data))
        os.write(self._fd, len(text).to_bytes(4, "big") + text)


def die() -> None:
    """As `kill -9` from outside: nothing is flushed, nothing is told."""
    os.kill(os.getpid(), signal.SIGKILL)


def put_in_disk(step: Step) -> None:
    """Call ``step`` before whatever any connection does to a file from now on."""
    _disks.append(_Disk(step))


_disks: list[_Disk] = []


class _Disk(apsw.VFS):
    def __init__(self, step: Step) -> None:
        super().__init__("tested", "unix", makedefault=True)
        self._step = step

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> _File:
        return _File(self._step, name, flags)

    def xDelete(self, filename: str, syncdir: bool) -> None:
        self._step("delete", Path(filename).name, 0, b"")
        super().xDelete(filename, syncdir)


class _File(apsw.VFSFile):
    def __init__(self, step: Step, name: str | apsw.URIFilename | None, flags: list[int]) -> None:
        super().__init__("unix", name, flags)
        path = name.filename() if isinstance(name, apsw.URIFilename) else name
        self._name = Path(path or "temporary").name
        self._step = step

    def xWrite(self, data: bytes, offset: int) -> None:
        try:
            self._step("write", self._name, offset, data)
        except apsw.Error:
            super().xWrite(data[: len(data) // 2], offset)
            raise
        super().xWrite(data, offset)

    def xTruncate(self, newsize: int) -> None:
        self._step("truncate", self._name, newsize, b"")
        super().xTruncate(newsize)

    def xSync(self, flags: int) -> None:
        self._step("sync", self._name, 0, b"")
        super().xSync(flags)
