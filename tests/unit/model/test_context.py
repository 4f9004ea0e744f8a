"""Contexts: the mapping, what is noticed, what is refused, and the patch that comes out."""

from __future__ import annotations

import copy
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from cloacina.errors import ContextError, ContextKeyError
from cloacina.model.context.context import Context
from cloacina.model.context.keys import Key
from cloacina.model.json.patch import View, apply
from cloacina.model.json.values import Limits, decode, encode

NUMBER = Key("number", int)
ITEMS = Key("items", list[int])
WHEN = Key("when", datetime)
MAYBE: Key[int | None] = Key("maybe", int | None)


def base() -> dict[str, Any]:
    return {
        "number": 1,
        "items": [1, 2],
        "deep": {"a": {"b": [1]}},
        "when": "2024-05-01T00:00:00Z",
        "text": "x",
    }


CHANGES: list[tuple[Callable[[Context], object], dict[str, Any]]] = [
    (lambda ctx: None, {}),
    (lambda ctx: (ctx["number"], ctx["items"], ctx["deep"], list(ctx.items())), {}),
    (lambda ctx: ctx.update(base()), {}),
    (lambda ctx: ctx.update(number=1.0), {"set": {"number": 1.0}}),
    (lambda ctx: ctx.update(number=True), {"set": {"number": True}}),
    (lambda ctx: ctx.insert("new", {"x": (1,)}), {"set": {"new": {"x": [1]}}}),
    (lambda ctx: ctx.pop("number"), {"remove": ["number"]}),
    (lambda ctx: ctx.pop("absent", 0), {}),
    (lambda ctx: (ctx.pop("number"), ctx.insert("number", 1)), {}),
    (lambda ctx: (ctx.insert("new", 1), ctx.pop("new")), {}),
    (lambda ctx: ctx["items"].append(3), {"append": {"items": [3]}}),
    (lambda ctx: ctx[ITEMS].append(3), {"append": {"items": [3]}}),
    (lambda ctx: ctx["items"].insert(0, 3), {"set": {"items": [3, 1, 2]}}),
    (lambda ctx: (ctx["items"].append(3), ctx["items"].pop()), {}),
    (lambda ctx: ctx["items"].__setitem__(0, True), {"set": {"items": [True, 2]}}),
    (lambda ctx: ctx.get("deep")["a"]["b"].append(2), {"patch": {"deep": {"patch": {"a": {"append": {"b": [2]}}}}}}),
    (lambda ctx: ctx.update(items=[*ctx["items"], 3]), {"append": {"items": [3]}}),
    (lambda ctx: ctx["deep"].update(c=1), {"patch": {"deep": {"set": {"c": 1}}}}),
    (lambda ctx: ctx["deep"].clear(), {"patch": {"deep": {"remove": ["a"]}}}),
    (lambda ctx: ctx.setdefault("items", []).append(3), {"append": {"items": [3]}}),
    (lambda ctx: ctx.setdefault("new", []).append(3), {"set": {"new": [3]}}),
    (lambda ctx: ctx.setdefault(ITEMS, []).append(3), {"append": {"items": [3]}}),
    (lambda ctx: (ctx.insert("new", [1]), ctx["new"].append(2)), {"set": {"new": [1, 2]}}),
    (lambda ctx: next(v for k, v in ctx.items() if k == "items").append(3), {"append": {"items": [3]}}),
    (lambda ctx: (ctx["items"].append(3), ctx.update(items=[9])), {"set": {"items": [9]}}),
    (lambda ctx: (ctx["items"].append(3), ctx.pop("items")), {"remove": ["items"]}),
    (lambda ctx: ctx.update({NUMBER: 5}, text="y"), {"set": {"number": 5, "text": "y"}}),
    (lambda ctx: ctx.clear(), {"remove": ["number", "items", "deep", "when", "text"]}),
    (lambda ctx: ctx.update({WHEN: datetime(2025, 1, 1, tzinfo=UTC)}), {"set": {"when": "2025-01-01T00:00:00Z"}}),
]  # fmt: skip


@pytest.mark.parametrize(("change", "expected"), CHANGES, ids=range(len(CHANGES)))
def test_the_patch_says_what_changed_and_the_base_stays(
    change: Callable[[Context], object], expected: Any
) -> None:
    shared = base()
    ctx = Context.over(shared)
    change(ctx)
    patch = ctx.patch()
    assert repr(patch) == repr(expected)
    assert repr(ctx.patch()) == repr(expected)
    assert repr(shared) == repr(base())
    assert ctx == apply(shared, patch) == ctx.to_dict()
    assert repr(decode(ctx.to_json())) == repr(ctx.to_dict())


