"""Subjects: what is measured, each in a process of its own that answers round by round."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from benchmarks.harness.database import Store
from benchmarks.harness.question import Bodies, Sample

TITLES = {
    "cloacina": "cloacina",
    "floor": "bare floor",
    "floor-loop": "floor without its thread",
    "dbos": "DBOS",
    "dbos-wal": "DBOS (WAL)",
    "procrastinate": "Procrastinate",
}
FLOORS: dict[Store, tuple[str, ...]] = {"sqlite": ("floor",), "postgres": ("floor", "floor-loop")}
PEERS: dict[Store, tuple[str, ...]] = {"sqlite": ("dbos", "dbos-wal"), "postgres": ("dbos", "procrastinate")}


class Subject(NamedTuple):
    """Whom to measure, on which database, and with which kind of bodies."""

    name: str
    store: Store
    bodies: Bodies = "async"

    @property
    def peer(self) -> bool:
        """True if it is another engine."""
        return self.name in PEERS[self.store]


def subjects(store: Store, bodies: tuple[Bodies, ...], peers: bool) -> list[Subject]:
    """cloacina with each kind of bodies; the floor and, where they are installed, the peers once."""
    found = [Subject("cloacina", store, kind) for kind in bodies]
    installed = [name for name in PEERS[store] if find_spec(name.partition("-")[0])] if peers else []
    return found + [Subject(name, store) for name in (*FLOORS[store], *installed)]


class Process:
    """The process that measures one subject on one question; a context manager."""

    def __init__(self, subject: Subject, question: str, folder: Path, server: str, bytecode: Path) -> None:
        """``folder`` is where databases are made, or ``server`` has them; compiled modules are in ``bytecode``."""
        command = [sys.executable, "-m", "benchmarks.harness.child", *subject, question, str(folder), server]
        self.subject = subject
        environment = {**os.environ, "PYTHONPYCACHEPREFIX": str(bytecode)}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        self._child = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._child.communicate()

    def round(self) -> Sample | None:
        """One more round; None if the subject has no answer to the question. Raises `RuntimeError` if it failed."""
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        try:
            self._child.stdin.write("round\n")
            self._child.stdin.flush()
        except BrokenPipeError:
            pass
        for line in self._child.stdout:
            if line.startswith("{"):
                return {key: float(value) for key, value in json.loads(line).items()}
        if self._child.wait() != 0:
            raise RuntimeError(f"{TITLES[self.subject.name]} failed; its error is above")
        return None
