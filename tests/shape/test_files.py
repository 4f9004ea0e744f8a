"""Files are small, say what they are, and are named for it."""

from __future__ import annotations

import ast
import re
from collections import Counter
from pathlib import PurePosixPath

import pytest

from shape.source import PACKAGE, SOURCES, Documented, Function, Source

MOST_LINES = 400
MOST_FUNCTION_LINES = 55
MOST_FILES = 13
"""A dozen files a folder, and its ``__init__.py``."""
LONG_FUNCTIONS: frozenset[str] = frozenset()
"""``file:function`` of each that may be longer; say why beside it."""
NAMES_THAT_HIDE = {"utils", "util", "helpers", "helper", "common", "core", "manager", "misc", "base"}

each = pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.name)


def test_the_package_was_found() -> None:
    assert {"runner.py", "engine/engine.py", "store/port.py"} <= {source.name for source in SOURCES}


@each
def test_a_file_is_not_too_long(source: Source) -> None:
    assert source.text.count("\n") <= MOST_LINES


@each
def test_functions_are_not_too_long(source: Source) -> None:
    long = {
        f"{source.name}:{node.name}" for node in source.functions() if _length(node) > MOST_FUNCTION_LINES
    }
    assert long <= LONG_FUNCTIONS


def test_no_function_is_allowed_to_be_long_that_is_not() -> None:
    known = {
        f"{source.name}:{node.name}"
        for source in SOURCES
        for node in source.functions()
        if _length(node) > MOST_FUNCTION_LINES
    }
    assert known == LONG_FUNCTIONS


def test_a_folder_holds_a_dozen_files_at_most() -> None:
    counts = Counter(str(PurePosixPath(source.name).parent) for source in SOURCES)
    assert {folder: count for folder, count in counts.items() if count > MOST_FILES} == {}


@each
def test_a_name_says_what_is_inside(source: Source) -> None:
    assert not NAMES_THAT_HIDE.intersection(PurePosixPath(source.name).with_suffix("").parts)


@each
def test_a_file_begins_with_a_sentence(source: Source) -> None:
    document = ast.get_docstring(source.tree) or ""
    assert re.match(r"[A-Z`'\"].*[.:]$", document.partition("\n")[0]), document[:200]


@each
def test_what_is_public_is_documented(source: Source) -> None:
    silent = [
        name
        for name, node in source.public()
        if not ast.get_docstring(node) and not _overload(node) and node.name not in _documented_elsewhere()
    ]
    assert silent == []


def test_py_typed_is_there() -> None:
    assert (PACKAGE / "py.typed").is_file()


def _length(node: Function) -> int:
    """Lines from ``def`` to the end, the docstring not counted."""
    last = node.end_lineno or node.lineno
    first = node.body[0]
    if ast.get_docstring(node) is not None:
        return last - node.lineno + 1 - ((first.end_lineno or first.lineno) - first.lineno + 1)
    return last - node.lineno + 1


def _overload(node: Documented) -> bool:
    return any(ast.unparse(decorator).endswith("overload") for decorator in node.decorator_list)


def _documented_elsewhere() -> set[str]:
    """Methods that a documented class of the package, a protocol above all, says the meaning of."""
    return {
        name.rpartition(".")[2]
        for source in SOURCES
        for name, node in source.public()
        if "." in name and not isinstance(node, ast.ClassDef) and ast.get_docstring(node)
    }
