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
import weakref
from collections.abc import Callable
from pathlib import Path

import msgspec

from cloacina.engine.liveness.pulse import Pulse
from cloacina.engine.machine import Machine, Metronome
from cloacina.errors import StoreUnavailable
from cloacina.observe.logs import get_logger
from cloacina.settings import Settings

log = get_logger("lease")


class LeaseNote(msgspec.Struct):
    """What the file says of its runner. ``given_up`` is set when the runner let go on purpose."""

    pid: int
    lease: float
    given_up: bool = False


class FileLease:
    """See the module's text. ``lost`` is called on the loop when the lease was given up or taken away."""

    def __init__(
        self, folder: Path, runner: str, settings: Settings, machine: Machine, lost: Callable[[str], None]
    ) -> None:
        self._path = folder / runner
        self._settings = settings
        self._machine = machine
        self._clock = machine.clock
        self._lost = lost
        self._loop = asyncio.get_running_loop()
        self._fd = -1
        self._pulse = Pulse(machine.clock, settings.loop_block_limit)
        self._renewed = machine.clock.monotonic()
        self._metronome: Metronome | None = None

    async def hold(self) -> None:
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
        self._renewed = self._clock.monotonic()
        self._pulse.start()
        pause = min(self._settings.lease / 6, self._settings.loop_block_limit / 6, 5.0)
        self._metronome = self._machine.metronome("lease", pause, self._beat)

    def fresh(self) -> bool:
        return self._fd >= 0 and self._clock.monotonic() - self._renewed < self._settings.lease

    def release(self) -> None:
        self.drop()
        self._close()
        remove_file(self._path)

    def drop(self) -> None:
        """Let go as a kill would: the lock is free, and the file stays."""
        if self._metronome is not None:
            self._metronome.stop()
            self._close()

    def forget(self) -> None:
        """In a forked child: close the copy of the descriptor, which would keep the lock alive."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def _discard(self) -> None:
        if self._fd >= 0:
            self.forget()
            self._path.unlink(missing_ok=True)

    def _beat(self) -> bool:
        why = self._trouble()
        if why is not None:
            self._give_up(why)
        return why is None

    def _trouble(self) -> str | None:
        now = self._clock.monotonic()
        if now - self._renewed >= self._settings.lease:
            return f"its lease was not renewed for {now - self._renewed:.1f}s"
        try:
            seen, mine = self._path.stat(), os.fstat(self._fd)
            if (seen.st_dev, seen.st_ino) != (mine.st_dev, mine.st_ino):
                return "its lease file was replaced"
            stamp = self._clock.now() * 1000
            os.utime(self._fd, ns=(stamp, stamp))
        except OSError as error:
            return f"its lease file cannot be touched: {error}"
        self._renewed = now
        return self._pulse.trouble()

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


def remove_file(path: Path) -> None:
    """Remove a lease's file if it is there; what prevents that is logged."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        log.warning("the lease file %s could not be removed: %s", path, error.strerror)


def read_note(fd: int) -> LeaseNote | None:
    """What a lease's file says; None while it is being made."""
    try:
        return msgspec.json.decode(os.pread(fd, 4096, 0), type=LeaseNote)
    except msgspec.DecodeError:
        return None
