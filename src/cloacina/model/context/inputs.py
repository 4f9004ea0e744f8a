"""An input model: the type that the input of a workflow's executions must fit.

It is a TypedDict, a dataclass, a `msgspec.Struct` or a pydantic model (or dataclass), and pydantic is never
imported here: a class can only be one of its models if somebody imported it. An input is read as the model and
written again, so that what is stored has the model's conversions made and its defaults filled in.
"""

from __future__ import annotations

import dataclasses
import functools
import sys
from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Any, NoReturn, TypeAlias, TypeVar, cast, final, get_origin

import msgspec

from cloacina.errors import InputError
from cloacina.model.definition.hints import LISTED, did_you_mean, listing, shown
from cloacina.model.json.forms import NO_FORM, json_form
from cloacina.model.json.paths import join_path
from cloacina.model.json.typed import misfit, reader
from cloacina.model.json.values import JSON, encode

T = TypeVar("T")

_EXAMPLE = "a TypedDict, a dataclass, a msgspec.Struct or a pydantic model"
_MISSING = "object missing required field `"


@final
class InputModel:
    """What a workflow was given as ``inputs=``. Raises `InputError` for what is no model."""

    __slots__ = ("_kind", "keys", "model", "name")

    def __init__(self, model: object) -> None:
        self._kind = _kind_of(model)
        self.model = model
        self.name = _name(model)
        self.keys: frozenset[str] | None = None if self._kind.open else frozenset(self._kind.keys)
        """The context keys that an input can have; None if it can have any."""

    def opened(self, input: object) -> object:
        """An instance of the model in terms of JSON types, other inputs as they are."""
        base = self._kind.base
        if issubclass(base, Mapping) or not isinstance(input, base):
            return input
        try:
            return self._kind.write(input)
        except Exception:  # what cannot be stored is told, with its path, by who stores it
            return input

    def fit(self, data: dict[str, JSON], where: str) -> dict[str, Any]:
        """``data`` as the model reads and writes it: converted, with its defaults.

        ``where`` says whose input it is, for messages. Raises `InputError` if it does not fit, or has a name
        that the model does not have.
        """
        self._refuse_unknown(data, where)
        written = self._kind.write(_read(self._kind, encode(data), where, self.name))
        if not isinstance(written, dict):
            raise InputError(f"{where}: {self.name} writes {type(written).__name__} and no JSON object")
        again = f"{where}: what {self.name} writes of it cannot be read again, so it cannot be stored. It"
        _read(self._kind, encode(cast(JSON, written)), again, self.name)
        return cast("dict[str, Any]", written)

    def _refuse_unknown(self, data: Mapping[str, JSON], where: str) -> None:
        if self._kind.lenient:
            return
        unknown = [name for name in data if name not in self._kind.accepted]
        if unknown:
            hint = did_you_mean(unknown[0], self._kind.keys)
            raise InputError(
                f"{where} has {listing(unknown)}, which {self.name} does not have.{hint} "
                f"It has {listing(sorted(self._kind.keys))}",
                paths=tuple(join_path("", name) for name in unknown),
            )

    def __repr__(self) -> str:
        return f"InputModel({self.name})"


def input_as(model: type[T], text: str) -> T:
    """The input whose JSON is ``text`` as ``model``; names that it does not have are left out.

    Raises `InputError` with the paths of what does not fit.
    """
    return cast(T, _read(_kind_of(model), text, "the input of this execution", _name(model)))


class _Plain:
    """TypedDicts, dataclasses and Structs: what msgspec reads by itself."""

    lenient = False
    """True if the model says itself what becomes of names that it does not have."""
    open = False
    """True if it keeps them."""

    def __init__(self, model: object, base: type[Any], keys: Iterable[str]) -> None:
        self.base = base
        self.keys = list(keys)
        """The names that it writes."""
        self.accepted = frozenset(self.keys)
        self._model = model
        self._reader: Callable[[str], Any] | None = None
        try:
            self._reader = reader(model)
        except NameError:
            pass  # it names a type that is declared further down; made at the first use
        except TypeError as error:
            raise InputError(f"inputs={shown(model)} cannot be read back from JSON: {error}") from error

    def read(self, text: str) -> Any:
        if self._reader is None:
            self._reader = reader(self._model)
        return self._reader(text)

    def write(self, value: Any) -> object:
        return _written(value)


