"""The page about the tables, ``docs/reference/schema.md``, as the tests of both databases read it."""

from __future__ import annotations

import re
from pathlib import Path

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "reference" / "schema.md").read_text("utf-8")
SECTIONS = dict(re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL))
POSTGRES_ONLY = {"leases"}


def table(section: str) -> list[tuple[str, ...]]:
    """The rows of the table in a section, without its head."""
    lines = [line for line in SECTIONS[section].splitlines() if line.startswith("|")]
    return [tuple(cell.strip() for cell in line.strip("|").split("|")) for line in lines[2:]]


def columns(name: str) -> list[tuple[str, str, bool]]:
    """Name and type of each column of a table, and True if it must have a value."""
    return [(row[0], row[1], row[2] == "no") for row in table(name)]


def indexes() -> set[tuple[str, str, str]]:
    """Table, columns and condition of each index."""
    return {(name, columns, only.strip("`")) for name, columns, only in table("Indexes")}
