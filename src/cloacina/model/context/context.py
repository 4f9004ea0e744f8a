"""A context: the JSON document that an execution carries, as one body sees and changes it.

It stands over a base that it never changes, and keeps beside it what the body did: values that were assigned
or removed, and copies of the lists and objects that were read, since those may be changed in place. So making
one costs nothing, and `Context.patch` costs what was touched.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, MutableMapping
from difflib import get_close_matches
from typing import Any, TypeVar, cast, overload

from cloacina.errors import CheckpointError, ContextError, ContextKeyError
from cloacina.model.context.guard import READ_ONLY, Guard, Watch
from cloacina.model.context.handle import Checkpoints
from cloacina.model.context.inputs import input_as
from cloacina.model.context.keys import Key
from cloacina.model.json.patch import Patch, check_size, diff, size_bound
from cloacina.model.json.patch import apply as apply_patch
from cloacina.model.json.paths import join_path, shorten
from cloacina.model.json.values import (
    DEFAULT_LIMITS,
    JSON,
    Limits,
    copy_json,
    encode,
    encoded_size,
    read_object,
    to_json,
)

T = TypeVar("T")
D = TypeVar("D")

_KEY: Any = Key  # does not narrow an Any
_ABSENT: Any = object()  # in _own: removed; as a default: none was given
_UNTOUCHED: Any = object()
_SHOWN_KEYS, _MATCHED_KEYS = 8, 100


class Context(MutableMapping[str, Any]):
    """A mapping from names to JSON values. Assigned values are converted, checked and copied.

    A plain name reads plain JSON; lists and objects that were read may be changed in place. A `Key` reads
    and writes values of its type. ``values`` is a mapping to start from; ``limits`` bound what is stored.

    Raises `ContextError` with the path of a value that cannot be stored, and `ContextKeyError` (a `KeyError`)
    for a name that is missing. What raises has changed nothing. A context belongs to one body and is not
    shared between threads.
    """

    __slots__ = ("_base", "_checkpoints", "_guard", "_input", "_limits", "_live", "_own")

    def __init__(self, values: Mapping[str, Any] | None = None, *, limits: Limits = DEFAULT_LIMITS) -> None:
        self._base: dict[str, JSON] = {}
        self._input: dict[str, JSON] | str | None = None
        self._limits = limits
        self._guard: Guard | None = None
        self._checkpoints: Checkpoints | None = None
        self._own: dict[str, JSON] = {}
        self._live: dict[str, Any] = {}
        if values is not None:
            if not isinstance(cast(object, values), Mapping):
                raise ContextError(f"a context is made from a mapping, not from {shorten(values)}")
            base = dict(_converted(name, value, limits) for name, value in values.items())
            check_size(base, encoded_size(base), limits)
            self._base = base

    @classmethod
    def over(
        cls,
        base: dict[str, JSON],
        limits: Limits = DEFAULT_LIMITS,
        *,
        read_only: bool = False,
        input: dict[str, JSON] | str | None = None,
        checkpoints: Checkpoints | None = None,
    ) -> Context:
        """Return a context over ``base``, which must be checked already and is neither copied nor changed.

        ``input`` is that of its execution, or the text of it; by default it is ``base``. ``checkpoints`` stores
        those of its body.
        """
        self = cls.__new__(cls)
        self._base = base
        self._input = input
        self._limits = limits
        self._guard = READ_ONLY if read_only else None
        self._checkpoints = checkpoints
        self._own = {}
        self._live = {}
        return self

    @classmethod
    def from_json(cls, text: str | bytes, *, limits: Limits = DEFAULT_LIMITS) -> Context:
        """Return the context that a JSON object describes. Raises `ContextError` for any other text.

        Stricter than most readers: an object that has a key twice is refused.
        """
        return cls(read_object(text), limits=limits)

    @overload
    def __getitem__(self, key: Key[T]) -> T: ...
    @overload
    def __getitem__(self, key: str) -> Any: ...
    def __getitem__(self, key: str | Key[Any]) -> Any:
        value = self._typed(key) if type(key) is Key else self._plain(key)
        if value is _ABSENT:
            raise self._missing(key)
        return value

    @overload
    def get(self, key: Key[T], default: None = None) -> T | None: ...
    @overload
    def get(self, key: Key[T], default: T) -> T: ...
    @overload
    def get(self, key: Key[T], default: D) -> T | D: ...
    @overload
    def get(self, key: str, default: Any = None) -> Any: ...
    # mypy finds that the overloads cover those of Mapping; pyright wants them one by one.
    def get(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, key: str | Key[Any], default: Any = None
    ) -> Any:
        value = self._typed(key) if type(key) is Key else self._plain(key)
        return default if value is _ABSENT else value

    def __setitem__(self, key: str | Key[T], value: T) -> None:
        if self._guard is not None:
            self._guard.refuse()
        name, plain = _converted(key, value, self._limits)
        self._own[name] = plain
        if self._live:
            self._live.pop(name, None)

    def __delitem__(self, key: str | Key[Any]) -> None:
        if self._guard is not None:
            self._guard.refuse()
        if key not in self:
            raise self._missing(key)
        name = _name(key)
        if name in self._base:
            self._own[name] = _ABSENT
        else:
            del self._own[name]
        self._live.pop(name, None)

    def __contains__(self, key: object) -> bool:
        name = _name(key)
        value = self._own.get(name, _UNTOUCHED)
        return name in self._base if value is _UNTOUCHED else value is not _ABSENT

    def __iter__(self) -> Iterator[str]:
        return iter(self._names())

    def __len__(self) -> int:
        return len(self._names())

    def insert(self, key: str | Key[T], value: T) -> None:
        """Add a value under a new key. Raises `ContextError` if the context has the key."""
        if key in self:
            name = _name(key)
            raise ContextError(
                f"the context has {shorten(name)} already; assign ctx[{shorten(name)}] to replace it",
                path=join_path("", name),
            )
        self[key] = value

    @overload
    def pop(self, key: Key[T]) -> T: ...
    @overload
    def pop(self, key: Key[T], default: T) -> T: ...
    @overload
    def pop(self, key: Key[T], default: D) -> T | D: ...
    @overload
    def pop(self, key: str, default: Any = ...) -> Any: ...
    def pop(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, key: str | Key[Any], default: Any = _ABSENT
    ) -> Any:
        value = self.get(key, _ABSENT)
        if value is not _ABSENT:
            del self[key]
            return value
        if self._guard is not None:
            self._guard.refuse()
        if default is _ABSENT:
            raise self._missing(key)
        return default

    @overload
    def setdefault(self, key: Key[T], default: T) -> T: ...
    @overload
    def setdefault(self, key: str, default: Any = None) -> Any: ...
    def setdefault(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, key: str | Key[Any], default: Any = None
    ) -> Any:
        """Return the value under ``key``, assigning ``default`` first if there is none."""
        if key not in self:
            self[key] = default
        return self[key]

    def update(  # type: ignore[override]
        self, other: Mapping[Any, Any] | Iterable[tuple[Any, Any]] = (), /, **more: Any
    ) -> None:
        """Assign all or, if one of them is refused, none. Keys are names or `Key`."""
        if self._guard is not None:
            self._guard.refuse()
        values: dict[Any, Any] = dict(other, **more)
        converted = [_converted(key, value, self._limits) for key, value in values.items()]
        for name, plain in converted:
            self._own[name] = plain
            self._live.pop(name, None)

    def clear(self) -> None:
        """Remove all keys."""
        for name in self._names():
            del self[name]

    def copy(self) -> Context:
        """Return an independent context with the same values, which may be changed."""
        source = self._base if self._input is None else self._input
        return Context.over(self._content(), self._limits, input=source)

    __copy__ = copy

    def __deepcopy__(self, memo: object) -> Context:
        return self.copy()

    def to_dict(self) -> dict[str, Any]:
        """Return the values as a plain dict that shares nothing with the context.

        Raises `ContextError` if something was changed in place to what cannot be stored, or all is too large.
        """
        return cast(dict[str, Any], copy_json(self._content()))

    def to_json(self) -> str:
        """Return the values as the text of a JSON object. Raises `ContextError` as `to_dict` does."""
        return encode(self._content())

    def input(self, model: type[T]) -> T:
        """Return the input that the execution was started with, as ``model``; whatever tasks changed since.

        ``model`` is a TypedDict, dataclass, `msgspec.Struct` or pydantic model, of the workflow's ``inputs=`` or
        another; names that it does not have are left out. A context that was made by hand is its own input.
        Raises `InputError` with the paths of what does not fit.
        """
        source = self._base if self._input is None else self._input
        return input_as(model, source if isinstance(source, str) else encode(source))

    @overload
    def checkpoint(self, name: Key[T], fn: Callable[[], Awaitable[T]]) -> Awaitable[T]: ...
    @overload
    def checkpoint(self, name: Key[T], fn: Callable[[], T]) -> Any: ...
    @overload
    def checkpoint(self, name: str, fn: Callable[[], Awaitable[Any]]) -> Awaitable[Any]: ...
    @overload
    def checkpoint(self, name: str, fn: Callable[[], Any]) -> Any: ...
    def checkpoint(self, name: str | Key[Any], fn: Callable[[], Any]) -> Any:
        """Return what ``fn()`` returned, now or in an earlier attempt of this task; it is called once.

        To be awaited in an ``async`` body, where ``fn`` may be ``async`` too; a plain call in a ``def`` body. The
        value is stored before this returns, and is given as JSON, or as the type of a `Key`: the same form in
        every attempt. If ``fn`` raises, nothing is stored, and the error goes on.

        Raises `CheckpointError`, which is never retried, if the name was used in this attempt already, ``fn``
        changes the context, its value cannot be stored, or no attempt that runs has this context.
        """
        if self._checkpoints is None:
            raise CheckpointError(
                f"checkpoint {_name(name)!r:.80}: no attempt that runs has this context: use checkpoints in the body "
                "of a task, while it runs"
            )
        return self._checkpoints.checkpoint(self, name, fn)

    def watch(self) -> Watch:
        """Return the watch that tells changes by functions of checkpoints from those by the body."""
        if not isinstance(self._guard, Watch):
            self._guard = Watch()
        return self._guard

    def patch(self) -> Patch:
        """Return what was changed since the context was made; ``{}`` if nothing was.

        The patch shares nothing with what the body can reach. Raises `ContextError` if something was changed
        in place to what cannot be stored, or if the whole context is too large now.
        """
        own, live, base = self._own, self._live, self._base
        if not own and not live:
            return {}
        after = {name: value for name, value in own.items() if value is not _ABSENT}
        for name, value in live.items():
            stored = own[name] if name in own else base[name]
            after[name] = stored if _unchanged(stored, value) else self._checked(name, value)
        before = {name: base[name] for name in (*own, *live) if name in base}
        patch = diff(before, after)
        if "set" in patch or "append" in patch or "patch" in patch:
            bound = size_bound(base) + encoded_size(cast(JSON, patch))
            if bound > self._limits.context_bytes:
                check_size(apply_patch(base, patch), bound, self._limits)
        return patch

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Context):
            return self._current() == other._current()
        return self._current() == other if isinstance(other, Mapping) else NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        names = self._names()
        shown = ", ".join(map(shorten, names[:_SHOWN_KEYS])) + (", …" if len(names) > _SHOWN_KEYS else "")
        return f"<Context with {len(names)} keys: {shown}>" if names else "<Context, empty>"

    def _plain(self, name: str) -> Any:
        """The value under ``name`` for the body to keep, or _ABSENT."""
        if self._guard is not None and self._guard.lends():
            return self._lent(name, self._guard)
        if self._live and name in self._live:
            return self._live[name]
        value = self._own.get(name, self._base.get(name, _ABSENT))
        kind = type(value)
        if kind is list or kind is dict:
            value = self._live[name] = copy_json(value)
        return value

    def _lent(self, name: str, guard: Guard) -> Any:
        """The value under ``name`` for code that may not change it, or _ABSENT."""
        if name in self._live:
            value = self._checked(name, self._live[name])
        else:
            value = self._own.get(name, self._base.get(name, _ABSENT))
        if isinstance(value, list | dict):
            value = copy_json(value)
            guard.lent(value)
        return value

    def _typed(self, key: Key[T]) -> Any:
        """The value under the key's name as its type, or _ABSENT."""
        name = key.name
        value = self._own.get(name, self._base.get(name, _ABSENT))
        if type(value) is key.exact or value is _ABSENT:
            return value
        if name in self._live:
            value = self._checked(name, self._live[name])
        decoded = key.decode(value)
        return self._plain(name) if key.plain else decoded

    def _checked(self, name: str, value: object) -> JSON:
        return to_json(value, join_path("", name), self._limits)

    def _names(self) -> list[str]:
        own, base = self._own, self._base
        if not own:
            return list(base)
        kept = [name for name in base if own.get(name) is not _ABSENT]
        return kept + [name for name in own if name not in base]

    def _current(self) -> dict[str, Any]:
        """The values as they are now, unchecked; shared."""
        values: dict[str, Any] = {**self._base, **self._own, **self._live}
        return {name: value for name, value in values.items() if value is not _ABSENT}

    def _content(self) -> dict[str, JSON]:
        """The values as they are now, checked; nothing in it can be changed by the body."""
        values = cast(dict[str, JSON], self._current())
        for name, value in self._live.items():
            values[name] = self._checked(name, value)
        check_size(values, encoded_size(values), self._limits)
        return values

    def _missing(self, key: object) -> ContextKeyError:
        name = _name(key)
        near = get_close_matches(str(name)[:60], [n for n in self._names()[:_MATCHED_KEYS] if len(n) <= 60])
        hint = f"; it has {', '.join(map(repr, near))}" if near else ""
        return ContextKeyError(f"the context has no key {shorten(name)}{hint}", path=join_path("", name))


def _name(key: Any) -> str:
    name: str = key.name if type(key) is _KEY else key
    return name


def _converted(key: Any, value: Any, limits: Limits) -> tuple[str, JSON]:
    """The name and the JSON to store for an assignment."""
    if type(key) is _KEY:
        return key.name, key.encode(value, limits)
    if type(key) is str and key.isprintable():
        return key, to_json(value, key, limits)
    if not isinstance(key, str):
        raise ContextError(f"the keys of a context are strings, not {shorten(key)}; write ctx[str(key)]")
    name = cast(str, to_json(key, f"the key {shorten(key)}", limits))
    return name, to_json(value, join_path("", name), limits)


def _unchanged(stored: JSON, value: object) -> bool:
    """Whether ``value``, which a body may have changed in place, is certainly the JSON that it was."""
    try:
        return value == stored and encode(cast(JSON, value)) == encode(stored)
    except Exception:  # something foreign was put in; the conversion will say what
        return False
