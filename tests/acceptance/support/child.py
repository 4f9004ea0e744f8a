"""A child: a program in a process of its own, as a test sees it."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from queue import Empty, SimpleQueue

import msgspec

import cloacina
from acceptance.support.order import Order

PATIENCE = float(os.environ.get("CLOACINA_TEST_PATIENCE") or 60)
"""Seconds after which a test gives up waiting. Nothing takes nearly as long unless it hangs."""


class Nursery:
    """The test's side of `acceptance.support.nursery`."""

    def __init__(self) -> None:
        self._link, theirs = socket.socketpair()
        self._turn = threading.Lock()
        folders = [Path(__file__).parents[2], *(Path(folder).parent for folder in cloacina.__path__)]
        path = os.pathsep.join([*map(str, folders), os.environ.get("PYTHONPATH", "")])
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "acceptance.support.nursery", str(theirs.fileno())],
                env={**os.environ, "PYTHONPATH": path},
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
            )

    def start(self, order: Order, log: Path) -> Child:
        """Start a program; what it prints as errors goes to ``log``."""
        output, output_end = os.pipe()
        status, status_end = os.pipe()
        errors = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        with self._turn:
            text = msgspec.json.encode(order) + b"\n"
            sent = socket.send_fds(self._link, [text], [output_end, errors, status_end])
            self._link.sendall(text[sent:])
            assert self._link.recv(1) == b".", "the nursery has died"
        for fd in (output_end, status_end, errors):
            os.close(fd)
        return Child(output, status, log)

    def close(self) -> None:
        self._link.close()
        self._process.wait(PATIENCE)


class Child:
    """See the module's text."""

    def __init__(self, output: int, status: int, log: Path) -> None:
        self._output = _Lines(output)
        self._status = _Lines(status)
        self.log = log
        self.code: int | None = None
        """How it ended: 0, another exit code, or the number of a signal with a minus; None while it runs."""
        self._unread: list[str] = []
        self.pid = int(self._status.next(PATIENCE) or 0)

    def line(self, words: str) -> str:
        """Wait until it prints a line that begins with ``words``; return the rest of that line.

        Lines that begin otherwise are kept for later calls.
        """
        found = self._find(words)
        assert found is not None, f"the program ended before it said {words!r}:\n{self.tail()}"
        return found

    def says(self, words: str) -> bool:
        """Wait as `line` does; False if it ends without such a line."""
        return self._find(words) is not None

    def lines(self) -> list[str]:
        """Everything that it prints until it ends, and that nobody waited for."""
        return self._unread + list(iter(lambda: self._output.next(PATIENCE), None))

    def wait(self, seconds: float = PATIENCE) -> int:
        """Wait until it has ended; return how."""
        if self.code is None:
            self.code = int(self._status.next(seconds) or 0)
        return self.code

    def outlives(self, seconds: float) -> bool:
        """True if it has not ended by itself within so many seconds."""
        try:
            self.wait(seconds)
        except TimeoutError:
            return True
        return False

    def signal(self, number: int) -> None:
        """Send it a signal, unless it has ended."""
        if self.code is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> int:
        """``kill -9``, then wait; returns how it ended, which may be by itself."""
        self.signal(signal.SIGKILL)
        return self.wait()

    def close(self) -> None:
        self.kill()
        self._output.close()
        self._status.close()

    def tail(self) -> str:
        """The end of its log."""
        return self.log.read_text()[-6000:]

    def _find(self, words: str) -> str | None:
        for line in self._unread:
            if (line + " ").startswith(words + " "):
                self._unread.remove(line)
                return line[len(words) + 1 :]
        while (more := self._output.next(PATIENCE)) is not None:
            if (more + " ").startswith(words + " "):
                return more[len(words) + 1 :]
            self._unread.append(more)
        return None


class _Lines:
    """The lines that come through a pipe, read as they come, so that the writer never has to wait."""

    def __init__(self, fd: int) -> None:
        self._file = os.fdopen(fd)
        self._lines: SimpleQueue[str | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def next(self, seconds: float) -> str | None:
        """The next line, or None at the end and ever after."""
        try:
            line = self._lines.get(timeout=seconds)
        except Empty:
            raise TimeoutError(f"nothing was said within {seconds}s") from None
        if line is None:
            self._lines.put(None)
        return line

    def close(self) -> None:
        self._thread.join(PATIENCE)
        self._file.close()

    def _read(self) -> None:
        for line in self._file:
            self._lines.put(line.rstrip("\n"))
        self._lines.put(None)
