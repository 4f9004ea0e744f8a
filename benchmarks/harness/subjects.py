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

from benchmarks.harness.question import Bodies, Sample

PEERS = ("dbos", "dbos-wal")
TITLES = {"cloacina": "cloacina", "floor": "bare floor", "dbos": "DBOS", "dbos-wal": "DBOS (WAL)"}
MOST_PEER_ROUNDS = 3


class Subject(NamedTuple):
    """Whom to measure, and with which kind of bodies."""

    name: str
    bodies: Bodies

    def rounds(self, asked: int) -> int:
        """How many rounds it gets; peers get fewer, as theirs take long."""
        return min(asked, MOST_PEER_ROUNDS) if self.name in PEERS else asked


def subjects(bodies: tuple[Bodies, ...], peers: bool) -> list[Subject]:
    """cloacina with each kind of bodies; the floor and, where they are installed, the peers once."""
    found = [Subject("cloacina", kind) for kind in bodies]
    others = ("floor", *PEERS) if peers and find_spec("dbos") else ("floor",)
    return found + [Subject(name, "async") for name in others]


class Process:
    """The process that measures one subject on one question; a context manager."""

    def __init__(self, subject: Subject, question: str, folder: Path, bytecode: Path) -> None:
        """``folder`` is where databases are made, ``bytecode`` where compiled modules are kept."""
        command = [sys.executable, "-m", "benchmarks.harness.child", subject.name, question, subject.bodies]
        self.subject = subject
        environment = {**os.environ, "PYTHONPYCACHEPREFIX": str(bytecode)}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        self._child = subprocess.Popen(
            [*command, str(folder)],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
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
