"""A question: what is measured, in which unit, and what design section 7 asks for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Bodies = Literal["async", "def"]
Sample = dict[str, float]
"""What one round found: a figure per metric key."""


@dataclass(frozen=True, slots=True)
class Metric:
    """One figure of a question.

    ``target`` is the worst value that is good enough, in ``unit``; ``share`` the least share of the bare
    floor's speed. Both are None where nothing is asked.
    """

    key: str
    title: str
    unit: str
    higher_is_better: bool = False
    target: float | None = None
    share: float | None = None

    def meets(self, value: float) -> bool | None:
        """Whether ``value`` is good enough; None if no target is set."""
        if self.target is None:
            return None
        return value >= self.target if self.higher_is_better else value <= self.target

    def speed(self, value: float, other: float) -> float:
        """How many times as fast (or as small) ``value`` is as ``other``."""
        above, below = (value, other) if self.higher_is_better else (other, value)
        return above / below if below else float("inf")


@dataclass(frozen=True, slots=True)
class Question:
    """Which metrics one file measures, and how.

    ``rounds`` is how many are counted if nothing else is asked; ``warm_up`` runs one more before them, in the
    same process. ``bodies`` is False where the kind of the bodies makes no difference.
    """

    metrics: tuple[Metric, ...]
    rounds: int = 5
    warm_up: bool = True
    bodies: bool = True


@dataclass(frozen=True, slots=True)
class Setting:
    """Where one round is measured: its own empty folder, one shared by all rounds, and the kind of bodies."""

    folder: Path
    shared: Path
    bodies: Bodies

    @property
    def database(self) -> Path:
        """The file of this round, which does not exist yet."""
        return self.folder / "benchmark.db"
