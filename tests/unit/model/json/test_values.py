"""JSON values: what is stored exactly, what is refused, and where (F095 to F100)."""

from __future__ import annotations

import json
from collections import OrderedDict, UserDict, defaultdict, namedtuple
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum, IntFlag, StrEnum
from types import MappingProxyType
from typing import Any
from uuid import UUID

import msgspec
import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloacina.errors import ContextError, ValidationError
from cloacina.model.json.values import INT_DIGITS, Limits, copy_json, decode, encode, read_object, to_json

scalars = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
)  # fmt: skip
documents = st.recursive(
    scalars,
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=["C"])), inner),
)


class Colour(Enum):
    RED = "red"
    PAIR = (1, "x")
    NESTED = IntEnum("Inner", {"A": 5}).A


class Level(IntEnum):
    HIGH = 3


class Word(StrEnum):
    ONE = "one"


class Bits(IntFlag):
    A = 1
    B = 2


class Text(str):
    def __str__(self) -> str:
        return "not this"


class Half(float):
    pass


class Seven(int):
    pass


Point = namedtuple("Point", "x y")


@dataclass
class Order:
    id: int
    lines: list[Any] = field(default_factory=list)
    when: date | None = None


@dataclass(frozen=True, slots=True)
class Slotted:
    x: int


class Renamed(msgspec.Struct, rename="camel", tag="renamed"):
    first_name: str
    age: int | msgspec.UnsetType = msgspec.UNSET


class Row(msgspec.Struct, array_like=True, tag="row"):
    a: int
    b: list[int]


class Default(msgspec.Struct, omit_defaults=True):
    a: int = 1


