"""Fingerprints: what a body is, holds and closes over, and where its text is found."""

from __future__ import annotations

import functools
import linecache
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloacina.model.context.context import Context
from cloacina.model.context.keys import Key
from cloacina.model.task import Task, task
from cloacina.model.workflow import Workflow
from support.cell import run_cell, version_of_cell

CLOSURES: dict[str, str] = {
    "number": "3", "float": "3.0", "true": "True", "text": "'3'", "bytes": "b'3'", "none": "None",
    "tuple": "(3, 4)", "other tuple": "(3, 5)", "deep tuple": "(3, (4, ('x',)))", "frozenset": "frozenset('abc')",
    "other frozenset": "frozenset('abd')", "big": "2**9000", "ellipsis": "...", "enum": "Colour.RED",
    "other enum": "Colour.BLUE", "class": "Colour", "other class": "int", "module": "enum", "list": "[3]",
    "dict": "{}", "object": "object()", "builtin": "len", "other builtin": "max", "method of a value": "[].append",
    "function": "plain", "other function": "plainer", "lambda": "lambda x: x", "other lambda": "lambda x: -x",
    "bound method": "Tool().run", "partial": "partial(plain, 1)", "other partial": "partial(plain, 2)",
    "cached": "lru_cache(plain)", "task": "task(plain)", "callable object": "Tool()",
}  # fmt: skip
OUTER = """
import enum
from functools import lru_cache, partial
from cloacina.model.task import task

class Colour(enum.Enum):
    RED = 1
    BLUE = 2

class Tool:
    def run(self): return 1

def plain(x): return 1
def plainer(x): return 2

def outer():
    held = {}
    def body(ctx):
        ctx["held"] = held
    return body

body = outer()
"""


def test_what_a_body_closes_over_counts() -> None:
    versions: dict[str, str] = {}
    for name, held in CLOSURES.items():
        version = version_of_cell(OUTER.format(held))
        assert version == version_of_cell(OUTER.format(held)), name
        assert versions.setdefault(version, name) == name


@pytest.mark.parametrize(("one", "two"), [("[3]", "[4]"), ("{}", "{1: 2}"), ("object()", "object()")])
def test_what_can_change_while_the_body_lives_counts_by_its_type(one: str, two: str) -> None:
    assert version_of_cell(OUTER.format(one)) == version_of_cell(OUTER.format(two))


def test_the_code_of_a_closure_counts() -> None:
    source = OUTER.format("plain")
    assert version_of_cell(source) != version_of_cell(
        source.replace("def plain(x): return 1", "def plain(x): return 5")
    )


def test_a_closure_that_holds_its_own_body_ends() -> None:
    source = """
def outer():
    def body(ctx):
        return body(ctx) if ctx else other(ctx)
    def other(ctx):
        return body(ctx)
    return body
body = outer()
"""
    assert (
        version_of_cell(source)
        == version_of_cell(source)
        != version_of_cell(source.replace("if ctx", "if not ctx"))
    )


def test_a_chain_of_closures_deeper_than_the_stack_ends() -> None:
    source = """
def wrap(inner):
    def body(ctx):
        return inner(ctx)
    return body
def body(ctx): ...
for _ in range(3_000):
    body = wrap(body)
"""
    assert (
        version_of_cell(source)
        == version_of_cell(source)
        != version_of_cell(source.replace("3_000", "3_001"))
    )


KINDS = """
from functools import partial

class Steps:
    def __init__(self, n): self.n = n
    def run(self, ctx): return None
    def __call__(self, ctx): return None

class Others(Steps): ...

def load(ctx, table="a"): return None
async def fetch(ctx): ...
"""


