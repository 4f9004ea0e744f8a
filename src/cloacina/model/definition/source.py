"""The source of functions: found by file and line, each file read and parsed once."""

from __future__ import annotations

import ast
import linecache
import warnings
from collections import defaultdict
from types import CodeType, FunctionType
from typing import TypeAlias

from cloacina.model.definition.syntax import Function, function_text

Lines: TypeAlias = list[str]


def source_lines(function: FunctionType) -> Lines:
    """The lines of the file, or notebook cell, that ``function`` was made from; empty if there is none.

    To be called soon after the function was made: a file that is replaced under a running process must not
    lend its new text to the old code. The list is shared by all functions of one file.
    """
    filename = function.__code__.co_filename
    linecache.checkcache(filename)
    return linecache.getlines(filename, function.__globals__)


class Sources:
    """The functions in some files. Keep it for one piece of work only: it holds whole syntax trees."""

    def __init__(self) -> None:
        self._files: dict[int, tuple[Lines, dict[tuple[str, int], list[Function]]]] = {}
        self._texts: dict[Function, str] = {}

    def find(self, code: CodeType, lines: Lines) -> list[str]:
        """The definitions in ``lines`` that ``code`` can come from, as canonical text: empty if there is none.

        Several only for lambdas with like parameters on one line, which then count as one.
        """
        known = self._files.get(id(lines))
        if known is None:
            known = self._files[id(lines)] = (lines, _functions(lines))
        found = known[1].get((code.co_name, code.co_firstlineno), ())
        return [self._text(node) for node in found if _same_parameters(node, code)]

    def _text(self, node: Function) -> str:
        text = self._texts.get(node)
        if text is None:
            text = self._texts[node] = function_text(node)
        return text


def _functions(lines: Lines) -> dict[tuple[str, int], list[Function]]:
    """Every function in a file, by its name and the line that its code object begins on."""
    found: defaultdict[tuple[str, int], list[Function]] = defaultdict(list)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # told when the file was compiled, and not to become errors here
            unread: list[ast.AST] = [_parse("".join(lines))]
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return found  # a notebook cell with magics, a file that has become something else
    while unread:
        node = unread.pop()
        if isinstance(node, ast.Lambda):
            found["<lambda>", node.lineno].append(node)
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            first = node.decorator_list[0].lineno if node.decorator_list else node.lineno
            found[node.name, first].append(node)
        unread.extend(reversed(list(ast.iter_child_nodes(node))))
    return found


def _parse(text: str) -> ast.Module:
    try:
        return ast.parse(text)
    except SystemError:
        # CPython 3.11 counts its depth wrongly if the garbage collector runs code that parses too, meanwhile.
        return ast.parse(text)


def _same_parameters(node: Function, code: CodeType) -> bool:
    arguments = node.args
    named = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    actual = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    # In a class, a parameter __x is called _Class__x at run time.
    return len(named) == len(actual) and all(
        real.endswith(arg.arg) for arg, real in zip(named, actual, strict=True)
    )
