"""A key: the name of a context value together with its type, and how branches merge it.

::

    QUALITY = Key("data_quality_score", int)
    NOTE: Key[str | None] = Key("note", str | None)           # any type form, once annotated
    TOTAL = Key("total", int, merge=operator.add)             # Workflow(keys=[TOTAL])

    ctx[QUALITY] = 83                                         # checked by mypy, and when it runs
    trigger_rules=task_success(process_data) & (QUALITY > 80)
"""

from __future__ import annotations

import builtins
import typing
from collections.abc import Callable
from types import NoneType, UnionType
from typing import Any, Generic, Literal, Never, NoReturn, TypeVar, Union, cast, final, overload

import msgspec

from cloacina.errors import ContextError, WorkflowError
from cloacina.model.json.paths import join_path, shorten
from cloacina.model.json.typed import misfit, reader
from cloacina.model.json.values import DEFAULT_LIMITS, JSON, Limits, encode, to_json
from cloacina.model.rules import Condition, ContextValue, ValueOperator

T = TypeVar("T")


@final
class Key(Generic[T]):
    """The name and the type of a context value. Equal if name, type and merge function are.

    ``type`` is whatever msgspec can decode: built-in types, dataclasses, Structs, enums, unions, and pydantic
    models. A type checker needs help with a union: ``LIMIT: Key[int | None] = Key("limit", int | None)``.
    ``merge(current, new)`` joins what two branches wrote without seeing each other's value.

    Reading through a key decodes the value; what comes back is the value in the context itself, so that
    changes in place are kept, only if the type is made of JSON types alone. Anything else is a copy, to be
    assigned again.

    Raises `WorkflowError` if the name is empty or not storable, or the type cannot be decoded.
    """

    __slots__ = ("_decode", "exact", "merge", "name", "plain", "type")

    name: str
    """The context key."""
    type: object
    """The type form."""
    merge: Callable[[T, T], object] | None
    """Joins what two branches wrote, or None."""
    exact: builtins.type[Any] | None
    """The scalar class that values have exactly, which spares decoding; None for all other types."""
    plain: bool
    """Whether the type is made of JSON types alone."""
    _decode: Callable[[str], T] | None

    # Three forms, so that no call with a merge function of unknown types fits two of them.
    @overload
    def __init__(
        self, name: str, type: builtins.type[T], *, merge: Callable[[T, T], object] | None = None
    ) -> None: ...
    @overload
    def __init__(self, name: str, type: object) -> None: ...
    @overload
    def __init__(self, name: str, type: UnionType, *, merge: Callable[[T, T], object]) -> None: ...
    def __init__(self, name: str, type: object, *, merge: Callable[[T, T], object] | None = None) -> None:
        put = object.__setattr__
        put(self, "name", _checked_name(name))
        put(self, "type", type)
        put(self, "merge", merge)
        put(self, "exact", type if type is int or type is str or type is bool or type is float else None)
        put(self, "plain", _is_plain(type))
        try:
            put(self, "_decode", reader(type))
        except NameError:  # a type that is declared further down; made at the first use
            put(self, "_decode", None)
        except TypeError as error:
            raise WorkflowError(f"{self!r}: values of this type cannot be read back: {error}") from error
        if merge is not None and not callable(merge):
            raise WorkflowError(f"{self!r}: merge must be a function of (current, new), not {shorten(merge)}")

    def decode(self, value: JSON) -> T:
        """Return ``value`` as the key's type, sharing nothing mutable with it.

        Raises `ContextError` with the path if it does not fit.
        """
        if builtins.type(value) is self.exact:
            return cast(T, value)
        decode = self._decode
        if decode is None:
            decode = reader(self.type)
            object.__setattr__(self, "_decode", decode)
        try:
            return cast(T, decode(encode(value)))
        except msgspec.ValidationError as error:
            path, problem = misfit(error, join_path("", self.name))
            raise ContextError(f"{path} does not fit {self!r}: {problem}", path=path) from error

    def encode(self, value: T, limits: Limits = DEFAULT_LIMITS) -> JSON:
        """Return ``value`` as JSON. Raises `ContextError` if it cannot be stored or read back as the type."""
        plain = to_json(value, join_path("", self.name), limits)
        if builtins.type(plain) is not self.exact:
            self.decode(plain)
        return plain

    def equals(self, value: object) -> Condition:
        """Holds if the context has this value."""
        return self._condition(ValueOperator.EQUALS, value)

    def not_equals(self, value: object) -> Condition:
        """Holds if the context has another value, or none."""
        return self._condition(ValueOperator.NOT_EQUALS, value)

    def contains(self, value: object) -> Condition:
        """Holds if the text has this part, the list this element, or the object this key."""
        return self._condition(ValueOperator.CONTAINS, value)

    def not_contains(self, value: object) -> Condition:
        """Holds if `contains` does not."""
        return self._condition(ValueOperator.NOT_CONTAINS, value)

    def exists(self) -> Condition:
        """Holds if the context has the key."""
        return ContextValue(self.name, ValueOperator.EXISTS)

    def not_exists(self) -> Condition:
        """Holds if the context does not have the key."""
        return ContextValue(self.name, ValueOperator.NOT_EXISTS)

    def __lt__(self, value: object) -> Condition:
        return self._condition(ValueOperator.LESS_THAN, value)

    def __le__(self, value: object) -> Condition:
        return self._condition(ValueOperator.LESS_OR_EQUAL, value)

    def __gt__(self, value: object) -> Condition:
        return self._condition(ValueOperator.GREATER_THAN, value)

    def __ge__(self, value: object) -> Condition:
        return self._condition(ValueOperator.GREATER_OR_EQUAL, value)

    def __and__(self, other: Never) -> NoReturn:
        self._refuse_mix(f"({self.name} > 80) & {_shown(other)}")

    def __rand__(self, other: Never) -> NoReturn:
        self._refuse_mix(f"{_shown(other)} & ({self.name} > 80)")

    def __or__(self, other: Never) -> NoReturn:
        self._refuse_mix(f"({self.name} > 80) | {_shown(other)}")

    def __ror__(self, other: Never) -> NoReturn:
        self._refuse_mix(f"{_shown(other)} | ({self.name} > 80)")

    def __invert__(self) -> NoReturn:
        self._refuse_mix(f"~({self.name} > 80)")

    def __bool__(self) -> NoReturn:
        self._refuse_mix(f"({self.name} > 80) & task_success(...)")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Key) and self._parts() == other._parts()

    def __hash__(self) -> int:
        return hash((Key, self.name))

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"a Key never changes: {name!r} cannot be set; make another Key")

    def __repr__(self) -> str:
        return f"Key({self.name!r}, {_type_name(self.type)})"

    def _parts(self) -> tuple[object, ...]:
        return self.name, self.type, self.merge

    def _condition(self, operator: ValueOperator, value: object) -> Condition:
        if isinstance(value, Key | Condition):
            raise WorkflowError(
                f"{self!r} is compared with {value!r}: a rule compares a key with a JSON value. Beside & and | "
                f"put parentheses around each comparison: ({self.name} > 80) & task_success(...)"
            )
        return ContextValue(self.name, operator, value)

    def _refuse_mix(self, correct: str) -> NoReturn:
        raise WorkflowError(
            f"{self!r} alone is no condition. & and | bind tighter than a comparison, so put parentheses around "
            f"it: {correct}; or write .equals(...), .contains(...) or .exists()"
        )


