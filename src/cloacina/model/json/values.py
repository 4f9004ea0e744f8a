"""JSON values: what a context may hold, its limits, and its text.

What is stored is plain JSON. The types in `cloacina.model.json.forms`, dataclasses and datetimes among them,
become it on the way in; nothing turns back by itself, only a `Key` knows a type to read a value as.

Refused, with the path of the culprit: NaN and infinities, lone surrogates and NUL (PostgreSQL stores
neither), keys that are not strings, cycles, what exceeds the `Limits`, integers of more than 640 digits (an
interpreter may be set to read no more), and types without a form.
"""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import isfinite
from typing import Any, NoReturn, TypeAlias, cast

import msgspec

from cloacina.errors import ContextError, ValidationError
from cloacina.model.json.forms import NO_FORM, advice, json_form, type_name
from cloacina.model.json.paths import join_path, shorten

JSON: TypeAlias = "bool | int | float | str | list[JSON] | dict[str, JSON] | None"

INT_DIGITS = 640
"""Integers of up to this many digits are stored exactly; longer ones are refused."""

MAX_DEPTH = 200
"""The deepest nesting that `Limits` may allow. A patch nests twice as deep, and JSON readers recurse."""

_INT_BOUND = 10**INT_DIGITS
_LONG_INT = 10**19
_LIMITS = (("value_bytes", 32, sys.maxsize), ("context_bytes", 32, sys.maxsize), ("depth", 1, MAX_DEPTH))

# A weight is an upper bound of the bytes of text, and at most _WEIGHT_RATIO times the true number.
_NUMBER_WEIGHT = 26
_WEIGHT_RATIO = 14

_type_of: Callable[[object], object] = type  # so declared, as the type of an Any is unknown to checkers
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


@dataclass(frozen=True, slots=True)
class Limits:
    """How large what a context holds may be.

    ``value_bytes`` bounds the text of the value of one key, ``context_bytes`` that of the whole context,
    both in bytes of UTF-8; ``depth`` the nesting of a value, where ``[]`` has 1.
    """

    value_bytes: int = 1_000_000
    context_bytes: int = 4_000_000
    depth: int = 100

    def __post_init__(self) -> None:
        for name, least, most in _LIMITS:
            value: object = getattr(self, name)
            if type(value) is not int or not least <= value <= most:
                raise ValidationError(f"Limits: {name} must be an int from {least} to {most}, not {value!r}")


DEFAULT_LIMITS = Limits()


def to_json(value: Any, path: str = "", limits: Limits = DEFAULT_LIMITS) -> JSON:
    """Return ``value`` as plain JSON that shares nothing mutable with it.

    ``path`` says where the value will live, for messages. Raises `ContextError` with the path of what is
    refused, as the module says. Values may be nested and connected in any way: nothing here recurses.
    """
    plain: JSON = value
    kind = _type_of(value)
    if kind is bool or value is None or (kind is int and -_LONG_INT < value < _LONG_INT):
        return plain
    if kind is float and isfinite(value):
        return plain
    if kind is str and len(value) * 6 < limits.value_bytes and value.isascii() and "\0" not in value:
        return plain
    return _Conversion(path, limits).run(value)


def encode(value: JSON) -> str:
    """Return the text of what `to_json` returned: compact, exact, keys in their order."""
    return _encode(value).decode()


def decode(text: str | bytes) -> JSON:
    """Return the value that ``text`` writes. Raises `ContextError` if it is not JSON."""
    try:
        return cast(JSON, _decode(text))
    except (msgspec.DecodeError, UnicodeError) as error:
        raise ContextError(f"not readable as JSON, damaged or not written by cloacina: {error}") from error
    except RecursionError:
        raise ContextError("not readable as JSON: nested too deeply") from None


