"""The command: every mutant against the tests of every day, and what caught it.

python -m mutants [NAMES ...] [--jobs J]      from the folder `tests`
"""

from __future__ import annotations

import argparse
import os
import sys
from concurrent.futures import ThreadPoolExecutor

from mutants.deciding import DECIDING
from mutants.storing import STORING
from mutants.trial import Verdict, try_mutant, try_original

MUTANTS = (*DECIDING, *STORING)


def main() -> int:
    """Run the command; the answer is the process's exit code."""
    options = _options()
    chosen = [mutant for mutant in MUTANTS if not options.names or mutant.name in options.names]
    tests = sorted({mutant.tests for mutant in chosen if mutant.tests})
    _print("mutant", "caught by", "seconds", "what it said")
    with ThreadPoolExecutor(options.jobs) as pool:
        original = pool.submit(try_original, tests)
        trials = [pool.submit(try_mutant, mutant) for mutant in chosen]
        green = _tell(original.result(), "nothing")
        if green.caught_by:
            pool.shutdown(cancel_futures=True)
            print("the source as it is fails: what a mutant does says nothing then")
            return 1
        caught = [_tell(trial.result(), "NOTHING").caught_by for trial in trials]
    print(f"{sum(map(bool, caught))} of {len(chosen)} caught")
    return 0 if all(caught) else 1


def _tell(verdict: Verdict, nothing: str) -> Verdict:
    _print(verdict.name, verdict.caught_by or nothing, f"{verdict.seconds:.0f}", verdict.said)
    return verdict


def _print(name: str, caught_by: str, seconds: str, said: str) -> None:
    print(f"{name:24} | {caught_by:12} | {seconds:>7} | {said[:160]}", flush=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="mutants", description="Show that the tests catch seeded bugs.")
    names = [mutant.name for mutant in MUTANTS]
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"which: {', '.join(names)}; all if none is given"
    )
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="how many at once")
    options = parser.parse_args()
    unknown = set(options.names) - set(names)
    if unknown:
        parser.error(f"no such mutants: {', '.join(sorted(unknown))}; there are {', '.join(names)}")
    return options


if __name__ == "__main__":
    sys.exit(main())