def _checked_name(name: object) -> str:
    if not isinstance(name, str) or not name:
        raise WorkflowError(
            f"a Key needs the name of a context key, a string that is not empty; got {name!r}"
        )
    try:
        return cast(str, to_json(name))
    except ContextError as error:
        raise WorkflowError(f"no context can have the key {shorten(name)}: {error}") from error


def _is_plain(form: object) -> bool:
    """Whether a type form is made of JSON types alone."""
    todo = [form]
    seen: list[object] = []
    while todo:
        part = todo.pop()
        origin, arguments = typing.get_origin(part), typing.get_args(part)
        if any(part is known for known in (*_PLAIN, *seen)) or origin is Literal:
            continue
        seen.append(part)
        if typing.is_typeddict(part):
            try:
                todo.extend(typing.get_type_hints(part).values())
            except NameError:
                return False
        elif origin in (list, Union, UnionType) or (origin is dict and arguments[0] is str):
            todo.extend(arguments)
        else:
            return False
    return True


_PLAIN = (str, int, float, bool, None, NoneType, list, dict, object, Any)


def _type_name(form: object) -> str:
    return form.__qualname__ if isinstance(form, type) and not typing.get_args(form) else str(form)


def _shown(operand: object) -> str:
    return operand.name if isinstance(operand, Key) else repr(operand)
