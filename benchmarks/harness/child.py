"""A child process: measures one subject on one question, a round for each line that it is sent.

``python -m benchmarks.harness.child SUBJECT STORE BODIES QUESTION FOLDER SERVER`` answers each line with a line of
JSON.
"""

from __future__ import annotations

import faulthandler
import gc
import importlib
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from benchmarks.harness.database import Store, drop
from benchmarks.harness.folders import fresh
from benchmarks.harness.question import Bodies, Question, Sample, Setting, schema_prefix
from benchmarks.harness.subjects import Subject

SAMPLERS = {
    "floor": "benchmarks.skeleton",
    "floor-loop": "benchmarks.skeleton",
    "dbos": "benchmarks.peers.dbos_work",
    "dbos-wal": "benchmarks.peers.dbos_work",
    "procrastinate": "benchmarks.peers.procrastinate_work",
}
"""The modules that measure other subjects than the engine: each has a function ``sampler(subject, question)``."""

ROUND_SECONDS = 600
"""A round that takes longer hangs: the process shows where, and ends."""

Sampler = Callable[[Setting], Sample]


def question(name: str) -> Question:
    """The question ``name``, from the file of that name."""
    module: Any = importlib.import_module(f"benchmarks.{name}")
    return cast(Question, module.QUESTION)


def sampler(subject: str, name: str) -> Sampler | None:
    """What measures one round of a question on a subject; None if the subject has no answer."""
    module: Any = importlib.import_module(SAMPLERS.get(subject, f"benchmarks.{name}"))
    return cast(Sampler, module.sample) if subject == "cloacina" else module.sampler(subject, name)


def serve(take: Sampler, warm_up: bool, bodies: Bodies, parent: Path, server: str) -> None:
    """Answer every line of the input with one round, measured in a fresh folder or schema."""
    with fresh_place(parent, server) as shared:
        if warm_up:
            one_round(take, shared, bodies, server)
        for _ in sys.stdin:
            say(one_round(take, shared, bodies, server))


def one_round(take: Sampler, shared: Path, bodies: Bodies, server: str) -> Sample:
    faulthandler.dump_traceback_later(ROUND_SECONDS, exit=True)
    try:
        with fresh_place(shared.parent, server) as folder:
            gc.collect()
            return take(Setting(folder, shared, bodies, server))
    finally:
        faulthandler.cancel_dump_traceback_later()


@contextmanager
def fresh_place(parent: Path, server: str) -> Iterator[Path]:
    """A new folder, which vanishes at the end, with the schemas that are named after it."""
    with fresh(parent) as folder:
        try:
            yield Path(folder)
        finally:
            if server:
                drop(server, schema_prefix(Path(folder)))


def say(sample: Sample) -> None:
    sys.stdout.write(json.dumps(sample) + "\n")
    sys.stdout.flush()


def main() -> None:
    subject, store, bodies, name, parent, server = sys.argv[1:]
    take = sampler(subject, name)
    if take is not None:
        warm_up = question(name).warm_up and not Subject(subject, cast(Store, store)).peer
        serve(take, warm_up, cast(Bodies, bodies), Path(parent), server)


if __name__ == "__main__":
    main()
