"""Seeds: the everyday ones break no promise, one seed has one trace, and what was once found stays mended."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from acceptance.support.campaign import campaign
from simulation.generate import plan_of
from simulation.plan import read, written
from simulation.play import play

HERE = Path(__file__).parent
KEPT = sorted((HERE / "kept").glob("*.json"))


@pytest.mark.parametrize("seeds", [300, campaign(100_000)])
def test_no_seed_breaks_a_promise(seeds: int) -> None:
    done = simulate("--seeds", str(seeds))
    assert done.returncode == 0, done.stdout[-5_000:] + done.stderr[-5_000:]
    assert f"{seeds} seeds" in done.stdout


def test_a_seed_has_one_trace() -> None:
    """Also in processes that hash strings differently."""
    traces = [simulate("--seed", "7", PYTHONHASHSEED=seed).stdout for seed in ("0", "1")]
    assert traces[0] == traces[1]
    digests = {play(plan_of(7)).digest for _ in range(2)}
    assert len(digests) == 1
    assert digests.pop() in traces[0]


def test_seeds_have_different_traces() -> None:
    assert len({play(plan_of(seed)).digest for seed in range(5)}) == 5


def test_a_plan_is_read_as_it_was_written() -> None:
    for seed in range(50):
        plan = plan_of(seed)
        assert read(written(plan)) == plan


@pytest.mark.parametrize("path", KEPT, ids=lambda path: path.stem)
def test_what_was_found_once_stays_mended(path: Path) -> None:
    assert play(read(path.read_bytes())).broken == []


def simulate(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "simulation", *arguments],
        cwd=HERE.parent,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
