"""What a body's return annotation may say: nothing but None and the context."""

from __future__ import annotations

import ast
import builtins
from collections.abc import Mapping
from inspect import Signature
from types import FunctionType, NoneType, UnionType
from typing import Annotated, Any, ForwardRef, Never, NoReturn, Union, get_args, get_origin

from cloacina.model.context.context import Context

_ALLOWED = (None, NoneType, Any, Never, NoReturn)
_UNIONS = (Union, UnionType)
_UNKNOWN = object()


def refused_return(annotation: object, function: FunctionType | None) -> str:
    """The part of a return annotation that a body must not have, as text; empty if there is none.

    A text is not evaluated, its names are looked up where ``function`` was written. One that is not there,
    because it was imported for type checkers only, gets the benefit of the doubt.
    """
    if annotation is Signature.empty:
        return ""
    scope: Mapping[str, object] = function.__globals__ if function else {}
    unread: list[object] = [annotation]
    while unread:
        part = unread.pop()
        if isinstance(part, ForwardRef):
            part = part.__forward_arg__
        if isinstance(part, str):
            try:
                part = ast.parse(part.strip(), mode="eval").body
            except (SyntaxError, ValueError, RecursionError, MemoryError):
                continue
        inner = _syntax_parts(part, scope) if isinstance(part, ast.expr) else _value_parts(part)
        if inner is None:
            return ast.unparse(part) if isinstance(part, ast.expr) else _name(part)
        unread.extend(inner)
    return ""


def _value_parts(value: object) -> tuple[object, ...] | None:
    """The parts of an annotation that remain to be read; None if it is refused."""
    origin = get_origin(value)
    if origin in _UNIONS:
        return get_args(value)
    if origin is Annotated:
        return get_args(value)[:1]
    if any(value is allowed for allowed in _ALLOWED):
        return ()
    if origin is not None or (isinstance(value, type) and not issubclass(value, Context)):
        return None
    return ()


def _syntax_parts(node: ast.expr, scope: Mapping[str, object]) -> tuple[object, ...] | None:
    if isinstance(node, ast.Constant):
        return (node.value,) if node.value is None or isinstance(node.value, str) else None
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        return node.left, node.right
    if isinstance(node, ast.Subscript):
        kind = _last_name(node.value)
        inner = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        if kind in ("Optional", "Union"):
            return tuple(inner)
        return (inner[0],) if kind == "Annotated" else None
    value = _look_up(node, scope)
    return () if value is _UNKNOWN else (value,)


def _last_name(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def _look_up(node: ast.expr, scope: Mapping[str, object]) -> object:
    """What a dotted name stands for in ``scope``."""
    path: list[str] = []
    while isinstance(node, ast.Attribute):
        path.append(node.attr)
        node = node.value
    if not isinstance(node, ast.Name):
        return _UNKNOWN
    value = scope.get(node.id, getattr(builtins, node.id, _UNKNOWN))
    for name in reversed(path):
        value = getattr(value, name, _UNKNOWN)
    return value


def _name(value: object) -> str:
    return value.__name__ if isinstance(value, type) else str(value)
