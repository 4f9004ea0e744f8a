"""A child process: measures one subject on one question, a round for each line that it is sent.

``python -m benchmarks.harness.child SUBJECT QUESTION BODIES FOLDER`` answers each line with a line of JSON.
"""

from __future__ import annotations

import faulthandler
import gc
import importlib
import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, cast

from benchmarks.harness.folders import fresh
from benchmarks.harness.question import Bodies, Question, Sample, Setting

SUBJECTS = ("cloacina", "floor", "dbos", "dbos-wal")
"""What can be measured: the engine, the same writes without an engine, and DBOS in two journal modes."""

ROUND_SECONDS = 600
"""A round that takes longer hangs: the process shows where, and ends."""

Sampler = Callable[[Setting], Sample]


def question(name: str) -> Question:
    """The question ``name``, from the file of that name."""
    module: Any = importlib.import_module(f"benchmarks.{name}")
    return cast(Question, module.QUESTION)


def sampler(subject: str, name: str) -> Sampler | None:
    """What measures one round of a question on a subject; None if the subject has no answer."""
    if subject == "cloacina":
        module: Any = importlib.import_module(f"benchmarks.{name}")
        return cast(Sampler, module.sample)
    if subject == "floor":
        from benchmarks.skeleton import SAMPLERS

        return SAMPLERS.get(name)
    from benchmarks.peers.dbos_work import SAMPLERS as DBOS

    found = DBOS.get(name)
    return found and partial(found, wal=subject == "dbos-wal")


def serve(subject: str, name: str, bodies: Bodies, parent: Path) -> None:
    """Answer every line of the input with one round, measured in a fresh folder."""
    take = sampler(subject, name)
    if take is None:
        return
    with fresh(parent) as shared:
        if question(name).warm_up:
            one_round(take, Path(shared), bodies, parent)
        for _ in sys.stdin:
            say(one_round(take, Path(shared), bodies, parent))


def one_round(take: Sampler, shared: Path, bodies: Bodies, parent: Path) -> Sample:
    faulthandler.dump_traceback_later(ROUND_SECONDS, exit=True)
    try:
        with fresh(parent) as folder:
            gc.collect()
            return take(Setting(Path(folder), shared, bodies))
    finally:
        faulthandler.cancel_dump_traceback_later()


def say(sample: Sample) -> None:
    sys.stdout.write(json.dumps(sample) + "\n")
    sys.stdout.flush()


def main() -> None:
    subject, name, bodies, parent = sys.argv[1:]
    serve(subject, name, cast(Bodies, bodies), Path(parent))


if __name__ == "__main__":
    main()
