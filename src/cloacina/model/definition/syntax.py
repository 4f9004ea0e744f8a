"""A syntax tree as canonical text: equal for code that means the same, whatever its layout and its Python.

Left out: positions, annotations, docstrings and other statements without effect. The trees that different
minor versions of Python make of one source give the same text: fields are written by name, empty ones not at
all, f-strings in one form.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from typing import TypeAlias

Function: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda

_SKIPPED = frozenset(
    {"annotation", "ctx", "kind", "returns", "simple", "type_comment", "type_ignores", "type_params"}
)


def function_text(node: Function) -> str:
    """The parameters and the body of a function; not its name, decorators, annotations and default values.

    The values that its defaults had at run time are the caller's to add.
    """
    arguments = node.args
    bare = ast.arguments(
        posonlyargs=arguments.posonlyargs,
        args=arguments.args,
        vararg=arguments.vararg,
        kwonlyargs=arguments.kwonlyargs,
        kw_defaults=[],
        kwarg=arguments.kwarg,
        defaults=[],
    )
    kind = "async" if isinstance(node, ast.AsyncFunctionDef) else "def"
    body: list[ast.stmt] = [ast.Return(value=node.body)] if isinstance(node, ast.Lambda) else node.body
    return f"{kind}{syntax_text(bare)}{syntax_text(list(_statements(body)))}"


def syntax_text(tree: object) -> str:
    """A node, or a list of nodes, as canonical text."""
    out: list[str] = []
    unread: list[object] = [tree]
    while unread:
        item = unread.pop()
        if isinstance(item, _Written):
            out.append(item)
        elif isinstance(item, ast.AST):
            _open(item, out, unread)
        elif isinstance(item, list):
            out.append("[")
            unread.append(_CLOSE_LIST)
            unread.extend(reversed(item))  # pyright: ignore[reportUnknownArgumentType]
        else:
            out.append(f" {constant_text(item)}")
    return "".join(out)


def constant_text(value: object) -> str:
    """A plain constant, with its type, in ASCII: the same in every Python."""
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:#x}"  # decimal digits are refused beyond 4,300
    return ascii(value)


class _Written(str):
    """Text that is ready, among things still to be written."""

    __slots__ = ()


_CLOSE_LIST = _Written("]")
_CLOSE_NODE = _Written(")")


def _open(node: ast.AST, out: list[str], unread: list[object]) -> None:
    """Write the head of ``node``, and push its fields so that they come out in order."""
    kind = type(node)
    special = _SPECIAL.get(kind)
    if special is not None:
        unread.extend(reversed(list(special(node))))
        return
    out.append(f"({kind.__name__}")
    unread.append(_CLOSE_NODE)
    for name in reversed(kind._fields):
        if name in _SKIPPED:
            continue
        value = getattr(node, name, None)
        if name in _BLOCKS and isinstance(value, list):
            value = list(_statements(value, kind is ast.ClassDef))  # pyright: ignore[reportUnknownArgumentType]
        if value is None or value == []:
            continue
        unread.append(value)
        unread.append(_FIELDS.setdefault(name, _Written(f" {name}")))


_BLOCKS = frozenset({"body", "orelse", "finalbody"})
_FIELDS: dict[str, _Written] = {}


def _statements(block: list[ast.stmt], in_class: bool = False) -> Iterator[ast.stmt]:
    """The statements of a block that have an effect.

    In a class a bare annotation declares a field, of a dataclass for example, so its name counts there.
    """
    for statement in block:
        if isinstance(statement, ast.Pass):
            continue
        if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
            continue
        if isinstance(statement, ast.AnnAssign) and statement.value is None and not in_class:
            continue
        if type(statement).__name__ == "TypeAlias":
            continue
        yield statement


def _annotated(node: ast.AnnAssign) -> Iterator[object]:
    if node.value is None:
        yield _Written("(Declare")
        yield node.target
        yield _CLOSE_NODE
    else:
        yield ast.Assign(targets=[node.target], value=node.value)


def _constant(node: ast.Constant) -> Iterator[object]:
    yield _Written(f"<{constant_text(node.value)}>")


def _joined(node: ast.JoinedStr) -> Iterator[object]:
    parts = list(_flat(node))
    if all(isinstance(part, str) for part in parts):
        yield _Written(f"<{constant_text(''.join(map(str, parts)))}>")
        return
    yield _Written("(f")
    for part in parts:
        yield _Written(f"<{constant_text(part)}>") if isinstance(part, str) else part
    yield _CLOSE_NODE


def _flat(node: ast.JoinedStr) -> Iterator[str | ast.AST]:
    """The parts of an f-string, with neighbouring pieces of text joined and empty ones left out."""
    text = ""
    for part in node.values:
        if isinstance(part, ast.Constant):
            text += str(part.value)
            continue
        if text:
            yield text
            text = ""
        yield part
    if text:
        yield text


def _formatted(node: ast.FormattedValue) -> Iterator[object]:
    yield _Written("{")
    yield node.value
    if node.conversion != -1:
        yield _Written(f"!{chr(node.conversion)}")
    if isinstance(node.format_spec, ast.JoinedStr) and node.format_spec.values:
        yield _Written(":")
        yield node.format_spec
    yield _Written("}")


_SPECIAL: dict[type[ast.AST], Callable[..., Iterator[object]]] = {
    ast.AnnAssign: _annotated,
    ast.Constant: _constant,
    ast.JoinedStr: _joined,
    ast.FormattedValue: _formatted,
}
