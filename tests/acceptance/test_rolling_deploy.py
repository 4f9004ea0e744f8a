"""Deploys: processes with different versions of a workflow on one file, stopped, killed and rolled back."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import cloacina
from acceptance.support.child import Child
from acceptance.support.ledger import Gate, read
from cloacina.model.json.values import decode
from cloacina.store.location import parse_location
from cloacina.store.rows import ExecutionFilter, StoredExecution
from cloacina.store.sqlite.database import Database

COUNT = 12


class Site:
    """A database, its ledger, and the editions that run on it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.database = folder / "work.db"
        self.ledger = folder / "ledger"
        self.gate: Gate | None = Gate(self.ledger)
        self.children: list[Child] = []

    def deploy(self, edition: int, count: int = 0) -> Child:
        """Start an edition, and wait until it runs and has submitted its executions."""
        output, output_end = os.pipe()
        status, status_end = os.pipe()
        paths = [Path(__file__).parents[1], *(Path(folder).parent for folder in cloacina.__path__)]
        log = self.folder / "log"
        with log.open("ab") as errors:
            order = [str(edition), str(self.database), str(self.ledger), str(count)]
            process = subprocess.Popen(
                [sys.executable, "-m", "acceptance.support.rolling", *order],
                env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths))},
                stdin=subprocess.DEVNULL,
                stdout=output_end,
                stderr=errors,
            )
        os.close(output_end)

        def keep() -> None:
            os.write(status_end, f"{process.pid}\n".encode())
            os.write(status_end, f"{process.wait()}\n".encode())
            os.close(status_end)

        threading.Thread(target=keep, daemon=True).start()
        child = Child(output, status, log)
        self.children.append(child)
        child.line("up")
        for _ in range(count):
            child.line("submitted")
        return child

    def mark(self, word: str) -> None:
        """Write a line between those of the bodies."""
        with self.ledger.open("a") as file:
            file.write(f"{word}\n")

    def open_gate(self) -> None:
        if self.gate is not None:
            self.gate.open()
            self.gate = None

    def ran(self) -> list[tuple[str, ...]]:
        """What bodies said, in order: edition, task, execution; and the marks."""
        return [entry.words if entry.kind == "ran" else (entry.kind,) for entry in read(self.ledger)]

    def stored(self) -> list[StoredExecution]:
        """All executions, oldest first."""
        store = Database(parse_location(self.database)).reader()
        try:
            ids = [row.id for row in store.executions(ExecutionFilter(limit=1000))]
            found = [store.execution(id) for id in reversed(ids)]
        finally:
            store.close()
        return [one for one in found if one is not None]

    @contextmanager
    def closing(self) -> Iterator[Site]:
        try:
            yield self
        finally:
            self.open_gate()
            for child in self.children:
                child.close()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with Site(tmp_path).closing() as site:
        yield site


def stop(child: Child) -> None:
    child.signal(signal.SIGTERM)
    assert child.wait() == 0, child.tail()


def all_over(site: Site, child: Child) -> None:
    """Wait until everything has ended."""
    while any(not one.status.terminal for one in site.stored()):
        assert child.outlives(0.02), child.tail()
    assert {one.status for one in site.stored()} == {"completed"}


def check_rows(site: Site, mark: str) -> None:
    """Before the mark each version only ran what was submitted to it, and no completed task ran twice."""
    rows = site.ran()
    by = {one.id: str(decode(one.input)["by"]) for one in site.stored()}  # type: ignore[call-overload,index]
    before = rows[: rows.index((mark,))]
    assert before and all(edition == by[id] for edition, _, id in before), "a version ran another's work"
    firsts = [row[2] for row in rows if len(row) == 3 and row[1] == "first"]
    assert sorted(firsts) == sorted(by), "a task that had completed ran again, or never"


@pytest.mark.parametrize("how", ["killed", "stopped"])
def test_a_new_version_takes_over_when_the_old_one_is_gone_and_not_before(site: Site, how: str) -> None:
    old = site.deploy(1, COUNT)
    for _ in range(4):
        old.line("waiting")
    new = site.deploy(2, COUNT)
    for _ in range(COUNT):
        assert new.line("over").endswith("completed")
    site.mark(how)
    if how == "killed":
        old.kill()
    else:
        site.open_gate()
        stop(old)
    all_over(site, new)
    stop(new)
    check_rows(site, how)
    lasts = {decode(one.result or "null")["last"] for one in site.stored()[:COUNT]}  # type: ignore[call-overload,index]
    assert lasts <= ({2} if how == "killed" else {1, 2})


def test_what_a_version_cannot_take_is_set_aside_until_the_old_one_is_back(site: Site) -> None:
    old = site.deploy(1, COUNT)
    for _ in range(4):
        old.line("waiting")
    old.kill()
    wrong = site.deploy(3, COUNT)
    for _ in range(COUNT):
        assert wrong.line("over").endswith("completed")
    begun = {row[2] for row in site.ran() if row[:2] == ("1", "first")}
    assert {one.id for one in site.stored() if one.status == "parked"} == begun and len(begun) >= 4
    stop(wrong)
    site.open_gate()
    back = site.deploy(1)
    all_over(site, back)
    stop(back)
    for one in site.stored()[:COUNT]:
        found = decode(one.result or "null")
        assert found["middle"] == (1 if one.id in begun else 3)  # type: ignore[call-overload,index]


def test_two_processes_of_each_version(site: Site) -> None:
    """While both versions are there each does its own work; when the old ones are gone, the new ones share it."""
    olds = [site.deploy(1, COUNT), site.deploy(1, COUNT)]
    for old in olds * 4:
        old.line("waiting")
    news = [site.deploy(2, COUNT), site.deploy(2, COUNT)]
    olds[0].kill()
    for new in news:
        new.line("over")
    site.mark("one")
    olds[1].kill()
    all_over(site, news[0])
    for new in news:
        stop(new)
    check_rows(site, "one")
