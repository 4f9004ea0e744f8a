"""A trial: one source against the quick tier, from its cheapest part on, until something fails."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mutants.mutant import Mutant, copy_of_source

ROOT = Path(__file__).parents[2]

SEEDS = 300
"""How many seeds the simulator plays every day."""

LONGEST = 1_800.0
"""Seconds after which a part is given up, and nothing is known: the machine is too slow, or something never ends."""


@dataclass(frozen=True)
class Verdict:
    """What came of a trial: what caught the mutant, and what it said; both are empty if nothing did."""

    name: str
    caught_by: str
    said: str
    seconds: float


def try_mutant(mutant: Mutant) -> Verdict:
    """Try one mutant against what is to catch it."""
    return _tried(
        mutant.name, mutant, seeds=0 if mutant.tests else SEEDS, tests=[mutant.tests] if mutant.tests else []
    )


def try_original(tests: Sequence[tuple[str, ...]]) -> Verdict:
    """Try the source as it is: nothing may fail, or a mutant that fails means nothing."""
    return _tried("(the source as it is)", None, seeds=SEEDS, tests=tests)


def _tried(name: str, mutant: Mutant | None, *, seeds: int, tests: Sequence[tuple[str, ...]]) -> Verdict:
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="mutant-") as folder:
        source = copy_of_source(Path(folder), mutant)
        caught_by, said = _played(source, seeds)
        for arguments in tests:
            if not caught_by:
                caught_by, said = _tested(source, arguments)
    return Verdict(name, caught_by, said, time.monotonic() - began)


def _played(source: Path, seeds: int) -> tuple[str, str]:
    """What the simulator says of ``source``: how many seeds it needed, and the promise that was broken."""
    code, out, errors = _run(source, "-m", "mutants.seeds", str(seeds), cwd=ROOT / "tests")
    if code:
        return "a simulator that fails", errors.strip().rpartition("\n")[2]
    told = json.loads(out)
    if not Path(told["package"]).is_relative_to(source):
        raise RuntimeError(f"the simulator ran {told['package']}, not the copy in {source}")
    return (f"seed {told['played']}", told["broken"]) if told["broken"] else ("", "")


def _tested(source: Path, arguments: tuple[str, ...]) -> tuple[str, str]:
    """What the tests say of ``source``: the first that failed."""
    options = ("-x", "-q", "--no-header", "-p", "no:cacheprovider", "--tb=line")
    code, out, errors = _run(source, "-m", "pytest", *options, *arguments, cwd=ROOT)
    if code == 0:
        return "", ""
    failed = [line for line in out.splitlines() if line.startswith(("FAILED", "ERROR"))]
    if not failed:
        raise RuntimeError(f"pytest could not run {arguments}: {out[-2_000:]}{errors[-2_000:]}")
    test, _, said = failed[0].partition(" ")[2].partition(" - ")
    return test.removeprefix("tests/"), said


def _run(source: Path, *arguments: str, cwd: Path) -> tuple[int, str, str]:
    """Run Python on ``source``: the exit code, what it printed, and its errors. Raises `TimeoutExpired`."""
    paths = os.pathsep.join(map(str, (source, ROOT / "tests")))
    environment = {**os.environ, "PYTHONPATH": paths, "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=LONGEST,
    )
    return done.returncode, done.stdout, done.stderr
