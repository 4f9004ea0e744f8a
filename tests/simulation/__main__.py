"""The command: many seeds, on all processors; failing ones are made smaller and told.

python -m simulation [--seeds N] [--first SEED] [--jobs J] [--keep FOLDER]      from the folder `tests`
python -m simulation --seed SEED [--trace]
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from simulation.generate import plan_of
from simulation.plan import written
from simulation.play import Report, play
from simulation.reduce import reduced
from simulation.situations import SITUATIONS, missing

CHUNK = 50


def main() -> int:
    """Run the command; the answer is the process's exit code."""
    options = _options()
    if options.seed is not None:
        return _one(options.seed, trace=options.trace, keep=options.keep)
    began, failed, found, seconds, executions, commits = time.monotonic(), [], Counter[str](), 0.0, 0, 0
    seeds = range(options.first, options.first + options.seeds)
    chunks = [seeds[start : start + CHUNK] for start in range(0, len(seeds), CHUNK)]
    with ProcessPoolExecutor(options.jobs) as pool:
        for done, (bad, situations, time_, stored, written_) in enumerate(pool.map(_chunk, chunks), 1):
            failed += bad
            found += situations
            seconds, executions, commits = seconds + time_, executions + stored, commits + written_
            for seed, why in bad:
                print(f"seed {seed}: {why}", flush=True)
            if done % 20 == 0:
                print(
                    f"  {done * CHUNK} seeds, {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True
                )
    for name in sorted(SITUATIONS):
        print(f"{found[name]:10} {name}")
    print(
        f"{len(seeds)} seeds, {executions} executions, {commits} commits, {seconds / 3600:.1f} simulated hours in "
        f"{time.monotonic() - began:.0f} s: {len(failed)} failed"
    )
    never = missing(found)
    if never and len(seeds) >= 10_000:
        print(f"never came about: {never}")
        return 1
    return 1 if failed else 0


def _chunk(seeds: range) -> tuple[list[tuple[int, str]], Counter[str], float, int, int]:
    failed: list[tuple[int, str]] = []
    found: Counter[str] = Counter()
    seconds, executions, commits = 0.0, 0, 0
    for seed in seeds:
        report = play(plan_of(seed))
        found += report.situations
        seconds, executions, commits = (
            seconds + report.seconds,
            executions + report.executions,
            commits + report.commits,
        )
        if report.broken:
            failed.append((seed, report.broken[0][:300]))
    return failed, found, seconds, executions, commits


def _one(seed: int, *, trace: bool, keep: Path | None) -> int:
    report = play(plan_of(seed))
    _tell(report, trace=trace)
    if report.broken and keep is not None:
        small = reduced(report)
        path = keep / f"{seed}.json"
        path.write_bytes(written(small.plan) + b"\n")
        print(f"reduced and kept as {path}:")
        _tell(small, trace=trace)
    return 1 if report.broken else 0


def _tell(report: Report, *, trace: bool) -> None:
    if trace:
        print("\n".join(report.lines))
    for what, times in sorted(report.situations.items()):
        print(f"{times:10} {what}")
    print(f"trace {report.digest}, {report.executions} executions, {report.seconds:.1f} s")
    for promise in report.broken:
        print("BROKEN", promise)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="simulation", description="Simulate the engine from seeds.")
    parser.add_argument("--seeds", type=int, default=1_000, help="how many")
    parser.add_argument("--first", type=int, default=1, help="the first of them")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes that simulate")
    parser.add_argument("--seed", type=int, help="only this one, with what it did")
    parser.add_argument("--trace", action="store_true", help="print the end of its trace")
    parser.add_argument("--keep", type=Path, help="where to keep the reduced plan if it fails")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
