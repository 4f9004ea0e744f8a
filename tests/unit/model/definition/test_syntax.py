"""Syntax trees as canonical text."""

from __future__ import annotations

import ast

from cloacina.model.definition.syntax import syntax_text


def test_code_nested_deeper_than_the_stack_ends() -> None:
    tree: ast.expr = ast.Name("n")
    for _ in range(20_000):
        tree = ast.UnaryOp(ast.Not(), tree)
    assert syntax_text(tree).count("UnaryOp") == 20_000
