"""A child process: measures one subject on one question, and prints the rounds as one line of JSON.

``python -m benchmarks.harness.child SUBJECT QUESTION BODIES ROUNDS FOLDER``
"""

from __future__ import annotations

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


def measure(subject: str, name: str, bodies: Bodies, rounds: int, parent: Path) -> list[Sample]:
    """So many rounds, each in a fresh folder; an empty list if the subject has no answer."""
    take = sampler(subject, name)
    if take is None:
        return []
    warm_up = question(name).warm_up
    samples: list[Sample] = []
    with fresh(parent) as shared:
        for _ in range(rounds + warm_up):
            with fresh(parent) as folder:
                gc.collect()
                samples.append(take(Setting(Path(folder), Path(shared), bodies)))
    return samples[warm_up:]


def main() -> None:
    subject, name, bodies, rounds, parent = sys.argv[1:]
    samples = measure(subject, name, cast(Bodies, bodies), int(rounds), Path(parent))
    sys.stdout.write(json.dumps(samples) + "\n")


if __name__ == "__main__":
    main()
