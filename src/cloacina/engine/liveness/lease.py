"""The lease of a runner on SQLite: a locked file beside the database, touched as long as the runner lives.

Other runners read a death from it without any SQL: the lock is free or the file is gone (the process died),
or the lock is held but the file was not touched for a whole lease (the process is frozen). The thread that
touches it is not the event loop, so a blocked loop is no death; but a loop blocked for too long makes the
thread give the lease up on purpose, and say so in the file.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import sys
import threading
import traceback
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import msgspec

from cloacina.clock import Clock
from cloacina.engine.executors.attempt import Attempt
from cloacina.errors import StoreUnavailable
from cloacina.model.status import Reason
from cloacina.observe.logs import get_logger
from cloacina.settings import Settings

log = get_logger("lease")


class LeaseNote(msgspec.Struct):
    """What the file says of its runner. ``given_up`` is set when the runner let go on purpose."""

    pid: int
    lease: float
    given_up: bool = False


class Lease(Protocol):
    """The proof that a runner is alive, as the engine sees it."""

    def hold(self) -> None:
        """Take it and keep it, until `release`."""
        ...

    def fresh(self) -> bool:
        """True if the last sign of life is younger than the lease: bodies may start."""
        ...

    def release(self) -> None:
        """Let go: the runner is committed as stopped or dead."""
        ...


class MemoryLease:
    """The lease of a runner on a database in memory, which no other process can see."""

    def hold(self) -> None:
        return None

    def fresh(self) -> bool:
        return True

    def release(self) -> None:
        return None


class FileLease:
    """See the module's text. ``lost`` is called on the loop when the lease was given up or taken away."""

    def __init__(
        self, folder: Path, runner: str, settings: Settings, clock: Clock, lost: Callable[[str], None]
    ) -> None:
        self._path = folder / runner
        self._settings = settings
        self._clock = clock
        self._lost = lost
        self._loop = asyncio.get_running_loop()
        self._loop_thread = threading.get_ident()
        self._fd = -1
        self._renewed = clock.monotonic()
        self._beat = self._renewed
        self._asked = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="cloacina-lease", daemon=True)

    def hold(self) -> None:
        try:
            self._path.parent.mkdir(mode=0o700, exist_ok=True)
            self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._fd, fcntl.LOCK_EX)
            self._write(LeaseNote(os.getpid(), self._settings.lease))
        except OSError as error:
            self._discard()
            raise StoreUnavailable(
                f"the runner's lease file {self._path} cannot be written: {error.strerror}; check the rights and "
                "the space of its folder"
            ) from error
        _held.add(self)
        self._renewed = self._beat = self._clock.monotonic()
        self._thread.start()

    def fresh(self) -> bool:
        return self._fd >= 0 and self._clock.monotonic() - self._renewed < self._settings.lease

    def release(self) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        self._close()
        _remove(self._path)

    def forget(self) -> None:
        """In a forked child: close the copy of the descriptor, which would keep the lock alive."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def _discard(self) -> None:
        if self._fd >= 0:
            self.forget()
            self._path.unlink(missing_ok=True)

    def _keep(self) -> None:
        pause = min(self._settings.lease / 6, self._settings.loop_block_limit / 6, 5.0)
        while not self._stop.wait(pause):
            why = self._trouble()
            if why is not None:
                self._give_up(why)
                return

    def _trouble(self) -> str | None:
        now = self._clock.monotonic()
        if now - self._renewed >= self._settings.lease:
            return f"its lease was not renewed for {now - self._renewed:.1f}s"
        try:
            seen, mine = self._path.stat(), os.fstat(self._fd)
            if (seen.st_dev, seen.st_ino) != (mine.st_dev, mine.st_ino):
                return "its lease file was replaced"
            os.utime(self._fd)
        except OSError as error:
            return f"its lease file cannot be touched: {error}"
        self._renewed = now
        return self._listen(now)

    def _listen(self, now: float) -> str | None:
        """Ask the loop for a sign of life; say what blocks it if it has given none for too long."""
        if now - self._beat >= self._settings.loop_block_limit:
            return f"the event loop was blocked for {now - self._beat:.0f}s by {self._blocker()}"
        if not self._asked:
            self._asked = True
            try:
                self._loop.call_soon_threadsafe(self._answer)
            except RuntimeError:
                return "the event loop was closed"
        return None

    def _answer(self) -> None:
        self._beat = self._clock.monotonic()
        self._asked = False

    def _blocker(self) -> str:
        frame = sys._current_frames().get(self._loop_thread)  # pyright: ignore[reportPrivateUsage]
        where = "".join(traceback.format_stack(frame)[-3:])
        while frame is not None:
            attempt = frame.f_locals.get("attempt")
            if isinstance(attempt, Attempt):
                return f"task {attempt.task!r} of execution {attempt.execution}, here:\n{where}"
            frame = frame.f_back
        return f"code outside any task, here:\n{where}"

    def _give_up(self, why: str) -> None:
        log.error("the runner gives up what it owns: %s", why)
        try:
            self._write(LeaseNote(os.getpid(), self._settings.lease, given_up=True))
        except OSError:
            log.warning("the reason could not be written to %s", self._path)
        self._close()
        try:
            self._loop.call_soon_threadsafe(self._lost, why)
        except RuntimeError:
            log.warning("the event loop is closed; the runner's work is left to others")

    def _write(self, note: LeaseNote) -> None:
        os.pwrite(self._fd, msgspec.json.encode(note).ljust(80), 0)

    def _close(self) -> None:
        _held.discard(self)
        self.forget()


_held: weakref.WeakSet[FileLease] = weakref.WeakSet()


def _forget_all() -> None:
    for lease in list(_held):
        lease.forget()


os.register_at_fork(after_in_child=_forget_all)


@dataclass(slots=True)
class _Seen:
    mtime: int
    since: float


class Observer:
    """Looks at the lease files of all other runners and tells which of them are dead, and why."""

    def __init__(self, folder: Path, clock: Clock) -> None:
        self._folder = folder
        self._clock = clock
        self._seen: dict[str, _Seen] = {}

    def dead(self, mine: str) -> dict[str, Reason]:
        """The dead among the runners that have a file, with the reason their attempts are given."""
        found: dict[str, Reason] = {}
        files = self.files()
        self._seen = {name: seen for name, seen in self._seen.items() if name in files}
        for name in files:
            if name != mine and (reason := self._judge(name)) is not None:
                found[name] = reason
        return found

    def files(self) -> list[str]:
        """The ids of all runners that have a file."""
        try:
            return sorted(entry.name for entry in self._folder.iterdir())
        except FileNotFoundError:
            return []

    def remove(self, runner: str) -> None:
        """Remove the file of a runner that is committed dead."""
        self._seen.pop(runner, None)
        _remove(self._folder / runner)

    def _judge(self, name: str) -> Reason | None:
        try:
            fd = os.open(self._folder / name, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            try:
                fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return self._frozen(name, fd)
            note = _read(fd)
            if note is None:
                # Being made: its owner creates the file before it locks it.
                return self._frozen(name, fd)
            return Reason.LOST_LEASE if note.given_up else Reason.CRASH
        finally:
            os.close(fd)

    def _frozen(self, name: str, fd: int) -> Reason | None:
        mtime, now = os.fstat(fd).st_mtime_ns, self._clock.monotonic()
        seen = self._seen.get(name)
        if seen is None or seen.mtime != mtime:
            self._seen[name] = _Seen(mtime, now)
            return None
        note = _read(fd)
        lease = note.lease if note is not None else _UNWRITTEN
        return Reason.LOST_LEASE if now - seen.since >= lease else None


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        log.warning("the lease file %s could not be removed: %s", path, error.strerror)


_UNWRITTEN = 30.0


def _read(fd: int) -> LeaseNote | None:
    try:
        return msgspec.json.decode(os.pread(fd, 4096, 0), type=LeaseNote)
    except msgspec.DecodeError:
        return None
