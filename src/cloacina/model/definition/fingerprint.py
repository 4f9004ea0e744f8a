"""Callables and the values they hold, as canonical text for a version.

A function counts by its syntax tree, the values of its defaults, and what it closes over; helpers that it
calls by a global name do not count. Values count as plain constants, as code, else by the name of their type.
"""

from __future__ import annotations

import functools
import inspect
import linecache
import sys
from collections import deque
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from types import (
    BuiltinFunctionType,
    CodeType,
    FunctionType,
    MethodDescriptorType,
    MethodType,
    ModuleType,
    WrapperDescriptorType,
)
from typing import cast

from cloacina.model.definition.source import Lines, Sources, source_lines
from cloacina.model.definition.syntax import constant_text

_CONSTANTS = (type(None), bool, int, float, complex, str, bytes, type(Ellipsis))
_BUILTINS = (BuiltinFunctionType, MethodDescriptorType, WrapperDescriptorType)
_LIBRARY = f"{Path(linecache.__file__).parent}/"
_NESTED = 20
"""Constants nested deeper count by their type's name."""


class Fingerprints:
    """Collects functions; equal functions in equal order give equal text.

    Each function is written once and referred to by its number, so neither recursion nor a deep chain of
    closures matters.
    """

    def __init__(self, sources: Sources | None = None) -> None:
        """``sources`` are files that were read for others, to be used again."""
        self.unversioned = False
        """True once a function had no source to be found."""
        self._sources = Sources() if sources is None else sources
        self._numbers: dict[int, int] = {}
        self._functions: list[tuple[FunctionType, Lines | None]] = []

    def reference(self, callable_: object, lines: Lines | None = None) -> str:
        """The text that stands for something to be called. ``lines`` are its source, if known already."""
        plain = plain_function(callable_)
        if plain is None:
            self.unversioned |= not _of_python_itself(callable_)
            return self._value(callable_, 0)
        if isinstance(callable_, functools.partial):
            partial = cast("functools.partial[object]", callable_)
            return self._partial(partial, self.reference(partial.func, lines), 0)
        if isinstance(callable_, FunctionType):
            return self._number(callable_, lines)
        holder = callable_.__self__ if isinstance(callable_, MethodType) else callable_
        return f"method {_type_name(holder)} {self._number(plain, lines)}"

    def text(self) -> str:
        """Every function that was referred to, and those that they refer to in turn."""
        written: list[str] = []
        while len(written) < len(self._functions):
            written.append(self._function(*self._functions[len(written)]))
        return "\n".join(written)

    def _number(self, function: FunctionType, lines: Lines | None) -> str:
        number = self._numbers.setdefault(id(function), len(self._functions))
        if number == len(self._functions):
            self._functions.append((function, lines))
        return f"#{number}"

    def _function(self, function: FunctionType, lines: Lines | None) -> str:
        code = function.__code__
        if _of_python_itself(function):
            texts = [f"builtin {function.__qualname__}"]
        else:
            texts = self._sources.find(code, source_lines(function) if lines is None else lines)
        if not texts:
            self.unversioned = True
            texts = [f"{function.__qualname__} {_bytecode(code)}"]
        texts.append(self._values("defaults", dict(enumerate(function.__defaults__ or ()))))
        texts.append(self._values("keyword defaults", function.__kwdefaults__ or {}))
        texts.append(self._values("closure", _closure(function)))
        return " ".join(texts)

    def _values(self, what: str, values: Mapping[str, object] | Mapping[int, object]) -> str:
        told = sorted(f"{name}={self._value(value, 0)}" for name, value in values.items())
        return f"{what}({', '.join(told)})"

    def _partial(self, partial: functools.partial[object], called: str, depth: int) -> str:
        named = [f"{name}={self._value(value, depth)}" for name, value in sorted(partial.keywords.items())]
        given = [self._value(value, depth) for value in partial.args]
        return f"partial({', '.join([called, *given, *named])})"

    def _value(self, value: object, depth: int) -> str:
        kind = type(value)
        if kind in _CONSTANTS:
            return constant_text(value)
        if isinstance(value, Enum):
            return f"{kind.__qualname__}.{value.name}"
        if isinstance(value, type):
            return f"type {value.__qualname__}"
        if isinstance(value, ModuleType):
            return f"module {value.__name__}"
        if kind is frozenset:
            # Its order is not the same in each process, so that it must not decide the order of functions.
            parts = cast("frozenset[object]", value)
            return f"frozenset({', '.join(sorted(_short(part) for part in parts))})"
        if depth < _NESTED and kind is tuple:
            return (
                f"tuple({', '.join(self._value(part, depth + 1) for part in cast('tuple[object]', value))})"
            )
        if depth < _NESTED and isinstance(value, functools.partial):
            partial = cast("functools.partial[object]", value)
            return self._partial(partial, self._value(partial.func, depth + 1), depth + 1)
        return self._code(value) or _short(value)

    def _code(self, value: object) -> str:
        if isinstance(value, FunctionType):
            return self._number(value, None)
        if isinstance(value, MethodType) and isinstance(value.__func__, FunctionType):
            return f"method {_type_name(value.__self__)} {self._number(value.__func__, None)}"
        if isinstance(value, _BUILTINS):
            return f"builtin {value.__qualname__}"
        wrapped = _own(value, "__wrapped__")  # a task, a cached function
        if isinstance(wrapped, FunctionType):
            return f"{type(value).__qualname__} of {self._number(wrapped, None)}"
        return ""


