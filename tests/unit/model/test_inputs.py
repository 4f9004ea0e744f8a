"""Input models: what fits, what is stored of it, how it is read again, and what is refused with its path."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Generic, TypedDict, TypeVar

import msgspec
import pydantic
import pytest
import typing_extensions
from pydantic import AliasChoices, AliasPath, ConfigDict, Field, computed_field

from cloacina.errors import InputError, WorkflowError
from cloacina.model.context.context import Context
from cloacina.model.context.inputs import InputModel, input_as
from cloacina.model.json.values import encode
from cloacina.model.workflow import Workflow
from support.script import Script

T = TypeVar("T")
WHERE = "the input of workflow 'orders'"


class Plain(TypedDict, total=False):
    id: typing_extensions.Required[int]
    note: str


class Extended(typing_extensions.TypedDict):
    id: int
    note: typing_extensions.NotRequired[str]


@dataclass
class Line:
    price: float
    count: int = 1


@dataclass
class Order:
    id: int
    lines: list[Line] = field(default_factory=list)
    note: str | None = None

    def __post_init__(self) -> None:
        if self.id < 0:
            raise ValueError("an id is not negative")


class Struct(msgspec.Struct, rename="camel", tag="order", kw_only=True):
    order_id: int
    note: str = "none"


class Rich(msgspec.Struct):
    tags: set[str] = msgspec.field(default_factory=lambda: {"b", "a", "c"})
    wait: timedelta = timedelta(seconds=5)
    by_number: dict[int, str] = {}


class Page(msgspec.Struct, Generic[T]):
    item: T
    size: int = 10


class Model(pydantic.BaseModel):
    id: int = Field(alias="orderId")
    note: str = "none"

    @computed_field  # type: ignore[prop-decorator]
    @property
    def twice(self) -> int:
        return 2 * self.id


@pydantic.dataclasses.dataclass
class Checked:
    id: int = Field(gt=0)
    note: str = "none"


class Open(pydantic.BaseModel):
    model_config = ConfigDict(extra="allow")
    id: int


class Careless(pydantic.BaseModel):
    model_config = ConfigDict(extra="ignore")
    id: int


class Nested(msgspec.Struct):
    model: Model


class Choosy(pydantic.BaseModel):
    id: int = Field(validation_alias=AliasChoices("id", "number", AliasPath("order", "id")))


FITS: list[tuple[Any, Any, dict[str, Any]]] = [
    (Plain, {"id": 1}, {"id": 1}),
    (Extended, {"id": 1, "note": "x"}, {"id": 1, "note": "x"}),
    (Order, {"id": 1}, {"id": 1, "lines": [], "note": None}),
    (
        Order,
        {"id": 1, "lines": [{"price": 2}]},
        {"id": 1, "lines": [{"price": 2.0, "count": 1}], "note": None},
    ),
    (Order, Order(1, [Line(2.0)]), {"id": 1, "lines": [{"price": 2.0, "count": 1}], "note": None}),
    (Struct, {"orderId": 1}, {"type": "order", "orderId": 1, "note": "none"}),
    (Struct, Struct(order_id=1), {"type": "order", "orderId": 1, "note": "none"}),
    (Rich, {}, {"tags": ["a", "b", "c"], "wait": "PT5S", "by_number": {}}),
    (Rich, {"by_number": {"1": "x"}}, {"tags": ["a", "b", "c"], "wait": "PT5S", "by_number": {"1": "x"}}),
    (Rich, Rich(tags={"z", "y"}), {"tags": ["y", "z"], "wait": "PT5S", "by_number": {}}),
    (Page[int], {"item": 1}, {"item": 1, "size": 10}),
    (Model, {"orderId": "7"}, {"orderId": 7, "note": "none"}),
    (Model, Model(orderId=7), {"orderId": 7, "note": "none"}),
    (Checked, {"id": "7"}, {"id": 7, "note": "none"}),
    (Checked, Checked(7), {"id": 7, "note": "none"}),
    (Open, {"id": 1, "more": [1]}, {"id": 1, "more": [1]}),
    (Careless, {"id": 1, "more": [1]}, {"id": 1}),
    (Nested, {"model": {"orderId": 1}}, {"model": {"orderId": 1, "note": "none", "twice": 2}}),
    (Choosy, {"number": 1}, {"id": 1}),
    (Choosy, {"order": {"id": 1}}, {"id": 1}),
]


@pytest.mark.parametrize(("form", "input", "stored"), FITS, ids=range(len(FITS)))
def test_an_input_that_fits_is_converted_and_gets_the_defaults(
    form: Any, input: Any, stored: dict[str, Any]
) -> None:
    model = InputModel(form)
    opened = model.opened(input)
    assert isinstance(opened, dict)
    found = model.fit(opened, WHERE)
    assert found == stored
    assert list(found) == list(stored)
    assert model.fit(found, WHERE) == stored
    assert model.fit(model.opened(input_as(form, encode(stored))), WHERE) == stored  # type: ignore[arg-type]


MISFITS: list[tuple[Any, dict[str, Any], list[str], list[str]]] = [
    (Plain, {"note": "x"}, ["id"], ["id: it is missing"]),
    (Plain, {"id": "1"}, ["id"], ["id: expected `int`, got `str`"]),
    (Order, {"id": 1, "lines": [{"price": 1}, {}]}, ["lines[1].price"], ["lines[1].price: it is missing"]),
    (Order, {"id": -1}, [""], ["an id is not negative"]),
    (Struct, {"order_id": 1}, ["order_id"], ["'order_id', which Struct does not have", "'orderId'"]),
    (Order, {"id": 1, "notes": ""}, ["notes"], ["Did you mean 'note' or", "It has 'id', 'lines', 'note'"]),
    (Model, {"orderId": "x", "note": 3}, ["orderId", "note"], ["orderId: input should be a valid integer"]),
    (Model, {"orderId": 1, "nope": 3}, ["nope"], ["'nope'", "Model"]),
    (Checked, {"id": 0}, ["id"], ["greater than 0"]),
    (Open, {}, ["id"], ["field required"]),
    (Nested, {"model": {"orderId": "x"}}, ["model"], ["orderId"]),
]


@pytest.mark.parametrize(("form", "input", "paths", "said"), MISFITS, ids=range(len(MISFITS)))
def test_what_does_not_fit_is_told_with_its_path(
    form: Any, input: dict[str, Any], paths: list[str], said: list[str]
) -> None:
    with pytest.raises(InputError) as refused:
        InputModel(form).fit(input, WHERE)
    assert list(refused.value.paths) == paths
    assert [words for words in [WHERE, *said] if words not in str(refused.value)] == [], refused.value


def test_no_more_than_ten_problems_are_told() -> None:
    form: Any = pydantic.create_model("Wide", **{f"f{n}": (int, ...) for n in range(15)})  # type: ignore[call-overload]
    with pytest.raises(InputError, match="and 5 more") as refused:
        InputModel(form).fit({}, WHERE)
    assert len(refused.value.paths) == 15


@dataclass
class Hostile:
    id: int

    def __post_init__(self) -> None:
        raise KeyError("inside")


class OneWay(pydantic.BaseModel):
    id: int = Field(validation_alias="in", serialization_alias="out")


@pytest.mark.parametrize(
    ("form", "input", "said"),
    [
        (Hostile, {"id": 1}, "KeyError: 'inside'"),
        (OneWay, {"in": 1}, "cannot be read again.*in: field required"),
    ],
)
def test_models_that_go_astray(form: Any, input: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        InputModel(form).fit(input, WHERE)


@dataclass
class Named:
    id: uuid.UUID = field(default_factory=uuid.uuid4)


def test_a_default_that_is_made_is_made_once() -> None:
    model = InputModel(Named)
    stored = model.fit({}, WHERE)
    assert model.fit(stored, WHERE) == stored
    assert str(input_as(Named, encode(stored)).id) == stored["id"]


def test_an_instance_that_cannot_be_written_is_left_to_who_stores_it() -> None:
    order = Order(1)
    order.lines.append(order)  # type: ignore[arg-type]
    assert InputModel(Order).opened(order) is order
    assert InputModel(Plain).opened(order) is order


@pytest.mark.parametrize(
    ("form", "keys"),
    [
        (Plain, {"id", "note"}),
        (Extended, {"id", "note"}),
        (Order, {"id", "lines", "note"}),
        (Struct, {"type", "orderId", "note"}),
        (Model, {"orderId", "note"}),
        (Checked, {"id", "note"}),
        (Careless, {"id"}),
        (Open, None),
    ],
)
def test_the_keys_of_an_input(form: Any, keys: set[str] | None) -> None:
    assert InputModel(form).keys == keys


class Row(msgspec.Struct, array_like=True):
    id: int


class Rooted(pydantic.RootModel[dict[str, int]]): ...


@dataclass
class Unreadable:
    value: complex


@pytest.mark.parametrize(
    ("form", "said"),
    [
        (dict, "no model of an input: write a TypedDict"),
        (dict[str, int], "no model of an input"),
        (int, "no model"),
        ("Order", "'Order' is no model"),
        ([Order], "no model"),
        (Order(1), "no model"),
        (Row, "take array_like=True out"),
        (Rooted, "make it a field of a model"),
        (dataclass, "no model"),
    ],
)
def test_what_is_no_model(form: Any, said: str) -> None:
    with pytest.raises(WorkflowError, match=f"(?s)workflow 'w'.*{said}"):
        Workflow("w", inputs=form)


@dataclass
class Later:
    other: "Declared"  # noqa: F821, UP037


def test_a_model_may_name_what_is_declared_further_down() -> None:
    model = InputModel(Later)

    @dataclass
    class Declared:
        id: int

    with pytest.raises(InputError, match="NameError"):
        model.fit({"other": {"id": 1}}, WHERE)
    globals()["Declared"] = Declared
    try:
        assert model.fit({"other": {"id": 1}}, WHERE) == {"other": {"id": 1}}
    finally:
        del globals()["Declared"]


def test_a_context_gives_the_input_whatever_tasks_changed() -> None:
    ctx = Context.over({"id": 9, "lines": [], "extra": 1}, input={"id": 1, "lines": [{"price": 1}]})
    ctx["id"] = 7
    assert ctx.input(Order) == Order(1, [Line(1.0)])
    assert ctx.copy().input(Order).id == 1
    ctx.input(Order).lines.clear()
    assert len(ctx.input(Order).lines) == 1
    assert Context.over({}, input='{"id": 3}').input(Plain) == {"id": 3}
    with pytest.raises(InputError, match="the input of this execution does not fit Struct") as refused:
        ctx.input(Struct)
    assert refused.value.paths == ("orderId",)


def test_a_context_made_by_hand_is_its_own_input() -> None:
    ctx = Context({"id": 1, "note": "n", "other": 2})
    ctx["id"] = 5
    assert ctx.input(Order) == Order(1, [], "n")
    with pytest.raises(InputError, match="no model"):
        ctx.input(int)


def test_pydantic_is_not_imported_for_nothing(script: Script) -> None:
    ended = script("""
        import sys
        from dataclasses import dataclass
        from cloacina import Context, Workflow

        @dataclass
        class Order:
            id: int

        workflow = Workflow("w", inputs=Order)
        assert workflow.inputs.fit({"id": 1}, "it") == {"id": 1}
        assert Context({"id": 1}).input(Order).id == 1
        assert "pydantic" not in sys.modules
    """)
    assert (ended.returncode, ended.stderr) == (0, "")