class Mirror(RuleBasedStateMachine):
    """A context beside a plain dict: whatever is done to both, they agree, and the patch leads to the dict."""

    names = st.sampled_from(["a", "b", "c", "d"])
    values = st.recursive(
        st.integers(0, 2) | st.booleans(), lambda inner: st.lists(inner, max_size=2), max_leaves=4
    )

    def __init__(self) -> None:
        super().__init__()
        self.start: dict[str, Any] = {"a": [1, [2]], "b": {"x": [1]}, "c": 5}
        self.plain = copy.deepcopy(self.start)
        self.ctx = Context.over(self.start)

    @rule(name=names, value=values)
    def assign(self, name: str, value: Any) -> None:
        self.ctx[name] = value
        self.plain[name] = copy.deepcopy(value)

    @rule(name=names)
    def remove(self, name: str) -> None:
        assert self.ctx.pop(name, "none") == self.plain.pop(name, "none")

    @rule(name=names, value=values)
    def change_in_place(self, name: str, value: Any) -> None:
        for values in (self.ctx, self.plain):
            found = values.get(name)
            if isinstance(found, list):
                found.append(copy.deepcopy(value))
            elif isinstance(found, dict):
                found["y"] = copy.deepcopy(value)

    @rule(name=names, value=values)
    def default(self, name: str, value: Any) -> None:
        assert self.ctx.setdefault(name, value) == self.plain.setdefault(name, copy.deepcopy(value))

    @invariant()
    def agree(self) -> None:
        ctx, plain = self.ctx, self.plain
        assert ctx == plain == ctx.to_dict() == dict(ctx)
        assert len(ctx) == len(plain)
        assert set(ctx) == set(plain)
        assert [name in ctx for name in "abcd"] == [name in plain for name in "abcd"]
        assert apply(self.start, ctx.patch()) == plain
        assert self.start == {"a": [1, [2]], "b": {"x": [1]}, "c": 5}


TestMirror = Mirror.TestCase


def test_it_is_a_mapping_in_the_order_of_the_base() -> None:
    ctx = Context({"b": 1, "a": 2})
    ctx["c"] = 3
    del ctx["b"]
    ctx["b"] = 4
    assert isinstance(ctx, MutableMapping)
    assert list(ctx) == ["b", "a", "c"] == list(apply({"b": 1, "a": 2}, ctx.patch()))
    assert list(ctx.values()) == [4, 2, 3]
    assert len(ctx) == 3
    assert Context() == {} == Context(None)
    assert not Context()


def test_iterating_while_removing_is_safe() -> None:
    ctx = Context(base())
    for name in ctx:
        del ctx[name]
    assert not ctx


def test_a_missing_key_suggests_near_ones() -> None:
    ctx = Context({"data_quality_score": 1})
    for read in (lambda: ctx["data_quality_scor"], lambda: ctx.pop("data_quality_scor")):
        with pytest.raises(ContextKeyError, match="'data_quality_score'") as caught:
            read()
        assert isinstance(caught.value, KeyError)
        assert caught.value.path == "data_quality_scor"
    with pytest.raises(ContextKeyError):
        del ctx["other"]
    with pytest.raises(ContextKeyError):
        ctx[NUMBER]
    with pytest.raises(ContextKeyError):
        ctx.pop(NUMBER)


def test_insert_refuses_an_existing_key() -> None:
    ctx = Context(base())
    for key in ("items", NUMBER):
        with pytest.raises(ContextError, match="already"):
            ctx.insert(key, 5)
    assert ctx == base()


def test_typed_access() -> None:
    ctx = Context.over(base())
    assert ctx[NUMBER] == 1
    assert ctx[WHEN] == datetime(2024, 5, 1, tzinfo=UTC)
    assert ctx.get(MAYBE) is None
    assert ctx.get(MAYBE, "none") == "none"
    assert ctx.pop(MAYBE, 7) == 7
    assert ctx.setdefault(MAYBE, 3) == 3
    assert MAYBE in ctx
    assert ctx.pop(MAYBE) == 3
    assert MAYBE not in ctx
    ctx[MAYBE] = None
    assert ctx[MAYBE] is None
    del ctx[MAYBE]
    assert ctx.patch() == {}


def test_a_value_of_another_type_is_refused_both_ways() -> None:
    ctx = Context.over(base())
    with pytest.raises(ContextError, match="bool") as caught:
        ctx[NUMBER] = True
    assert caught.value.path == "number"
    ctx["number"] = "one"
    for read in (
        lambda: ctx[NUMBER],
        lambda: ctx.get(NUMBER),
        lambda: ctx.get(NUMBER, 0),
        lambda: ctx.pop(NUMBER),
    ):
        with pytest.raises(ContextError, match="str") as caught:
            read()
        assert caught.value.path == "number"
    assert ctx["number"] == "one"