def plain_function(callable_: object) -> FunctionType | None:
    """The Python function that runs when ``callable_`` is called; None if there is none to be seen."""
    while isinstance(callable_, functools.partial):
        callable_ = cast("functools.partial[object]", callable_).func
    if isinstance(callable_, MethodType):
        callable_ = callable_.__func__
    if not isinstance(callable_, FunctionType):
        wrapped = _own(callable_, "__wrapped__")
        called = inspect.getattr_static(type(callable_), "__call__", None)
        callable_ = called if isinstance(called, FunctionType) else wrapped
    return callable_ if isinstance(callable_, FunctionType) else None


def _of_python_itself(value: object) -> bool:
    """True for what belongs to Python: its code may differ from version to version, and means the same."""
    if isinstance(value, FunctionType):
        filename = value.__code__.co_filename
        return filename.startswith(("<frozen ", _LIBRARY)) and "-packages" not in filename
    owner = getattr(value, "__objclass__", value)
    module: object = getattr(owner, "__module__", None) or type(getattr(value, "__self__", None)).__module__
    return isinstance(module, str) and module.partition(".")[0] in sys.stdlib_module_names


def _short(value: object) -> str:
    return constant_text(value) if type(value) in _CONSTANTS else f"object {type(value).__qualname__}"


def _closure(function: FunctionType) -> dict[str, object]:
    held: dict[str, object] = {}
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            held[name] = cell.cell_contents
        except ValueError:  # not assigned yet
            continue
    return held


def _own(value: object, name: str) -> object:
    """What ``value`` itself holds under ``name``, without running any code of its class."""
    try:
        held = object.__getattribute__(value, "__dict__")
    except AttributeError:
        return None
    return cast("dict[str, object]", held).get(name) if isinstance(held, dict) else None


def _type_name(value: object) -> str:
    return value.__qualname__ if isinstance(value, type) else type(value).__qualname__


def _bytecode(code: CodeType) -> str:
    """What a function without source does: comparable only within one minor version of Python."""
    written: list[str] = []
    unread = deque([code])
    while unread:
        code = unread.popleft()
        plain = [constant_text(const) for const in code.co_consts if type(const) in _CONSTANTS]
        written.append(f"{code.co_code.hex()} {code.co_names} {code.co_varnames} {plain}")
        unread.extend(const for const in code.co_consts if isinstance(const, CodeType))
    return ascii(written)
