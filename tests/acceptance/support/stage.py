"""The stage: one database with its ledger, the programs that work on it, and what became of them."""

from __future__ import annotations

import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from acceptance.support import check, database
from acceptance.support.check import Causes, Verdict
from acceptance.support.child import PATIENCE, Child, Nursery
from acceptance.support.homes import FileHome, Home
from acceptance.support.ledger import Gate, Ledger, read
from acceptance.support.order import Ask, Fault, Order, Pace

QUICK = {"poll_interval": 0.05}
"""Settings with which nothing takes long."""

_never = threading.Event()

AT_ONCE = 2
"""How many stages `every` plays at the same time."""


class Stage:
    """See the module's text."""

    def __init__(
        self, nursery: Nursery, folder: Path, *, bare: bool = False, home: Home | None = None
    ) -> None:
        """``bare``: without a database; the first program makes it, and no audit is kept.

        The database is the file ``work.db`` in ``folder``, unless it has another home.
        """
        self._nursery = nursery
        self.folder = folder
        self.database = folder / "work.db"
        self.home: Home = home or FileHome(self.database)
        self.ledger = folder / "ledger"
        self.gate: Gate | None = None
        self.children: list[Child] = []
        self.frozen: set[int] = set()
        self.lost_power: set[int] = set()
        self._numbers = 0
        folder.mkdir(exist_ok=True)
        if not bare:
            self.home.prepare()

    def asks(self, *shapes: str, keyed: bool = False) -> tuple[Ask, ...]:
        """One ask for each shape, under a number not used before."""
        first = self._numbers
        self._numbers += len(shapes)
        return tuple(
            Ask(number, shape, f"key-{number}" if keyed else None)
            for number, shape in enumerate(shapes, first)
        )

    def start(
        self,
        asks: Iterable[Ask] = (),
        *,
        first: Iterable[Ask] = (),
        later: Iterable[Ask] = (),
        fault: Fault | None = None,
        trace: Path | None = None,
        stay: bool = False,
        alone: bool = False,
        pace: Pace = "in turn",
        flood: int = 0,
        upkeep: tuple[str, ...] = (),
        client: bool = False,
        batch: Iterable[Ask] = (),
        edition: int = 1,
        held: bool = False,
        **settings: Any,
    ) -> Child:
        """Start a program on this database; see `Order`."""
        order = Order(
            self.home.url,
            self.home.schema,
            str(self.ledger),
            tuple(asks),
            tuple(first),
            tuple(later),
            {**QUICK, **settings},
            fault,
            None if trace is None else str(trace),
            stay,
            client,
            tuple(batch),
            edition,
            held,
            alone,
            pace,
            flood,
            upkeep,
        )
        child = self._nursery.start(order, self.folder / "log")
        self.children.append(child)
        return child

    def close_gate(self) -> None:
        """Bodies that wait at the gate wait until `open_gate`."""
        self.gate = Gate(self.ledger)

    def open_gate(self) -> None:
        if self.gate is not None:
            self.gate.open()

    def freeze(self, child: Child) -> None:
        """Stop a process where it stands."""
        self.frozen.add(child.pid)
        child.signal(signal.SIGSTOP)

    def thaw(self, child: Child) -> None:
        """Let a frozen process go on."""
        child.signal(signal.SIGCONT)

    def finish(self, asks: Iterable[Ask] = (), **settings: Any) -> None:
        """Run a program until everything is over, which must end well.

        On a server, where that takes two looks, also until those who were killed are declared dead.
        """
        child = self.start(asks, alone=self.home.schema is not None, **settings)
        assert child.wait() == 0, child.tail()

    def wait_until_dead(self, runner: str) -> None:
        """Wait until somebody has declared a runner dead, and has removed its lease."""
        deadline = time.monotonic() + PATIENCE
        while not self.home.buried(runner):
            assert time.monotonic() < deadline, f"the lease of {runner} stays"
            _never.wait(0.01)

    def wait_for_progress(self) -> None:
        """Wait until another execution has ended, from now."""
        deadline, before = time.monotonic() + PATIENCE, self._over()
        while self._over() == before:
            assert time.monotonic() < deadline, f"nothing goes on: {self.log()[-2000:]}"
            _never.wait(0.005)

    def _over(self) -> int:
        return sum(entry.kind == "over" for entry in read(self.ledger))

    def midway(self) -> database.Contents:
        """Check what must hold at every moment."""
        return check.midway(self.home.read, self.ledger)

    def finally_(self) -> database.Contents:
        """Check what must hold when all is over."""
        return check.finally_(self.home.read, self.ledger, self.causes)

    def judge(self, *, over: bool) -> Verdict:
        """Compare the database with the ledger; ``over`` if everything should be."""
        return check.judge(self.home.read, self.ledger, self.causes if over else None)

    def note(self, kind: str, *words: object) -> None:
        """Write a line into the ledger."""
        book = Ledger(self.ledger)
        book.write(kind, *words)
        book.close()

    def read(self) -> database.Contents:
        """What is committed now."""
        return self.home.read()

    @property
    def causes(self) -> Causes:
        """Why bodies may have been repeated here."""
        killed = {child.pid for child in self.children if child.code}
        return Causes(killed | self.lost_power, self.frozen)

    def copy(self, folder: Path) -> Stage:
        """The same files elsewhere, as they are now; nobody may be working on them."""
        folder.mkdir()
        for file in self.folder.iterdir():
            if file.is_dir():
                shutil.copytree(file, folder / file.name)
            else:
                shutil.copy2(file, folder / file.name)
        other = Stage(self._nursery, folder)
        other._numbers = self._numbers
        other.children = [child for child in self.children if child.code is not None]
        return other

    def log(self) -> str:
        """What all its programs logged."""
        return (self.folder / "log").read_text()

    def close(self) -> None:
        self.open_gate()
        for child in self.children:
            child.signal(signal.SIGCONT)
            child.close()


class Theatre:
    """Where stages are made: one folder for each."""

    def __init__(self, nursery: Nursery, folder: Path, homes: Callable[[str], Home] | None = None) -> None:
        """``homes`` makes the home of each stage's database, from the stage's name; else they are files."""
        self._nursery = nursery
        self._homes = homes
        self.folder = folder

    @contextmanager
    def stage(self, name: str, *, like: Stage | None = None, bare: bool = False) -> Iterator[Stage]:
        """A stage of its own, or a copy of another one; closed at the end."""
        folder = self.folder / name
        home = self._homes(name) if self._homes is not None else None
        stage = Stage(self._nursery, folder, bare=bare, home=home) if like is None else like.copy(folder)
        try:
            yield stage
        finally:
            stage.close()

    def every(self, play: Callable[[int], bool], *, most: int = 500, at_once: int = AT_ONCE) -> int:
        """Call ``play`` with 1, 2, 3 and so on, ``at_once`` at the same time, until it answers False.

        Returns how many answered True.
        """
        with ThreadPoolExecutor(at_once) as pool:
            for first in range(1, most, at_once):
                answers: Sequence[bool] = list(pool.map(play, range(first, first + at_once)))
                if not all(answers):
                    return first - 1 + answers.index(False)
        raise AssertionError(f"more than {most} points")
