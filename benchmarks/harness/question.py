"""A question: what is measured, in which unit, and what design section 7 asks for."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from benchmarks.harness.database import STORES, Database, Store

Bodies = Literal["async", "def"]
Sample = dict[str, float]
"""What one round found: a figure per metric key."""


@dataclass(frozen=True, slots=True)
class Metric:
    """One figure of a question.

    ``target`` is the worst value that is good enough on SQLite, ``postgres`` that on PostgreSQL, both in ``unit``;
    ``share`` is the least share of the bare floor's speed. They are None where nothing is asked.
    """

    key: str
    title: str
    unit: str
    higher_is_better: bool = False
    target: float | None = None
    postgres: float | None = None
    share: float | None = None

    def asked(self, store: Store) -> float | None:
        """The worst value that is good enough on ``store``."""
        return self.target if store == "sqlite" else self.postgres

    def meets(self, value: float, store: Store) -> bool | None:
        """Whether ``value`` is good enough; None if no target is set."""
        asked = self.asked(store)
        if asked is None:
            return None
        return value >= asked if self.higher_is_better else value <= asked

    def speed(self, value: float, other: float) -> float:
        """How many times as fast (or as small) ``value`` is as ``other``."""
        above, below = (value, other) if self.higher_is_better else (other, value)
        return above / below if below else float("inf")


@dataclass(frozen=True, slots=True)
class Question:
    """Which metrics one file measures, and how.

    ``rounds`` is how many are counted if nothing else is asked, ``peer_rounds`` how many of them peers take part in,
    as theirs take long. ``warm_up`` runs one more before them in the same process, but not for peers. ``bodies`` is
    False where the kind of the bodies makes no difference, ``stores`` has those on which the question makes sense.
    """

    metrics: tuple[Metric, ...]
    rounds: int = 5
    peer_rounds: int = 2
    warm_up: bool = True
    bodies: bool = True
    stores: tuple[Store, ...] = STORES


@dataclass(frozen=True, slots=True)
class Setting:
    """Where one round is measured: its own empty folder, one shared by all rounds, and the kind of bodies.

    ``server`` is the URL of a PostgreSQL, and empty on SQLite.
    """

    folder: Path
    shared: Path
    bodies: Bodies
    server: str = ""

    @property
    def database(self) -> Database:
        """The database of this round, which does not exist yet."""
        return self.another("benchmark")

    def another(self, name: str) -> Database:
        """One more for this round."""
        return database_in(self.folder, name, self.server)

    def kept(self, name: str) -> Database:
        """One that is there for all rounds."""
        return database_in(self.shared, name, self.server)


def database_in(folder: Path, name: str, server: str) -> Database:
    """A file in ``folder``, or a schema that is named after the folder as well."""
    if not server:
        return Database(str(folder / f"{name}.db"))
    return Database(server, f"{schema_prefix(folder)}{name}")


def schema_prefix(folder: Path) -> str:
    """How the schemas begin that belong to a folder, which has a name of its own."""
    return f"{re.sub('[^a-z0-9]', '_', folder.name.lower())}_"