class Model(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(arbitrary_types_allowed=True)
    name: str = pydantic.Field(alias="theName")
    at: datetime
    score: float = 1.0
    any: Any = None


AT = datetime(2024, 5, 1, 12, 30, 0, 5, UTC)

STORED: list[tuple[object, object]] = [
    (None, None),
    (True, True),
    (0, 0),
    (-0.0, -0.0),
    (1.0, 1.0),
    (2**63, 2**63),
    (2**64, 2**64),
    (-(2**70), -(2**70)),
    (10**400, 10**400),
    (10**INT_DIGITS - 1, 10**INT_DIGITS - 1),
    (5e-324, 5e-324),
    (1.7976931348623157e308, 1.7976931348623157e308),
    ("", ""),
    ("\u00e9", "\u00e9"),
    ("e\u0301", "e\u0301"),
    ("\U0001f600\u2028\x7f\x01\n\"\\", "\U0001f600\u2028\x7f\x01\n\"\\"),
    ({"": 1, " ": 2, "\n": 3}, {"": 1, " ": 2, "\n": 3}),
    ({"\u00e9": 1, "e\u0301": 2}, {"\u00e9": 1, "e\u0301": 2}),
    ((1, (2, [3])), [1, [2, [3]]]),
    (Point(1, 2), [1, 2]),
    (OrderedDict(b=1, a=2), {"b": 1, "a": 2}),
    (defaultdict(int, a=1), {"a": 1}),
    (MappingProxyType({"a": (1,)}), {"a": [1]}),
    (UserDict(a=1), {"a": 1}),
    (Text("this"), "this"),
    ({Text("key"): Text("this")}, {"key": "this"}),
    ({Word.ONE: Word.ONE}, {"one": "one"}),
    (Seven(7), 7),
    (Half(0.5), 0.5),
    (Level.HIGH, 3),
    (Colour.RED, "red"),
    (Colour.PAIR, [1, "x"]),
    (Colour.NESTED, 5),
    (Bits.A | Bits.B, 3),
    (b"\x00\xff", "AP8="),
    (bytearray(b"ab"), "YWI="),
    (AT, "2024-05-01T12:30:00.000005Z"),
    (AT.replace(tzinfo=None, microsecond=0), "2024-05-01T12:30:00"),
    (datetime(2024, 5, 1, tzinfo=timezone(timedelta(hours=2))), "2024-05-01T00:00:00+02:00"),
    (datetime(1890, 1, 1, tzinfo=timezone(timedelta(seconds=1172))), "1889-12-31T23:40:28Z"),
    (date(2024, 5, 1), "2024-05-01"),
    (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
    (Decimal("1.50"), "1.50"),
    (Decimal("1E+5"), "1E+5"),
    (Order(1, [Order(2)]), {"id": 1, "lines": [{"id": 2, "lines": [], "when": None}], "when": None}),
    (Slotted(1), {"x": 1}),
    (Renamed("a"), {"type": "renamed", "firstName": "a"}),
    (Renamed("a", 3), {"type": "renamed", "firstName": "a", "age": 3}),
    (Row(1, [2]), ["row", 1, [2]]),
    (Default(), {"a": 1}),
    (Model(theName="n", at=AT), {"theName": "n", "at": "2024-05-01T12:30:00.000005Z", "score": 1.0, "any": None}),
]  # fmt: skip


@pytest.mark.parametrize(("value", "expected"), STORED, ids=lambda value: repr(value)[:30])
def test_stores(value: object, expected: object) -> None:
    stored = to_json(value)
    assert repr(stored) == repr(expected)
    assert repr(decode(encode(stored))) == repr(expected)


@given(documents)
def test_json_is_stored_exactly_and_in_order(value: Any) -> None:
    stored = to_json(value)
    assert repr(stored) == repr(value)
    text = encode(stored)
    assert repr(decode(text)) == repr(value)
    assert repr(json.loads(text)) == repr(value)
    assert repr(copy_json(stored)) == repr(value)


def test_shares_nothing_mutable() -> None:
    inner: list[Any] = [1]
    stored: Any = to_json({"a": inner, "b": inner})
    inner.append(2)
    assert stored == {"a": [1], "b": [1]}
    stored["a"].append(3)
    assert stored["b"] == [1]


def nested(depth: int, bottom: object = 1) -> object:
    value = bottom
    for _ in range(depth):
        value = [value]
    return value


def cycle(kind: str) -> object:
    inner: dict[str, Any] = {}
    value: Any = {"list": [inner], "dict": inner, "dataclass": Order(1, [inner])}[kind]
    inner["again"] = value
    return {"top": value}


def laughs() -> object:
    value: object = "ha"
    for _ in range(99):
        value = [value, value]
    return value


class Broken(dict[str, Any]):
    def items(self) -> Any:
        raise RuntimeError("no items today")


def chain(length: int) -> Model:
    model = Model(theName="n", at=AT)
    for _ in range(length):
        model = Model.model_construct(name="n", at=AT, any=model)
    return model


REFUSED: list[tuple[object, str, str]] = [
    (float("nan"), "", "nan"),
    ([1, float("inf")], "[1]", "inf"),
    ({"a": {"b": -float("inf")}}, ".a.b", "inf"),
    (Half("nan"), "", "nan"),
    (Decimal("NaN"), "", "nan"),
    (Decimal("sNaN"), "", "nan"),
    (Decimal("-Infinity"), "", "inf"),
    (Order(1, [float("nan")]), ".lines[0]", "nan"),
    (Model(theName="n", at=AT, score=float("nan")), ".score", "nan"),
    ("a\0b", "", "NUL"),
    (["x", "a\ud800"], "[1]", "surrogate"),
    ({"\ud800": 1}, "", "surrogate"),
    ({"a": {"\0": 1}}, ".a", "NUL"),
    ({"a b": ["\0"]}, "['a b'][0]", "NUL"),
    ({1: 2}, "", "not a string"),
    ({None: 2}, "", "not a string"),
    ({True: 2}, "", "not a string"),
    ([{(1, 2): 3}], "[0]", "not a string"),
    ({b"a": 3}, "", "not a string"),
    ({Level.HIGH: 1}, "", "not a string"),
    (10**INT_DIGITS, "", "640 digits"),
    ([-(10**5000)], "[0]", "640 digits"),
    (cycle("list"), ".top[0].again", "contains itself"),
    (cycle("dict"), ".top.again", "contains itself"),
    (cycle("dataclass"), ".top.lines[0].again", "contains itself"),
    (nested(101), "", "deeper than 100"),
    (nested(100_000), "", "deeper than 100"),
    (chain(3000), "", "cannot be read"),
    ("x" * 1_000_000, "", "1,000,000 bytes"),
    (b"x" * 1_000_000, "", "1,000,000 bytes"),
    ({"a": ["x" * 600_000, "x" * 600_000]}, "", "1,000,000 bytes"),
    ([0] * 10_000_000, "", "1,000,000 bytes"),
    (dict.fromkeys(map(str, range(1_000_000))), "", "1,000,000 bytes"),
    (laughs(), "", "1,000,000 bytes"),
    ("\x01" * 200_000, "", "1,000,000 bytes"),
    ("\u20ac" * 400_000, "", "1,000,000 bytes"),
    ({1, 2}, "", "sorted"),
    ([frozenset()], "[0]", "sorted"),
    (object(), "", "builtins.object"),
    (1j, "", "complex"),
    (time(1), "", "datetime.time"),
    (timedelta(1), "", "timedelta"),
    (range(3), "", "range"),
    (iter([1]), "", "list_iterator"),
    (Order, "", "type"),
    (lambda: 1, "", "function"),
    (pytest, "", "module"),
    (memoryview(b"a"), "", ".tolist()"),
    (Broken(a=1), "", "no items today"),
    ({"a": [1, {"b": object()}]}, ".a[1].b", "object"),
]  # fmt: skip


@pytest.mark.parametrize(("value", "where", "why"), REFUSED, ids=range(len(REFUSED)))
def test_refuses_and_says_where(value: object, where: str, why: str) -> None:
    with pytest.raises(ContextError, match=why.replace(".", r"\.")) as caught:
        to_json(value, "key")
    if why not in ("deeper than 100", "1,000,000 bytes"):
        assert caught.value.path == f"key{where}"
    assert caught.value.path.startswith("key")
    assert len(str(caught.value)) < 500
    assert str(caught.value).isprintable()


def test_nesting_up_to_the_limit_is_stored() -> None:
    value = nested(100)
    assert decode(encode(to_json(value))) == value
    with pytest.raises(ContextError, match="deeper than 3"):
        to_json(nested(4), limits=Limits(depth=3))


def test_shared_values_are_no_cycle() -> None:
    shared = {"a": 1}
    assert to_json([shared, shared]) == [{"a": 1}, {"a": 1}]


@given(documents)
@settings(max_examples=300)
def test_the_limit_is_that_of_the_text(value: Any) -> None:
    size = len(encode(to_json(value)).encode())
    for limit in (max(size, 32), size + 100):
        assert repr(to_json(value, limits=Limits(value_bytes=limit))) == repr(value)
    if size > 32:
        with pytest.raises(ContextError, match="bytes"):
            to_json(value, limits=Limits(value_bytes=size - 1))


@pytest.mark.parametrize(
    "value",
    [
        ["x" * 900] * 400,
        [b"x" * 700] * 400,
        [10**600] * 400,
        [0] * 600,
        [[0] * 300] * 300,
        [{"x" * 900: 0}] * 300,
    ],
    ids=["text", "bytes", "int", "array", "arrays", "keys"],
)
def test_what_is_far_too_large_is_given_up_before_its_end(value: list[object]) -> None:
    with pytest.raises(ContextError, match="1,000 bytes"):
        to_json([*value, object()], limits=Limits(value_bytes=1000))


def test_long_integers_count_with_all_their_digits() -> None:
    assert to_json([10**400, 10**400], limits=Limits(value_bytes=1000)) == [10**400, 10**400]
    with pytest.raises(ContextError, match="1,000 bytes"):
        to_json([10**500, 10**500], limits=Limits(value_bytes=1000))


@pytest.mark.parametrize(
    "limits", [{"depth": 0}, {"depth": 201}, {"depth": True}, {"value_bytes": 31}, {"context_bytes": 1.5}]
)
def test_limits_are_checked(limits: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=next(iter(limits))):
        Limits(**limits)


@pytest.mark.parametrize(
    "text",
    ["", "{", "nan", "[NaN]", '{"a":1', "[1]x", "\ud800", b"\xff", "[" * 100_000, "1" * 10_000, '"\\ud800"'],
)
def test_what_is_damaged_is_not_decoded(text: str | bytes) -> None:
    with pytest.raises(ContextError, match="not readable"):
        decode(text)


@pytest.mark.parametrize(
    "text",
    ["", "[1]", "1", "null", '{"a":1', '{"a":1}{', '{"a":1,"a":1}', '{"x":[{"b":1,"c":2,"b":3}]}', '{"a":' * 100_000,
     '{"a":' + "1" * 10_000 + "}", b"\xff"],
)  # fmt: skip
def test_read_object_refuses(text: str | bytes) -> None:
    with pytest.raises(ContextError, match="not a JSON object"):
        read_object(text)
