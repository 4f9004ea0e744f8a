"""Keys: typed reads and writes, the conditions they make, and how they refuse to be misread."""

from __future__ import annotations

import operator
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Any, Literal, Optional, TypedDict
from uuid import UUID

import msgspec
import pydantic
import pytest

import cloacina
from cloacina.errors import ContextError, WorkflowError
from cloacina.model.context.keys import Key
from cloacina.model.rules import ContextValue, ValueOperator, task_success


class Colour(Enum):
    RED = "red"


@dataclass
class Order:
    id: int
    tags: list[str]


class Struct(msgspec.Struct, rename="camel", tag=True):
    first_name: str
    at: datetime | None = None


class Model(pydantic.BaseModel):
    name: str = pydantic.Field(alias="theName")
    tags: set[str] = set()


class Tree(TypedDict):
    leaf: int
    parts: list[Tree]


ROUND_TRIPS: list[tuple[Any, object]] = [
    (int, 2**70),
    (float, 0.5),
    (float, 3),
    (bool, True),
    (str, "x"),
    (int | None, None),
    (Optional[int], 4),  # noqa: UP045  both spellings
    (list[int], [1, 2]),
    (dict[str, list[int]], {"a": [1]}),
    (tuple[int, str], (1, "a")),
    (Literal["a", "b"], "b"),
    (object, {"a": [1]}),
    (Any, [1, {"a": None}]),
    (bytes, b"\x00\xff"),
    (date, date(2024, 5, 1)),
    (datetime, datetime.fromisoformat("2024-05-01T10:00:00+02:00")),
    (UUID, UUID(int=7)),
    (Decimal, Decimal("1.10")),
    (Colour, Colour.RED),
    (Order, Order(1, ["a"])),
    (list[Order], [Order(1, [])]),
    (Struct, Struct("a", datetime.fromisoformat("2024-05-01T10:00:00"))),
    (Model, Model(theName="n", tags={"a", "b"})),
    (dict[str, Model], {"x": Model(theName="n")}),
    (Tree, {"leaf": 1, "parts": [{"leaf": 2, "parts": []}]}),
]


@pytest.mark.parametrize(("form", "value"), ROUND_TRIPS, ids=lambda value: str(value)[:30])
def test_a_value_comes_back_as_its_type(form: Any, value: object) -> None:
    key: Key[object] = Key("k", form)
    found = key.decode(key.encode(value))
    assert found == value
    assert type(found) is (float if form is float else type(value))


MISMATCHES: list[tuple[Any, Any, str, str]] = [
    (int, True, "k", "bool"),
    (int, 1.0, "k", "float"),
    (int, "1", "k", "str"),
    (int, None, "k", "null"),
    (bool, 1, "k", "int"),
    (float, "1", "k", "str"),
    (float, True, "k", "bool"),
    (str, 1, "k", "int"),
    (str, ["a"], "k", "array"),
    (list[int], [1, "x"], "k[1]", "str"),
    (list[int], {"a": 1}, "k", "object"),
    (date, "yesterday", "k", "date"),
    (Colour, "blue", "k", "blue"),
    (Order, {"id": 1}, "k", "tags"),
    (complex, 1.0, "k", "complex"),
    (Order, {"id": 1, "tags": ["a", 2]}, "k.tags[1]", "int"),
    (Model, {"tags": []}, "k", "theName: Field required"),
    (list[Model], [{"theName": 5}], "k[0]", "theName"),
    (Model, 5, "k", "object"),
]


@pytest.mark.parametrize(("form", "value", "path", "found"), MISMATCHES, ids=range(len(MISMATCHES)))
def test_another_type_is_refused_both_ways(form: Any, value: Any, path: str, found: str) -> None:
    key: Key[Any] = Key("k", form)
    for use in (key.decode, key.encode):
        with pytest.raises(ContextError, match=found) as caught:
            use(value)
        assert caught.value.path == path
        assert "Key('k'" in str(caught.value)


def test_what_cannot_be_stored_is_refused_with_its_path() -> None:
    with pytest.raises(ContextError) as caught:
        Key("k", list[float]).encode([1.0, float("nan")])
    assert caught.value.path == "k[1]"


def test_a_decoded_value_shares_nothing() -> None:
    stored: dict[str, Any] = {"a": [1]}
    Key("k", dict[str, Any]).decode(stored)["a"].append(2)
    assert stored == {"a": [1]}


@pytest.mark.parametrize(
    ("form", "plain"),
    [(int, True), (list, True), (list[dict[str, int | None]], True), (Tree, True), (Any, True), (Literal[1], True),
     (dict[int, int], False), (tuple[int], False), (list[Order], False), (bytes, False), (Model, False)],
)  # fmt: skip
def test_types_made_of_json_are_known(form: Any, plain: bool) -> None:
    key: Key[Any] = Key("k", form)
    assert key.plain is plain


def test_a_type_declared_further_down_is_found_later() -> None:
    @dataclass
    class Early:
        later: list[Later]

    key = Key("k", Early)

    class Later(msgspec.Struct):
        x: int

    Early.__annotations__["later"] = list[Later]
    assert key.decode({"later": [{"x": 1}]}).later == [Later(1)]


@pytest.mark.parametrize(
    "arguments",
    [
        ("", int),
        (None, int),
        (5, int),
        ("a\0", int),
        ("\ud800", int),
        ("k", 5),
        ("k", "int"),
        ("k", Struct | Order),
    ],
)
def test_a_bad_key_is_refused_when_it_is_made(arguments: tuple[Any, Any]) -> None:
    with pytest.raises(WorkflowError):
        Key(*arguments)