@pytest.mark.parametrize(
    ("one", "two", "same"),
    [
        ("Steps(1).run", "Steps(2).run", True),
        ("Steps(1).run", "Others(1).run", False),
        ("Steps(1)", "Steps(2)", True),
        ("Steps(1)", "Others(1)", False),
        ("load", "partial(load)", False),
        ("partial(load, table='a')", "partial(load, table='b')", False),
        ("partial(load, table='a')", "partial(partial(load), table='a')", True),
        ("partial(Steps(1), )", "partial(Others(1))", False),
        ("load", "fetch", False),
    ],
)
def test_methods_partials_and_objects(one: str, two: str, same: bool) -> None:
    names = run_cell(KINDS)

    def version(text: str) -> str:
        workflow = Workflow("w", [Task(eval(text, names), id="step")])
        assert not workflow.unversioned
        return workflow.version

    assert (version(one) == version(two)) is same


def merging(*merges: Any) -> Workflow:
    def body(ctx: Context) -> None: ...

    return Workflow(
        "w", [task(body)], keys=[Key(f"k{n}", int, merge=merge) for n, merge in enumerate(merges)]
    )


@pytest.mark.parametrize(
    "source", ["lambda a, b: a + b, lambda a, b: a - b", "lambda a, b: a, lambda a, b: b"]
)
def test_lambdas_on_one_line_count_together(source: str) -> None:
    def version(text: str) -> str:
        one, two = run_cell(f"pair = ({text})")["pair"]
        return merging(one, two).version

    parts = source.split(", lambda")
    assert version(source) == version(source)
    assert version(source) != version(f"lambda{parts[1]}, {parts[0]}")
    assert version(source) != version(f"{parts[0]}, {parts[0]}")


def test_code_without_source_is_unversioned() -> None:
    def version(text: str) -> str:
        names: dict[str, Any] = {}
        exec(f"def body(ctx):\n    return {text}\n", names)
        workflow = Workflow("w", [task(names["body"], id="step")])
        assert workflow.unversioned
        assert workflow.version.startswith("unversioned-")
        return workflow.version

    assert version("1") == version("1") != version("2")


def test_a_merge_without_source_is_unversioned_but_one_of_python_itself_is_not() -> None:
    names: dict[str, Any] = {}
    exec("def merge(one, two): return one", names)
    assert merging(names["merge"]).unversioned
    for known in (max, set.union, functools.reduce, os.path.join):
        assert not merging(known).unversioned


@pytest.mark.parametrize(
    "text", ["def body(ctx:\n", "\n", "def other(ctx):\n    return 2\n", "def body(c):\n  ..."]
)
def test_a_text_that_cannot_be_that_of_the_code_is_not_taken_for_it(text: str) -> None:
    names = run_cell("def body(ctx):\n    return 1\n", filename := f"<text of {text!r}>")
    linecache.cache[filename] = (len(text), None, text.splitlines(keepends=True), filename)
    assert Workflow("w", [task(names["body"], id="step")]).unversioned


def test_the_text_is_that_of_the_moment_when_the_task_was_made(tmp_path: Path) -> None:
    path = tmp_path / "tasks.py"
    path.write_text("def body(ctx):\n    return 1\n")
    names: dict[str, Any] = {}
    exec(compile(path.read_text(), str(path), "exec"), names)
    before = Workflow("w", [made := task(names["body"], id="step")])
    path.write_text("def body(ctx):\n    return 22\n")
    os.utime(path, (1, 1))
    after = Workflow("w", [task(names["body"], id="step")])
    assert after.version != before.version == Workflow("w", [made]).version


constants = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.binary(), st.complex_numbers()
    ),
    lambda inner: st.one_of(st.tuples(inner, inner), st.frozensets(st.integers() | st.text())),
    max_leaves=5,
)


def _holding(value: object) -> str:
    def body(ctx: Context, held: object = value) -> None: ...

    return Workflow("w", [task(body, id="step")]).version


@given(constants, constants)
def test_constants_are_told_apart(one: object, two: object) -> None:
    assert (_holding(one) == _holding(two)) is (_exact(one) == _exact(two))


def _exact(value: Any) -> object:
    """``value`` with its types, so that 1, 1.0 and True differ, and nan equals itself."""
    if isinstance(value, tuple):
        return ("tuple", *map(_exact, value))
    if isinstance(value, frozenset):
        return ("frozenset", frozenset(map(_exact, value)))
    return (type(value), repr(value))
