"""The tally: what was seen in all stages of a campaign on one database, and the line that tells it."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Sequence

from acceptance.support.check import KINDS, Complaints, Verdict

KILLS = "kills"
SHOWN = 5
"""Complaints of a kind that are told in full for each stage."""


class Tally:
    """Counts for one database; any thread may add to it."""

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self.acknowledged = 0
        self.section = ""
        """What is being played."""
        self._starts: Counter[str] = Counter()
        self._repeated: Counter[str] = Counter()
        self.counts: Counter[str] = Counter()
        self.recoveries: list[float] = []
        """Seconds from a kill to the next start of a body that ran in the killed process."""
        self.places: set[str] = set()
        """Stages with something to complain of."""
        self.told: list[str] = []
        """Complaints in words."""

    @property
    def clean(self) -> bool:
        """True if there is nothing to complain of."""
        return not self.counts.total()

    def complain(self, where: str, complaints: Complaints) -> None:
        """Note what is to be complained of in a stage."""
        with self._turn:
            for kind, some in complaints.items():
                self.counts[kind] += len(some)
                self.told += [f"{where}: {kind}: {one}" for one in some[:SHOWN]]
            if any(complaints.values()):
                self.places.add(where)

    def add(self, where: str, verdict: Verdict) -> None:
        """Add a stage that is over."""
        with self._turn:
            self.acknowledged += len(set().union(*verdict.told.acked.values()))
            self._starts[self.section] += len(verdict.told.starts)
            self._repeated[self.section] += _repeated(verdict)
        self.complain(where, verdict.complaints)

    def recovered(self, seconds: Sequence[float]) -> None:
        with self._turn:
            self.recoveries += seconds

    def line(self) -> str:
        """Everything in one line."""
        kinds = ", ".join(f"{kind} {self.counts[kind]}" for kind in KINDS)
        return (
            f"acknowledged {self.acknowledged:,} | {kinds} | recovery {self._recovery()} | "
            f"duplicate work {self._duplicate()}"
        )

    def _duplicate(self) -> str:
        """As it is where kills come at random; other sections are made to interrupt as much as they can."""
        sections = [KILLS] if self._starts[KILLS] else list(self._starts)
        starts = sum(self._starts[section] for section in sections)
        repeated = sum(self._repeated[section] for section in sections)
        return f"{100 * repeated / starts:.2f} % of {starts:,} starts" if starts else "not measured"

    def _recovery(self) -> str:
        if not self.recoveries:
            return "not measured"
        ordered = sorted(self.recoveries)
        p50, p99 = (ordered[min(len(ordered) - 1, int(len(ordered) * share))] for share in (0.5, 0.99))
        return f"p50 {p50:.2f} p99 {p99:.2f} max {ordered[-1]:.2f} s (of {len(ordered)})"


def _repeated(verdict: Verdict) -> int:
    """Starts that did again what an interruption had cut off, rather than what had failed."""
    interrupted = {row[:3] for row in verdict.found.rows if row.state == "interrupted"}
    return sum((*start[:2], start.attempt - 1) in interrupted for start in verdict.told.starts)