def test_a_merge_that_is_no_function_is_refused() -> None:
    with pytest.raises(WorkflowError, match="merge"):
        Key("k", int, merge="add")  # type: ignore[call-overload]


Q = Key("quality", int)
CONDITIONS: list[tuple[object, ValueOperator, object]] = [
    (Q > 80, ValueOperator.GREATER_THAN, 80),
    (Q >= 80, ValueOperator.GREATER_OR_EQUAL, 80),
    (Q < 80, ValueOperator.LESS_THAN, 80),
    (80 > Q, ValueOperator.LESS_THAN, 80),  # noqa: SIM300  the reflected operator
    (Q <= 80, ValueOperator.LESS_OR_EQUAL, 80),
    (Q.equals(80), ValueOperator.EQUALS, 80),
    (Q.equals(Colour.RED), ValueOperator.EQUALS, "red"),
    (Q.not_equals(80), ValueOperator.NOT_EQUALS, 80),
    (Q.contains("a"), ValueOperator.CONTAINS, "a"),
    (Q.not_contains([1]), ValueOperator.NOT_CONTAINS, [1]),
]


@pytest.mark.parametrize(("condition", "op", "value"), CONDITIONS)
def test_comparisons_make_conditions(condition: object, op: ValueOperator, value: Any) -> None:
    assert condition == ContextValue("quality", op, value)


def test_existence_needs_no_value() -> None:
    assert Q.exists() == ContextValue("quality", ValueOperator.EXISTS)
    assert Q.not_exists() == ContextValue("quality", ValueOperator.NOT_EXISTS)


MISREAD: list[Callable[[], object]] = [
    lambda: task_success("a") & Q > 80,  # type: ignore[operator]
    lambda: task_success("a") | Q > 80,  # type: ignore[operator]
    lambda: Q > 80 & task_success("a"),  # type: ignore[operator]  # noqa: SIM300
    lambda: Q & task_success("a"),  # type: ignore[operator]
    lambda: Q | (Q > 80),  # type: ignore[operator]
    lambda: Q & Q,  # type: ignore[operator]
    lambda: True & Q,  # type: ignore[operator]
    lambda: ~Q,
    lambda: Q > Q,
    lambda: Q > task_success("a"),  # noqa: SIM300
]


@pytest.mark.parametrize("misread", MISREAD, ids=range(len(MISREAD)))
def test_missing_parentheses_are_shown(misread: Callable[[], object]) -> None:
    with pytest.raises(WorkflowError, match=r"\(\w+ > \w+\)"):
        misread()


@pytest.mark.parametrize("truth", [lambda: bool(Q), lambda: not Q, lambda: Q and 1, lambda: 1 < Q < 9])
def test_a_key_is_neither_true_nor_false(truth: Callable[[], object]) -> None:
    with pytest.raises(WorkflowError):
        truth()


def test_a_value_that_is_no_json_makes_no_condition() -> None:
    with pytest.raises(WorkflowError, match="nan"):
        Q.equals(float("nan"))


def test_keys_are_ordinary_frozen_values() -> None:
    assert Key("quality", int) == Q
    assert hash(Key("quality", int)) == hash(Q)
    assert Key("quality", float) != Q
    assert Key("other", int) != Q
    assert Key("quality", int, merge=operator.add) != Q
    assert Q != "quality"
    assert {Q: 1}[Key("quality", int)] == 1
    assert repr(Q) == "Key('quality', int)"
    with pytest.raises(AttributeError, match="never changes"):
        Q.name = "other"
    assert Key[int]("quality", int) == Q


TYPED = """
from typing import assert_type, Any
from cloacina.model.context.context import Context
from cloacina.model.context.keys import Key

NUMBER = Key("number", int)
TEXTS = Key("texts", list[str])
MAYBE: Key[int | None] = Key("maybe", int | None)
TOTAL = Key("total", int, merge=lambda one, other: one + other)
BEST: Key[float | None] = Key("best", float | None, merge=lambda one, other: one or other)

def body(ctx: Context) -> None:
    assert_type(ctx[NUMBER], int)
    assert_type(ctx[TEXTS], list[str])
    assert_type(ctx[MAYBE], int | None)
    assert_type(ctx[TOTAL], int)
    assert_type(ctx[BEST], float | None)
    assert_type(ctx["name"], Any)
    assert_type(ctx.get(NUMBER), int | None)
    assert_type(ctx.get(NUMBER, 0), int)
    assert_type(ctx.get(NUMBER, "none"), int | str)
    assert_type(ctx.pop(NUMBER), int)
    assert_type(ctx.pop(NUMBER, None), int | None)
    assert_type(ctx.setdefault(TEXTS, []), list[str])
    assert_type(NUMBER in ctx, bool)
    ctx[NUMBER] = 5
    ctx[MAYBE] = None
    ctx["name"] = object()
    ctx.insert(TOTAL, 1)
    ctx.update({"a": 1}, b=2)
    del ctx[NUMBER]
    ctx[NUMBER] = "5"  # type: ignore[misc]
    ctx.insert(TOTAL, "5")  # type: ignore[misc]
    ctx.setdefault(TEXTS, 5)  # type: ignore[misc]
    Key("texts", int, merge="add")  # type: ignore[call-overload]
"""


def test_the_types_are_known_to_mypy(tmp_path: Path) -> None:
    (tmp_path / "typed.py").write_text(TYPED)
    source = Path(cloacina.__file__).parent.parent
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent", "typed.py"],
        cwd=tmp_path, env={**os.environ, "MYPYPATH": str(source)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