class _Pydantic:
    """Models and dataclasses of pydantic, which must be there."""

    def __init__(self, model: object, base: type[Any], pydantic: Any) -> None:
        self.base = base
        self._model = model
        self._pydantic = pydantic
        self._computed = set(getattr(base, "model_computed_fields", ()))
        extra = (getattr(base, "model_config", None) or getattr(base, "__pydantic_config__", {})).get("extra")
        self.lenient, self.open = extra in ("allow", "ignore"), extra == "allow"
        fields: Mapping[str, Any] = getattr(base, "__pydantic_fields__", None) or base.model_fields
        self.keys = [field.serialization_alias or field.alias or name for name, field in fields.items()]
        self.accepted = frozenset(
            alias for name, field in fields.items() for alias in (name, *_aliases(field.validation_alias))
        ).union(self.keys)

    @functools.cached_property
    def _adapter(self) -> Any:
        return self._pydantic.TypeAdapter(self._model)  # at the first use, when what it names is declared

    def read(self, text: str) -> Any:
        return self._adapter.validate_json(text)

    def write(self, value: Any) -> object:
        return self._adapter.dump_python(
            value, mode="json", by_alias=True, exclude=self._computed, warnings=False
        )


_Kind: TypeAlias = _Plain | _Pydantic


def _kind_of(model: object) -> _Kind:
    return _made_kind(model) if isinstance(model, Hashable) else _no_model(model)


@functools.lru_cache(maxsize=256)
def _made_kind(model: object) -> _Kind:
    base: type[Any] | object = get_origin(model) or model
    if not isinstance(base, type):
        return _no_model(model)
    kind = cast("type[Any]", base)
    pydantic: Any = sys.modules.get("pydantic")
    if pydantic is not None and hasattr(kind, "__pydantic_validator__"):
        if getattr(kind, "__pydantic_root_model__", False):
            raise InputError(f"inputs={shown(model)} is no JSON object: make it a field of a model")
        return _Pydantic(model, kind, pydantic)
    if issubclass(kind, msgspec.Struct):
        return _Plain(model, kind, _struct_keys(model, kind))
    if dataclasses.is_dataclass(kind):
        return _Plain(model, kind, [field.name for field in dataclasses.fields(kind)])
    named: Any = kind
    if issubclass(kind, dict) and hasattr(named, "__total__"):  # typing's, and typing_extensions'
        return _Plain(model, named, named.__required_keys__ | named.__optional_keys__)
    return _no_model(model)


def _no_model(model: object) -> NoReturn:
    raise InputError(f"{shown(model)} is no model of an input: write {_EXAMPLE}")


def _struct_keys(model: object, base: type[msgspec.Struct]) -> list[str]:
    config = base.__struct_config__
    if config.array_like:
        raise InputError(f"inputs={shown(model)} is written as an array: take array_like=True out")
    tag = [] if config.tag is None else [str(config.tag_field)]
    return [*tag, *base.__struct_encode_fields__]


def _aliases(alias: object) -> Iterable[str]:
    """The names at the top of the input that an alias of pydantic stands for."""
    for choice in getattr(alias, "choices", [alias]):
        first = choice if isinstance(choice, str) else getattr(choice, "path", [None])[0]
        if isinstance(first, str):
            yield first


def _read(kind: _Kind, text: str, where: str, name: str) -> Any:
    try:
        return kind.read(text)
    except Exception as error:  # the model's own validators may raise anything
        problems = list(_problems(error))
        told = "; ".join(f"{path}: {problem}" if path else problem for path, problem in problems[:LISTED])
        more = f"; and {len(problems) - LISTED} more" if len(problems) > LISTED else ""
        paths = tuple(path for path, _ in problems)
        raise InputError(f"{where} does not fit {name}: {told}{more}", paths=paths) from error


def _problems(error: Exception) -> Iterable[tuple[str, str]]:
    """What did not fit: the path to it, and what is wrong there."""
    pydantic: Any = sys.modules.get("pydantic")
    if pydantic is not None and isinstance(error, pydantic.ValidationError):
        for found in cast(Any, error).errors(include_url=False, include_context=False, include_input=False):
            message: str = found["msg"]
            yield join_path("", *found["loc"]), f"{message[:1].lower()}{message[1:]}"
    elif isinstance(error, msgspec.ValidationError):
        path, problem = misfit(error)
        if problem.startswith(_MISSING):
            path, problem = join_path(path, problem.removeprefix(_MISSING).rstrip("`")), "it is missing"
        yield path, problem
    else:
        yield "", f"{type(error).__name__}: {error}"


def _written(value: Any) -> object:
    """``value`` in terms of JSON types; with all defaults, which msgspec's own writer would leave out."""
    if isinstance(value, (set, frozenset)):
        items = [cast(JSON, _written(item)) for item in cast("set[object]", value)]
        return sorted(items, key=encode)  # in every process alike
    form = json_form(value)
    if form is NO_FORM:
        return msgspec.to_builtins(value)  # what it reads and a context does not store as it is: a timedelta
    if isinstance(form, dict):
        members = cast("dict[object, object]", form).items()
        return {_written_key(key): _written(member) for key, member in members}
    return [_written(item) for item in cast("list[object]", form)] if isinstance(form, list) else form


def _written_key(key: object) -> str:
    return key if type(key) is str else next(iter(msgspec.to_builtins({key: None}, str_keys=True)))


def _name(model: object) -> str:
    return model.__qualname__.rpartition("<locals>.")[2] if isinstance(model, type) else str(model)
