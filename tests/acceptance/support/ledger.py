"""The ledger: what bodies and submitters say they did, one line per event, kept outside of the engine.

Lines are appended with one write each, so their order is the order of the events, across all processes. Each ends
with its moment, by a clock that all processes of the machine share:

    ask     number shape key          before a submit
    ack     number execution          after a submit has returned
    batch   number ...                before a submit of several at once
    fork    execution                 before a fork or a retry of it is asked for
    forked  execution new             after that has returned
    halted  execution microseconds    after a pause or a cancel has returned, by the wall clock
    resumed execution microseconds    before a resume
    start   execution task attempt pid
    end     execution task attempt pid
    over    execution status          a workflow's callback was called
    made    execution name pid        the function of a checkpoint was called
    kept    execution name pid        a checkpoint has returned
    up      pid                       a runner works
    killed  pid                       a process was killed from outside
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from cloacina.engine.executors.attempt import Attempt
from cloacina.observe.logs import running


class Entry(NamedTuple):
    """One line."""

    kind: str
    words: tuple[str, ...]
    at: int = 0
    """When, in nanoseconds of the machine's clock."""


class Ledger:
    """The file that this process appends to."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.echo: Callable[[bytes], None] | None = None
        """Told each line after it was written."""
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def close(self) -> None:
        os.close(self._fd)

    def write(self, kind: str, *words: object) -> None:
        line = f"{' '.join(map(str, (kind, *words)))} @{time.monotonic_ns()}\n".encode()
        os.write(self._fd, line)
        if self.echo is not None:
            self.echo(line)

    def first_time(self, name: str) -> bool:
        """True for whoever asks first for this name, in any process and after any crash."""
        try:
            os.close(os.open(f"{self.path}.{name}", os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        except FileExistsError:
            return False
        return True

    def mark(self, name: str) -> None:
        """Let `marked` be true of this name, in every process."""
        self.first_time(name)

    def marked(self, name: str) -> bool:
        """True if this name was marked."""
        return Path(f"{self.path}.{name}").exists()

    def wait_at_gate(self) -> None:
        """Block the calling thread for as long as the test holds the gate closed."""
        say("waiting")
        fd = os.open(gate_of(self.path), os.O_RDWR | os.O_CREAT)
        try:
            fcntl.flock(fd, fcntl.LOCK_SH)
        finally:
            os.close(fd)
        say("passed")

    def gate_is_open(self) -> bool:
        """True unless the test holds the gate closed."""
        fd = os.open(gate_of(self.path), os.O_RDWR | os.O_CREAT)
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        finally:
            os.close(fd)
        return True


class Gate:
    """The test's side of `Ledger.wait_at_gate` and `Ledger.gate_is_open`: closed from the start until `open`."""

    def __init__(self, ledger: Path) -> None:
        self._fd = os.open(gate_of(ledger), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
        fcntl.flock(self._fd, fcntl.LOCK_EX)

    def open(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def gate_of(ledger: Path) -> Path:
    """The file whose lock is the gate."""
    return ledger.with_name(ledger.name + ".gate")


def read(path: Path) -> list[Entry]:
    """Every line so far."""
    if not path.exists():
        return []
    lines = path.read_text().split("\n")
    return [_entry(words) for line in lines if (words := line.split())]


def _entry(words: list[str]) -> Entry:
    at = int(words.pop()[1:]) if words[-1].startswith("@") else 0
    return Entry(words[0], tuple(words[1:]), at)


_open: list[Ledger] = []


def use(path: Path) -> Ledger:
    """The ledger of this process, from now on."""
    _open[:] = [Ledger(path)]
    return _open[0]


def ledger() -> Ledger:
    """The ledger of this process."""
    return _open[0]


def say(*words: object) -> None:
    """Print a line, for the test that started this process."""
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


@contextmanager
def recorded() -> Iterator[Attempt]:
    """In a body: write down its start, and its end if it comes to one."""
    attempt = running.get()
    assert isinstance(attempt, Attempt), "not within a body"
    facts = (attempt.execution, attempt.task, attempt.attempt, os.getpid())
    ledger().write("start", *facts)
    yield attempt
    ledger().write("end", *facts)
