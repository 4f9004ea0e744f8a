"""The tale: what a ledger says, sorted by who it is about."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

from acceptance.support.ledger import Entry

FOR_EVER = 2**63
"""In microseconds."""


class Start(NamedTuple):
    """A body's start or end, from the ledger."""

    execution: str
    task: str
    attempt: int
    pid: int
    line: int


class Tale(NamedTuple):
    """The ledger, sorted by what its lines say."""

    asked: dict[int, tuple[str, str]]
    acked: dict[int, set[str]]
    starts: list[Start]
    ends: dict[tuple[str, str, int], int]
    over: Counter[str]
    batches: list[set[int]]
    forks: Counter[str]
    """How often a fork of each execution was asked for."""
    forked: set[tuple[str, str]]
    """Each execution with a fork of it that was acknowledged."""
    halts: dict[str, list[tuple[int, int]]]
    """By execution, from when to when it was to start nothing, in microseconds."""


def tale_of(entries: list[Entry]) -> Tale:
    """Sort the lines of a ledger."""
    told = Tale({}, {}, [], {}, Counter(), [], Counter(), set(), {})
    for line, (kind, words, _) in enumerate(entries):
        if kind == "ask":
            told.asked[int(words[0])] = (words[1], words[2])
        elif kind == "ack":
            told.acked.setdefault(int(words[0]), set()).add(words[1])
        elif kind == "start":
            told.starts.append(Start(words[0], words[1], int(words[2]), int(words[3]), line))
        elif kind == "end":
            told.ends[words[0], words[1], int(words[2])] = line
        elif kind == "over":
            told.over[words[0]] += 1
        elif kind == "batch":
            told.batches.append(set(map(int, words)))
        elif kind == "fork":
            told.forks[words[0]] += 1
        elif kind == "forked":
            told.forked.add((words[0], words[1]))
        elif kind == "halted":
            told.halts.setdefault(words[0], []).append((int(words[1]), FOR_EVER))
        elif kind == "resumed":
            halts = told.halts.get(words[0], [])
            halts[:] = [(since, min(until, int(words[1]))) for since, until in halts]
    return told
