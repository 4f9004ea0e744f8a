"""Files are small, say what they are, and are named for it."""

from __future__ import annotations

import ast
import re
from inspect import getdoc
from pathlib import PurePosixPath

from shape.source import PACKAGE, SOURCES, Documented, Function

MOST_LINES = 400
MOST_FUNCTION_LINES = 55
LONG_FUNCTIONS: set[str] = set()
"""``file:function`` of each that may be longer; say why beside it."""
NAMES_THAT_HIDE = {"utils", "util", "helpers", "helper", "common", "core", "manager", "misc", "base"}


def test_the_package_was_found() -> None:
    assert {"runner.py", "engine/engine.py", "store/port.py"} <= {source.name for source in SOURCES}
    assert (PACKAGE / "py.typed").is_file()


def test_no_file_is_too_long() -> None:
    lengths = {source.name: source.text.count("\n") for source in SOURCES}
    del lengths["blocking.py"]  # generated from files that are looked at here
    assert {name: lines for name, lines in lengths.items() if lines > MOST_LINES} == {}


def test_no_function_is_too_long() -> None:
    long = {
        f"{source.name}:{node.name}"
        for source in SOURCES
        for node in source.functions()
        if _lines(node) > MOST_FUNCTION_LINES
    }
    assert long == LONG_FUNCTIONS


def test_names_say_what_is_inside() -> None:
    parts = {part for source in SOURCES for part in PurePosixPath(source.name).with_suffix("").parts}
    assert parts & NAMES_THAT_HIDE == set()


def test_files_begin_with_a_sentence() -> None:
    first = {source.name: (ast.get_docstring(source.tree) or "").partition("\n")[0] for source in SOURCES}
    assert {name: line for name, line in first.items() if not re.match(r"[A-Z`'\"].*[.:]$", line)} == {}


def test_what_is_public_is_documented() -> None:
    silent = [
        f"{source.name}:{name}"
        for source in SOURCES
        for name, node in source.public()
        if not ast.get_docstring(node)
        and not _overload(node)
        and not _implements(name)
        # What overrides something of a base class may leave its meaning to that.
        and not getdoc(source.load(name))
    ]
    assert silent == []


def _lines(node: Function) -> int:
    """Lines from ``def`` to the end, the docstring not counted."""
    lines = (node.end_lineno or node.lineno) - node.lineno + 1
    document = node.body[0]
    if ast.get_docstring(node) is None:
        return lines
    return lines - ((document.end_lineno or document.lineno) - document.lineno + 1)


def _overload(node: Documented) -> bool:
    return any(ast.unparse(decorator).endswith("overload") for decorator in node.decorator_list)


def _implements(name: str) -> bool:
    """True if a protocol of the package says what methods of that name do."""
    return "." in name and name.rpartition(".")[2] in PROMISES


PROMISES = {
    member.name
    for source in SOURCES
    for node in ast.walk(source.tree)
    if isinstance(node, ast.ClassDef) and "Protocol" in {ast.unparse(base) for base in node.bases}
    for member in node.body
    if isinstance(member, Function)
}
