"""Homes: where the database of a stage is: in a file, or on a server (`acceptance.support.server_homes`)."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from acceptance.support import database
from acceptance.support.database import Contents


class Home(Protocol):
    """What a stage needs to know of its database."""

    url: str
    schema: str | None

    def prepare(self) -> None:
        """Make the database, and have it write down every change of a state, in the same transaction."""
        ...

    def read(self) -> Contents:
        """What is committed now."""
        ...

    def buried(self, runner: str) -> bool:
        """True once somebody has declared a runner dead, and has removed its lease."""
        ...


class FileHome:
    """An SQLite file."""

    schema: str | None = None

    def __init__(self, path: Path) -> None:
        self.path = path
        self.url = str(path)

    def prepare(self) -> None:
        if not self.path.exists():
            database.prepare(self.path)

    def read(self) -> Contents:
        return database.read(self.path)

    def buried(self, runner: str) -> bool:
        return not (Path(f"{self.path}-runners") / runner).exists()
