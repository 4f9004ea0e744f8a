"""What the source never does: read the clock, draw numbers, turn data into code, leave work undone."""

from __future__ import annotations

import ast
import re

import pytest

from shape.source import SOURCES

CLOCK = "clock.py"
TIME_MODULES = {"time", "random", "secrets", "sched"}
MOMENTS = {"now", "utcnow", "today"}

DATA_BECOMES_CODE = re.compile(
    r"\b(pickle|cPickle|marshal|shelve|dill|jsonpickle)\b"
    r"|(?<![.\w])(eval|exec|compile)\("
    r"|__import__|import_module|yaml\.(unsafe_)?load\b"
)
IMPORTS_BY_NAME = {"engine/executors/process/place.py"}
"""A child process imports the bodies that its own runner names, as any program imports what it runs."""
UNDONE = re.compile(r"\b(TODO|FIXME|XXX|HACK|NotImplementedError)\b")


def test_only_the_clock_reads_time_and_draws_numbers() -> None:
    found = {source.name: times(source.tree) for source in SOURCES if source.name != CLOCK}
    assert {name: calls for name, calls in found.items() if calls} == {}


def test_data_never_becomes_code() -> None:
    found = found_by(DATA_BECOMES_CODE)
    assert [line for line in found if line.partition(":")[0] not in IMPORTS_BY_NAME] == []
    assert all("import_module" in line for line in found)


def test_nothing_is_left_undone() -> None:
    assert found_by(UNDONE) == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("import time", 1),
        ("from random import random", 1),
        ("import datetime\ndatetime.datetime.now()", 1),
        ("from datetime import date\ndate.today()", 1),
        ("from time import monotonic as m", 1),
        ("now = self.clock.now()", 0),
        ("from cloacina.clock import Clock\nimport timeit_like", 0),
    ],
)
def test_reading_the_time_is_found(text: str, found: int) -> None:
    assert len(times(ast.parse(text))) == found


@pytest.mark.parametrize(
    ("text", "bad"),
    [
        ("import pickle", True),
        ("eval(text)", True),
        ("__import__(name)", True),
        ("yaml.load(text)", True),
        ("connection.execute(sql)", False),
        ("re.compile(r'x')", False),
        ("evaluate(condition)", False),
    ],
)
def test_code_from_data_is_found(text: str, bad: bool) -> None:
    assert bool(DATA_BECOMES_CODE.search(text)) is bad


def found_by(pattern: re.Pattern[str]) -> list[str]:
    """``file:line: text`` of every line in which ``pattern`` is found."""
    return [
        f"{source.name}:{number}: {line.strip()}"
        for source in SOURCES
        for number, line in enumerate(source.text.splitlines(), 1)
        if pattern.search(line)
    ]


def times(tree: ast.Module) -> list[str]:
    """Imports of modules that know the time or chance, and calls for the moment of a date."""
    found: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names if alias.name in TIME_MODULES]
        elif isinstance(node, ast.ImportFrom) and node.module in TIME_MODULES:
            found.append(ast.unparse(node))
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            whose = ast.unparse(node.func.value)
            if node.func.attr in MOMENTS and re.search(r"\bdate(time)?$", whose):
                found.append(ast.unparse(node))
    return found