def read_object(text: str | bytes) -> dict[str, Any]:
    """Return the members of the JSON object that a user wrote, unchecked. Raises `ContextError` for any
    other text, and unlike `decode` for an object that has a key twice.
    """
    try:
        value: object = json.loads(text, object_pairs_hook=_unique)
    except RecursionError:
        raise ContextError("not a JSON object: nested too deeply") from None
    except ValueError as error:
        raise ContextError(f"not a JSON object: {error}") from error
    if not isinstance(value, dict):
        raise ContextError(f"not a JSON object: {shorten(value)}")
    return cast(dict[str, Any], value)


def encoded_size(value: JSON) -> int:
    """How many bytes of UTF-8 the text of ``value`` has."""
    return len(_encode(value))


def copy_json(value: JSON) -> JSON:
    """Return a deep copy of what `to_json` returned. By way of its text: several times faster than a walk."""
    return cast(JSON, _decode(_encode(value)))


@dataclass(slots=True)
class _Node:
    """A container on the way: where it stands, and what it is."""

    parent: _Node | None
    step: str | int
    source: object
    depth: int


class _Conversion:
    """One value on its way to JSON: what is still to be filled, and how heavy it is so far."""

    __slots__ = ("limits", "most", "path", "todo", "weight")

    def __init__(self, path: str, limits: Limits) -> None:
        self.path = path
        self.limits = limits
        self.weight = _NUMBER_WEIGHT
        self.most = limits.value_bytes * _WEIGHT_RATIO
        self.todo: list[tuple[_Node, Iterable[Any], list[JSON] | dict[str, JSON]]] = []

    def run(self, value: Any) -> JSON:
        result = self._place(value, None, "")
        while self.todo:
            node, source, out = self.todo.pop()
            if isinstance(out, dict):
                self._fill_object(node, source, out)
            else:
                self._fill_array(node, source, out)
        limit = self.limits.value_bytes
        if self.weight > limit and encoded_size(result) > limit:
            self._refuse_size(None, "")
        return result

    def _fill_array(self, node: _Node, source: Iterable[Any], out: list[JSON]) -> None:
        append, place = out.append, self._place
        for index, item in enumerate(source):
            kind = _type_of(item)
            if kind is bool or item is None or (kind is int and -_LONG_INT < item < _LONG_INT):
                append(item)
            else:
                append(place(item, node, index))

    def _fill_object(self, node: _Node, source: Iterable[tuple[Any, Any]], out: dict[str, JSON]) -> None:
        place = self._place
        for key, item in source:
            if type(key) is not str or not key.isprintable():
                key = self._key(key, node)
            self.weight += 6 * len(key) + 4
            kind = _type_of(item)
            if kind is bool or item is None or (kind is int and -_LONG_INT < item < _LONG_INT):
                out[key] = item
            else:
                out[key] = place(item, node, key)

    def _place(self, value: Any, parent: _Node | None, step: str | int) -> JSON:
        """The JSON for one value. Containers come back empty, and are queued to be filled."""
        kind = _type_of(value)
        plain: JSON = value
        if kind is str:
            return self._text(value, parent, step)
        if kind is list or kind is dict:
            return self._open(value, value, parent, step)
        if kind is float:
            if not isfinite(value):
                self._refuse(f"{value} is not JSON; store None or a text instead", parent, step)
            return plain
        if kind is int:
            return self._int(value, parent, step)
        if kind is bool or value is None:
            return plain
        return self._other(value, parent, step)

    def _open(
        self,
        origin: object,
        source: list[object] | dict[object, object],
        parent: _Node | None,
        step: str | int,
    ) -> JSON:
        """Queue ``source``, which is ``origin`` or made from it, and return its empty container."""
        node = _Node(parent, step, origin, parent.depth + 1 if parent else 1)
        if node.depth > self.limits.depth:
            self._refuse(f"nested deeper than {self.limits.depth} levels", parent, step, node)
        # Checked before a single member is copied: each takes two bytes at least.
        if len(source) * 2 > self.limits.value_bytes or self.weight > self.most:
            self._refuse_size(parent, step, node)
        self.weight += 3 + _NUMBER_WEIGHT * len(source)
        if isinstance(source, dict):
            members: dict[str, JSON] = {}
            self.todo.append((node, source.items(), members))
            return members
        items: list[JSON] = []
        self.todo.append((node, source, items))
        return items

    def _text(self, value: str, parent: _Node | None, step: str | int) -> str:
        self.weight += 6 * len(value)
        if len(value) > self.limits.value_bytes or self.weight > self.most:
            self._refuse_size(parent, step)
        if ("\0" in value or not value.isascii()) and (problem := _bad_text(value)):
            self._refuse(problem, parent, step)
        return value

    def _key(self, key: object, node: _Node) -> str:
        """Check a key that is not an ordinary one."""
        if not isinstance(key, str):
            self._refuse(f"the key {shorten(key)} is not a string; write str(key)", node.parent, node.step)
        key = str.__str__(key)
        if problem := _bad_text(key):
            self._refuse(f"the key {shorten(key)} has {problem}", node.parent, node.step)
        return key

    def _int(self, value: int, parent: _Node | None, step: str | int) -> int:
        if not -_INT_BOUND < value < _INT_BOUND:
            problem = f"{shorten(value)} has more than {INT_DIGITS} digits; store it as text"
            self._refuse(problem, parent, step)
        self.weight += value.bit_length() // 3
        if self.weight > self.most:
            self._refuse_size(parent, step)
        return value

    def _other(self, value: object, parent: _Node | None, step: str | int) -> JSON:
        """The JSON for a value whose type is not exactly a JSON type."""
        plain: object = NO_FORM
        try:
            plain = json_form(value)
        except Exception as error:  # the user's own code ran: properties, mappings, serialisers
            self._refuse(f"{type_name(value)} cannot be read: {shorten(str(error))}", parent, step)
        if plain is NO_FORM:
            self._refuse(f"{type_name(value)} has no JSON form; {advice(value)}", parent, step)
        if isinstance(plain, bytes | bytearray):
            if len(plain) > self.limits.value_bytes:
                self._refuse_size(parent, step)
            return self._text(base64.b64encode(plain).decode(), parent, step)
        if isinstance(plain, list | dict):
            return self._open(value, cast(list[object], plain), parent, step)
        return self._place(plain, parent, step)

    def _refuse_size(self, parent: _Node | None, step: str | int, node: _Node | None = None) -> NoReturn:
        limit = self.limits.value_bytes
        problem = (
            f"its text as JSON is over {limit:,} bytes; store a file name or a row id instead, or raise the "
            "limit in the settings"
        )
        self._refuse(problem, parent, step, node)

    def _refuse(
        self, problem: str, parent: _Node | None, step: str | int, node: _Node | None = None
    ) -> NoReturn:
        """Raise for what stands at ``step`` of ``parent``; ``node`` if it is a container."""
        trail = [node or _Node(parent, step, None, 0)]
        while (above := trail[-1].parent) is not None:
            trail.append(above)
        trail.reverse()
        seen: set[int] = set()
        for length, link in enumerate(trail):
            if id(link.source) in seen:
                problem, trail = "contains itself", trail[: length + 1]
                break
            if link.source is not None:
                seen.add(id(link.source))
        path = join_path(self.path, *(link.step for link in trail[1:]))
        raise ContextError(f"cannot store {path or 'the value'}: {problem}", path=path)


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members: dict[str, object] = {}
    for key, value in pairs:
        if key in members:
            raise ContextError(f"not a JSON object: it has the key {shorten(key)} twice")
        members[key] = value
    return members


def _bad_text(value: str) -> str | None:
    """What is wrong with a text, or None."""
    if "\0" in value:
        return f"a NUL character at position {value.index(chr(0))}, which not every database can store"
    try:
        value.encode()
    except UnicodeEncodeError as error:
        return f"a lone surrogate at position {error.start}, which UTF-8 cannot write"
    return None
