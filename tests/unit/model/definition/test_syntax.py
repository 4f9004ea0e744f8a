"""Syntax trees as canonical text."""

from __future__ import annotations

import ast

import pytest

from cloacina.model.definition.syntax import syntax_text


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("def inner(x: int, *a: str) -> bool: return x", "def inner(x, *a): return x"),
        ("async def inner() -> 'T': ...", "async def inner():\n    '''Inner.'''"),
        ("x = f'{a}' 'b' f'{c!r:}'", 'x = f"{a}b{c!r}"'),
        ("x = f'abc'", "x = 'abc'"),
        ("if x: pass\nelse: ...", "if x: 'nothing'"),
    ],
)
def test_what_means_the_same_has_the_same_text(one: str, two: str) -> None:
    assert syntax_text(ast.parse(one)) == syntax_text(ast.parse(two))


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("x = 1", "x = True"),
        ("x = '1'", "x = 1"),
        ("x = [None]", "x = [{**y}]"),
        ("match x:\n    case None: y", "match x:\n    case True: y"),
        ("def inner(): x", "def outer(): x"),
        ("def inner(*, a, b=1): x", "def inner(*, a=1, b): x"),
        ("x = f'{a}b'", "x = f'b{a}'"),
        ("x = f'{a}'", "x = a"),
        ("x = {**a, 'b': c}", "x = {'b': c, **a}"),
        ("(yield)", "(yield None)"),
        ("from . import a", "from .. import a"),
    ],
)
def test_what_means_something_else_has_another_text(one: str, two: str) -> None:
    assert syntax_text(ast.parse(one)) != syntax_text(ast.parse(two))


def test_code_nested_deeper_than_the_stack_ends() -> None:
    tree: ast.expr = ast.Name("n")
    for _ in range(20_000):
        tree = ast.UnaryOp(ast.Not(), tree)
    assert syntax_text(tree).count("UnaryOp") == 20_000