def test_a_key_sees_what_was_changed_in_place() -> None:
    ctx = Context.over(base())
    ctx["items"].append(3)
    assert ctx[ITEMS] == [1, 2, 3]
    assert ctx[ITEMS] is ctx["items"]
    ctx["items"].append("x")
    with pytest.raises(ContextError) as caught:
        ctx[ITEMS]
    assert caught.value.path == "items[3]"


@dataclass
class Order:
    id: int
    notes: dict[str, Any]


def test_a_decoded_object_is_a_copy() -> None:
    key = Key("order", Order)
    ctx = Context.over({"order": {"id": 1, "notes": {"a": [1]}}})
    ctx[key].id = 2
    ctx[key].notes["a"].append(2)
    assert ctx.patch() == {}
    order = ctx[key]
    order.id = 2
    ctx[key] = order
    order.id = 3
    assert ctx.patch() == {"patch": {"order": {"set": {"id": 2}}}}


REFUSED: list[tuple[str, Callable[[Context], object]]] = [
    ("bad.x[1]", lambda ctx: ctx.update(good=1, bad={"x": [1, float("nan")]})),
    ("bad", lambda ctx: ctx.insert("bad", object())),
    ("bad", lambda ctx: ctx.setdefault("bad", {1: 2})),
    ("bad", lambda ctx: ctx.__setitem__("bad", "\0")),
    ("items[0]", lambda ctx: ctx.__setitem__(ITEMS, [True])),
    ("", lambda ctx: ctx.__setitem__(5, 1)),  # type: ignore[index]
    ("", lambda ctx: ctx.update({None: 1})),
    ("the key 'a\\x00'", lambda ctx: ctx.__setitem__("a\0", 1)),
    ("['a\\nb'][0]", lambda ctx: ctx.__setitem__("a\nb", [1j])),
]


@pytest.mark.parametrize(("path", "change"), REFUSED, ids=range(len(REFUSED)))
def test_what_is_refused_changes_nothing(path: str, change: Callable[[Context], object]) -> None:
    ctx = Context.over(base())
    with pytest.raises(ContextError) as caught:
        change(ctx)
    assert caught.value.path == path
    assert ctx == base()
    assert ctx.patch() == {}


IN_PLACE: list[tuple[str, Callable[[Any], object]]] = [
    ("items[2]", lambda ctx: ctx["items"].append(float("nan"))),
    ("items[2]", lambda ctx: ctx["items"].append({1})),
    ("items[2]", lambda ctx: ctx["items"].append(ctx["items"])),
    ("deep.a", lambda ctx: ctx["deep"]["a"].update({1: 2})),
    ("deep.c", lambda ctx: ctx["deep"].update(c="\ud800")),
    ("big", lambda ctx: ctx.setdefault("big", []).extend([0] * 600_000)),
]


@pytest.mark.parametrize(("path", "change"), IN_PLACE, ids=range(len(IN_PLACE)))
def test_what_was_changed_in_place_is_checked_too(path: str, change: Callable[[Any], object]) -> None:
    ctx = Context.over(base())
    change(ctx)
    for use in (ctx.patch, ctx.to_dict, ctx.to_json, ctx.copy):
        with pytest.raises(ContextError) as caught:
            use()
        assert caught.value.path == path


def test_null_turned_nan_in_place_is_no_null() -> None:
    ctx = Context.over({"a": [None], "b": {"1": 1}})
    ctx["a"][0] = float("nan")
    with pytest.raises(ContextError):
        ctx.patch()
    del ctx["a"][0], ctx["b"]["1"]
    ctx["b"][1] = 1
    with pytest.raises(ContextError, match="not a string"):
        ctx.patch()


def test_foreign_values_put_in_place_are_converted() -> None:
    ctx = Context.over({"a": [1]})
    ctx["a"].append((datetime(2024, 5, 1, tzinfo=UTC), b"a"))
    assert ctx.patch() == {"append": {"a": [["2024-05-01T00:00:00Z", "YQ=="]]}}


def test_a_patch_shares_nothing_with_the_body() -> None:
    ctx = Context.over({"a": [1]})
    ctx["a"].append([2])
    ctx["b"] = [3]
    read = ctx["b"]
    patch = ctx.patch()
    ctx["a"][1].append("later")
    ctx["b"].append("later")
    read.append("later")
    assert patch == {"append": {"a": [[2]]}, "set": {"b": [3]}}


