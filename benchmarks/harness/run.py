"""The run of one question: every subject in turn, round after round, so that a busy moment strikes them all."""

from __future__ import annotations

import contextlib
import statistics
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from benchmarks.harness.database import Store
from benchmarks.harness.question import Metric, Question, Sample
from benchmarks.harness.subjects import Process, Subject


class Figure(NamedTuple):
    """The rounds of one metric in short."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: list[float]) -> Figure:
        return cls(statistics.median(values), min(values), max(values))


@dataclass(slots=True)
class Answer:
    """What all subjects answered to a question; ``failures`` has those whose process failed."""

    name: str
    store: Store
    question: Question
    samples: dict[Subject, list[Sample]] = field(default_factory=dict[Subject, list[Sample]])
    failures: dict[Subject, str] = field(default_factory=dict[Subject, str])

    def figure(self, subject: Subject, metric: Metric) -> Figure | None:
        """The figure of one subject; None if it has none."""
        found = self.samples.get(subject)
        return Figure.of([sample[metric.key] for sample in found]) if found else None


class Place(NamedTuple):
    """Where to measure: databases are made in ``folder`` or on ``server``, compiled modules are in ``bytecode``."""

    folder: Path
    server: str
    bytecode: Path


def ask(
    name: str, question: Question, store: Store, asked: list[Subject], rounds: int, place: Place
) -> Answer:
    """Ask one question of all subjects on one kind of database."""
    answer = Answer(name, store, question)
    server = place.server if store == "postgres" else ""
    with contextlib.ExitStack() as open_processes:
        alive: list[Process] = []
        for subject in asked:
            process = Process(subject, name, place.folder, server, place.bytecode)
            alive.append(open_processes.enter_context(process))
        for number in range(rounds):
            alive = [process for process in alive if _take(answer, process, number)]
    return answer


def _take(answer: Answer, process: Process, number: int) -> bool:
    """One round of one subject; False if it has no more."""
    subject = process.subject
    if subject.peer and number >= answer.question.peer_rounds:
        return False
    try:
        sample = process.round()
    except RuntimeError as failure:
        answer.failures[subject] = str(failure)
        answer.samples.pop(subject, None)
        return False
    if sample is None:
        return False
    answer.samples.setdefault(subject, []).append(sample)
    return True
