"""What a user gets with ``pip install cloacina``: three packages, and nothing that the source does not import."""

from __future__ import annotations

import ast
import re
import sys
import tomllib

from shape.source import ROOT, SOURCES

CORE = {"apsw", "msgspec", "cronsim"}
OPTIONAL = {"pydantic", "uvloop"}
"""Imported only where they are used; each has an extra."""

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]


def test_the_core_needs_three_packages() -> None:
    assert {re.split(r"[<>=!~\[; ]", line)[0] for line in PROJECT["dependencies"]} == CORE


def test_the_source_imports_nothing_else() -> None:
    imported: set[str] = set()
    for source in SOURCES:
        for node in ast.walk(source.tree):
            if isinstance(node, ast.Import):
                imported |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                imported.add((node.module or "").partition(".")[0])
    assert imported - set(sys.stdlib_module_names) - {"cloacina"} <= CORE | OPTIONAL