def test_read_only() -> None:
    ctx = Context.over(base(), read_only=True)
    ctx["items"].append(3)
    ctx[ITEMS].append(3)
    ctx["deep"]["a"].clear()
    assert ctx == base()
    assert ctx["items"] == [1, 2]
    for change in (
        lambda: ctx.__setitem__("a", 1), lambda: ctx.__delitem__("number"), lambda: ctx.insert("a", 1), ctx.clear,
        lambda: ctx.pop("number"), lambda: ctx.pop("absent", 0), lambda: ctx.setdefault("a", 1), ctx.update,
        lambda: ctx.update(a=1), ctx.popitem,
    ):  # fmt: skip
        with pytest.raises(ContextError, match="read-only"):
            change()
    assert ctx.patch() == {}
    mine = ctx.copy()
    mine["a"] = 1
    assert ctx == base()


@pytest.mark.parametrize("duplicate", [Context.copy, copy.copy, copy.deepcopy])
def test_copies_are_independent(duplicate: Callable[[Context], Context]) -> None:
    ctx = Context.over(base())
    ctx["items"].append(3)
    ctx["new"] = [1]
    other = duplicate(ctx)
    assert other == ctx
    assert other.patch() == {}
    other["items"].append(4)
    other["new"].append(2)
    ctx["deep"]["x"] = 1
    assert ctx["items"] == [1, 2, 3]
    assert ctx["new"] == [1]
    assert "x" not in other["deep"]


def test_a_context_can_be_a_value() -> None:
    assert Context({"a": Context({"b": (1,)})}) == {"a": {"b": [1]}}


def test_the_repr_is_short_and_shows_no_values() -> None:
    ctx = Context({"secret" * 20: "hunter2", **{f"k{i}": i for i in range(1000)}})
    assert "hunter2" not in repr(ctx)
    assert "1001 keys" in repr(ctx)
    assert len(repr(ctx)) < 300
    assert repr(Context()) == "<Context, empty>"


def test_a_context_is_not_hashable() -> None:
    with pytest.raises(TypeError):
        hash(Context())


TOO_LARGE = {f"k{i}": "x" * 900_000 for i in range(5)}


def test_the_whole_context_is_bounded() -> None:
    with pytest.raises(ContextError, match="4,000,000"):
        Context(TOO_LARGE)
    ctx = Context()
    ctx.update(TOO_LARGE)
    for use in (ctx.patch, ctx.to_dict, ctx.to_json):
        with pytest.raises(ContextError, match=r"'k0' \(900,\d\d\d\)"):
            use()
    del ctx["k0"]
    assert set(ctx.patch()["set"]) == {"k1", "k2", "k3", "k4"}


@pytest.mark.parametrize("sized", [False, True])
@given(left=st.integers(0, 60), added=st.integers(0, 60))
def test_the_limit_of_the_whole_is_exact(sized: bool, left: int, added: int) -> None:
    document: dict[str, Any] = {"old": "x" * 40, "left": "x" * left}
    if sized:
        view = View(document)
        view.size = len(encode(document)) + 50
        document = view
    limits = Limits(context_bytes=120)
    ctx = Context.over(document, limits)
    del ctx["old"]
    ctx["new"] = "x" * added
    if len(encode({"left": "x" * left, "new": "x" * added})) <= 120:
        assert ctx.patch() == {"set": {"new": "x" * added}, "remove": ["old"]}
    else:
        with pytest.raises(ContextError, match="limit of 120"):
            ctx.patch()


def test_values_have_limits_of_their_own() -> None:
    limits = Limits(value_bytes=100)
    for make in (
        lambda: Context({"a": "x" * 99}, limits=limits),
        lambda: Context(limits=limits).insert("a", "x" * 99),
    ):
        with pytest.raises(ContextError, match="100 bytes"):
            make()
    assert Context({"a": "x" * 98}, limits=limits)["a"] == "x" * 98


@pytest.mark.parametrize("values", [[1], 5, "text", [("a", 1)]])
def test_a_context_is_made_from_a_mapping(values: Any) -> None:
    with pytest.raises(ContextError, match="mapping"):
        Context(values)


def test_json_in_and_out() -> None:
    text = '{"b":1,"a":{"x":[null,1.0,true,-0.0,1180591620717411303424]}}'
    assert Context.from_json(text).to_json() == text
    assert Context.from_json(text.encode()).to_dict() == decode(text)
    assert Context.from_json(" {\n} ") == {}


@pytest.mark.parametrize(
    "text",
    ["", "[]", "null", '"a"', '{"a":1', '{"a":1,"a":2}', '{"a":[{"b":1,"b":1}]}', '{"a":NaN}', '{"a":1e999}',
     '{"a":"\\u0000"}', '{"a":"\\ud800"}', '{"a":' * 100_000, '{"a":' + "[" * 101 + "]" * 101 + "}", b"\xff\xfe"],
)  # fmt: skip
def test_what_is_no_context_is_refused(text: str | bytes) -> None:
    with pytest.raises(ContextError):
        Context.from_json(text)
