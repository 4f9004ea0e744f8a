"""What a user gets with ``pip install cloacina``: three packages, and nothing that the source does not import."""

from __future__ import annotations

import re
import sys
import tomllib

from shape.source import ROOT, SOURCES

CORE = {"apsw", "msgspec", "cronsim"}
OPTIONAL = {"pydantic", "uvloop", "cryptography", "asyncpg"}
"""Imported only where they are used; each has an extra."""
FOR_PLUGINS = {"pytest", "pytest_asyncio"}
"""Imported by what only they load."""

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]


def test_the_core_needs_three_packages() -> None:
    assert {re.split(r"[<>=!~\[; ]", line)[0] for line in PROJECT["dependencies"]} == CORE


def test_the_source_imports_nothing_else() -> None:
    imported: set[str] = set().union(*(source.imports() for source in SOURCES))
    assert imported - set(sys.stdlib_module_names) - {"cloacina"} <= CORE | OPTIONAL | FOR_PLUGINS


def test_only_the_plugin_imports_pytest() -> None:
    assert {source.name for source in SOURCES if source.imports() & FOR_PLUGINS} == {"testing/plugin.py"}
