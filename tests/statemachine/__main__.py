"""The command: the machine for as long as wanted, seed after seed, and what came about; a failure is made smaller.

python -m statemachine [--where memory|file|postgres] [--seeds N] [--first SEED] [--minutes M] [--no-shrink]

from the folder `tests`. A seed is a number of examples that are drawn from it alone: the same again is the same
examples, but for what the database's threads decide.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import closing, contextmanager

from cloacina.engine.liveness.server import observer
from statemachine.machine import EngineMachine, machine_at
from statemachine.places import FilePlace, Place, ServerPlace, judge_at_once
from statemachine.running import run
from statemachine.situations import SITUATIONS, missing

EXAMPLES = 50
"""Of one seed."""


def main() -> int:
    """Run the command; the answer is the process's exit code."""
    options = _options()
    logging.disable(logging.CRITICAL)
    observer.judge = judge_at_once
    began, seeds, failed = time.monotonic(), 0, 0
    with _place(options.where) as place:
        for seed in range(options.first, options.first + options.seeds):
            if options.minutes and time.monotonic() - began > 60 * options.minutes:
                break
            seeds += 1
            try:
                run(machine_at(place), EXAMPLES, seed=seed, shrink=options.shrink)
            except Exception:
                failed += 1
                print(f"seed {seed} failed:\n{traceback.format_exc()}", flush=True)
                if options.stop:
                    break
    happened = EngineMachine.happened
    for name in sorted({*SITUATIONS, *happened}):
        print(f"{happened[name]:10} {name}")
    print(
        f"{options.where}: {seeds} seeds, {happened['steps']} steps, {time.monotonic() - began:.0f} s: {failed} failed"
    )
    if not failed and seeds >= 20 and (never := missing(happened, options.where)):
        print(f"never came about: {never}")
        return 1
    return 1 if failed else 0


@contextmanager
def _place(where: str) -> Iterator[Place]:
    if where != "postgres":
        yield FilePlace() if where == "file" else Place()
        return
    from support.postgres.server import PostgresServer

    with closing(PostgresServer()) as server:
        yield ServerPlace(server)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="statemachine", description="Hold the engine against its model.")
    parser.add_argument("--where", choices=["memory", "file", "postgres"], default="file")
    parser.add_argument("--seeds", type=int, default=20, help=f"how many, of {EXAMPLES} examples each")
    parser.add_argument("--first", type=int, default=1, help="the first of them")
    parser.add_argument("--minutes", type=float, default=0, help="begin no further seed after so long")
    parser.add_argument("--no-shrink", dest="shrink", action="store_false", help="tell failures as they came")
    parser.add_argument("--stop", action="store_true", help="end with the first failure")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
