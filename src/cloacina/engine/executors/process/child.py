"""A child: one process for bodies, as its runner sees it.

A thread starts the process and waits for its end, so that the event loop never blocks on either. It lives as
long as the child does: the kernel ties the death signal of a process to the thread that started it.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol, cast

from cloacina.clock import Timer
from cloacina.engine.executors.attempt import Attempt
from cloacina.engine.executors.process.interrupt import STOP
from cloacina.engine.executors.process.wire import Frames, FromChild, Message, frame, read_from_child

CHUNK = 1 << 18
PROGRAM = "cloacina.engine.executors.process.main"


class Parent(Protocol):
    """Whom a child reports to, on the event loop."""

    def heard(self, child: Child, message: FromChild) -> None:
        """The child says something."""
        ...

    def lost(self, child: Child) -> None:
        """The child's end of the wire is closed: its process is ending, or its body closed what is not its own."""
        ...

    def gone(self, child: Child, code: int | None, error: BaseException | None) -> None:
        """The child's process has ended, with this exit code, or could not be started."""
        ...


class Child:
    """See the module's text. Made and used on the event loop."""

    def __init__(self, parent: Parent, most: int, post: Callable[[Callable[[], None]], None]) -> None:
        """``most`` bytes is what it may say at once. Raises `OSError` or `RuntimeError` if there can be none."""
        self.attempt: Attempt | None = None
        """The attempt whose body it runs."""
        self.begun = False
        """True once that body runs."""
        self.served = 0
        """How many attempts it was given."""
        self.rested = False
        """True if it had nothing to do for a while, and has had nothing since."""
        self.dismissed = False
        """True once it gets no more attempts."""
        self.spoilt = False
        """True if it was killed for what it said."""
        self.timers: list[Timer] = []
        """What is to happen if it has not ended by then."""
        self._parent = parent
        self._post = post
        self._frames = Frames(most)
        self._unsent = bytearray()
        self._writing = False
        self._loop = asyncio.get_running_loop()
        self._process: subprocess.Popen[bytes] | None = None
        self._turn = threading.Lock()
        self._told = self._doomed = False
        self._end, theirs = socket.socketpair()
        try:
            lifeline, self._lifeline = os.pipe()
        except OSError:
            self._end.close()
            theirs.close()
            raise
        self._end.setblocking(False)
        self._loop.add_reader(self._end, self._readable)
        keeper = threading.Thread(
            target=self._keep, args=(theirs, lifeline), name="cloacina-child", daemon=True
        )
        try:
            keeper.start()
        except RuntimeError:
            self.dismiss()
            theirs.close()
            for fd in (lifeline, self._lifeline):
                os.close(fd)
            raise

    def send(self, message: Message) -> None:
        """Send a message, as soon as the child takes it."""
        idle = not self._unsent
        self._unsent += frame(message)
        if idle:
            self._write()

    def stop(self) -> None:
        """Tell its body to stop. What that has started is killed after it."""
        self._told = True
        with suppress(OSError):
            os.write(self._lifeline, STOP)

    def dismiss(self) -> None:
        """Let it end: nothing more is heard of it, and a body that it runs is none of its runner's any more."""
        if not self.dismissed:
            self.dismissed = True
            self._hang_up()

    def kill(self) -> None:
        """Kill it, and every process that its body started and that did not move away."""
        with self._turn:
            self._doomed = True
            if self._process is not None:
                _kill(self._process)

    def spoil(self) -> None:
        """Kill it because it does not keep to the protocol."""
        self.spoilt = True
        self.kill()

    def _hang_up(self) -> None:
        self._loop.remove_reader(self._end)
        self._loop.remove_writer(self._end)
        self._end.close()

    def _readable(self) -> None:
        data = self._received()
        if not data:
            if data is not None:
                self._loop.remove_reader(self._end)
                self._parent.lost(self)
            return
        self._take(data)

    def _take(self, data: bytes) -> None:
        try:
            for text in self._frames.feed(data):
                self._parent.heard(self, read_from_child(text))
                if self.dismissed:
                    return
        except ValueError:  # no message of ours: the body wrote to what is not its own
            self.spoil()

    def _received(self) -> bytes | None:
        """What has come; empty at the end, None if there is nothing now."""
        try:
            return self._end.recv(CHUNK)
        except BlockingIOError:
            return None
        except OSError:
            return b""

    def _write(self) -> None:
        try:
            sent = self._end.send(self._unsent)
        except BlockingIOError:
            sent = 0
        except OSError:  # it is ending, which will be told
            sent = len(self._unsent)
        del self._unsent[:sent]
        if self._unsent and not self._writing:
            self._loop.add_writer(self._end, self._write)
        elif self._writing and not self._unsent:
            self._loop.remove_writer(self._end)
        self._writing = bool(self._unsent)

    # On the child's thread.

    def _keep(self, theirs: socket.socket, lifeline: int) -> None:
        code: int | None = None
        failure: BaseException | None = None
        try:
            process = _start(theirs.fileno(), lifeline)
        except BaseException as error:
            process, failure = None, error
        finally:
            theirs.close()
            os.close(lifeline)
        if process is not None:
            with self._turn:
                self._process = process
                if self._doomed:
                    _kill(process)
            unreaped = _await_end(process)
            with self._turn:
                self._process = None
                if unreaped and (self._told or not self.dismissed):
                    _kill(process)  # what the body started
                code = process.wait()
        self._post(lambda: self._ended(code, failure))

    def _ended(self, code: int | None, failure: BaseException | None) -> None:
        if not self.dismissed:
            while not self.dismissed and (data := self._received()):
                self._take(data)
            self.dismiss()
        os.close(self._lifeline)
        self._parent.gone(self, code, failure)


# What multiprocessing gives its children too: -X, -W, -O and the like.
_interpreter_flags: Callable[[], object] = vars(subprocess)["_args_from_interpreter_flags"]


def _start(end: int, lifeline: int) -> subprocess.Popen[bytes]:
    path = [entry for entry in sys.path if isinstance(entry, str)]  # pyright: ignore[reportUnnecessaryIsInstance]
    code = f"import sys; sys.path[:] = {path!r}; from {PROGRAM} import main; main({end}, {lifeline}, {os.getpid()})"
    flags = cast("list[str]", _interpreter_flags())
    return subprocess.Popen(
        [_executable(), *flags, "-c", code],
        stdin=subprocess.DEVNULL,
        pass_fds=(end, lifeline),
        process_group=0,
    )


def _executable() -> str:
    # Where Python is embedded in another program, that has told multiprocessing what to start.
    from multiprocessing.spawn import get_executable

    return os.fsdecode(get_executable() or sys.executable)


def _await_end(process: subprocess.Popen[bytes]) -> bool:
    """Wait until the process has ended; True if it is not reaped, so that its number is still its own."""
    if hasattr(os, "waitid"):
        with suppress(ChildProcessError):  # the application reaps what it did not start
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
            return True
    process.wait()
    return False


def _kill(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
