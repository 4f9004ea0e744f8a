"""The JSON form of Python values that are not JSON, one level at a time.

==========================================  =====================================================
Python                                      JSON
==========================================  =====================================================
None, bool, str, int, float                 the same; subclasses lose their class
list, tuple                                 array
dict and other mappings with string keys    object, in the same order
dataclass                                   object of its fields
msgspec.Struct                              as msgspec writes it: renamed fields, tag, array_like
pydantic model                              ``model_dump(mode="json", by_alias=True)``
datetime, date                              ISO 8601; UTC is written as Z
UUID, Decimal                               their text
Enum                                        its value
bytes, bytearray                            base64
==========================================  =====================================================

Sets have no form: their order differs from process to process, so the caller sorts them.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from math import inf, nan
from typing import Any, cast
from uuid import UUID

import msgspec

NO_FORM = object()
"""What `json_form` returns for a value that has none."""

_MINUTE = timedelta(minutes=1)


def json_form(value: object) -> object:
    """Return ``value`` in terms of JSON types and bytes, its parts as they are; or `NO_FORM`.

    May raise anything: the code of properties, mappings and serialisers runs.
    """
    while isinstance(value, Enum):
        value = cast(object, value.value)
    if value is None or isinstance(value, bool | bytes | bytearray):
        return value
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return int.__int__(value)
    if isinstance(value, float):
        return float.__float__(value)
    if isinstance(value, list | tuple):
        return list(cast(Iterable[object], value))
    if isinstance(value, Mapping):
        return dict(cast(Mapping[object, object], value).items())
    if isinstance(value, datetime):
        return _datetime_text(value)
    if isinstance(value, date):
        return date.isoformat(value)
    if isinstance(value, Decimal) and not value.is_finite():
        return inf if value.is_infinite() else nan  # refused like any other
    if isinstance(value, UUID | Decimal):
        return str(value)
    if isinstance(value, msgspec.Struct):
        return _struct_members(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    return _model_members(value)


def _datetime_text(value: datetime) -> str:
    offset = value.utcoffset()
    if offset is not None and offset % _MINUTE:
        value = value.astimezone(UTC)  # ISO 8601 knows no seconds in an offset
    text = datetime.isoformat(value)
    return f"{text[:-6]}Z" if text.endswith("+00:00") else text


def _struct_members(value: msgspec.Struct) -> list[object] | dict[str, object]:
    config = value.__struct_config__
    found = [getattr(value, name) for name in value.__struct_fields__]
    if config.array_like:
        return found if config.tag is None else [config.tag, *found]
    members: dict[str, object] = {} if config.tag is None else {str(config.tag_field): config.tag}
    for name, member in zip(value.__struct_encode_fields__, found, strict=True):
        if member is not msgspec.UNSET:
            members[name] = member
    return members


def _model_members(value: object) -> object:
    pydantic = sys.modules.get("pydantic")  # a value can only be a model if someone imported it
    base = getattr(pydantic, "BaseModel", None)
    if base is None or not isinstance(value, base):
        return NO_FORM
    return cast(Any, value).model_dump(mode="json", by_alias=True)


def type_name(value: object) -> str:
    """The type of a value, for a message."""
    return f"a value of type {type(value).__module__}.{type(value).__qualname__}"


def advice(value: object) -> str:
    """How to turn a value without a form into one that has one."""
    if isinstance(value, set | frozenset):
        return "write sorted(...), as a set has no order"
    if callable(getattr(value, "tolist", None)):
        return "write .tolist()"
    return (
        "use JSON types, dataclasses, Structs, pydantic models, datetime, date, UUID, Decimal, Enum or bytes"
    )
