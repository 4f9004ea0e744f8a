"""Patches: what diff finds, what apply makes of it, and that neither touches what it was given."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloacina.errors import ContextError
from cloacina.model.json.patch import View, apply, check_size, diff, read_patch, same, size_bound
from cloacina.model.json.values import Limits, encode, encoded_size

# Few keys and few values, so that two documents often agree in part.
names = st.sampled_from("abc")
values = st.recursive(
    st.sampled_from([None, True, False, 0, 1, 1.0, 0.0, -0.0, "", "1"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=6,
)
documents: st.SearchStrategy[dict[str, Any]] = st.dictionaries(names, values, max_size=3)


def canonical(value: Any) -> str:
    """A text that two values share if and only if they are the same JSON."""
    if isinstance(value, dict):
        return "{" + ",".join(f"{key!r}:{canonical(value[key])}" for key in sorted(value)) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(canonical, value)) + "]"
    return repr(value)


DIFFS: list[tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = [
    ({}, {}, {}),
    ({"a": 1}, {"a": 1}, {}),
    ({"a": 1}, {"a": 1, "b": 2}, {"set": {"b": 2}}),
    ({"a": 1}, {}, {"remove": ["a"]}),
    ({"a": 1}, {"a": 2}, {"set": {"a": 2}}),
    ({"a": 1}, {"a": 1.0}, {"set": {"a": 1.0}}),
    ({"a": 1}, {"a": True}, {"set": {"a": True}}),
    ({"a": 0.0}, {"a": -0.0}, {"set": {"a": -0.0}}),
    ({"a": False}, {"a": 0}, {"set": {"a": 0}}),
    ({"a": [1]}, {"a": [1, 2]}, {"append": {"a": [2]}}),
    ({"a": []}, {"a": [1]}, {"append": {"a": [1]}}),
    ({"a": [1]}, {"a": [True, 2]}, {"set": {"a": [True, 2]}}),
    ({"a": [1, 2]}, {"a": [1]}, {"set": {"a": [1]}}),
    ({"a": [1]}, {"a": [2, 1]}, {"set": {"a": [2, 1]}}),
    ({"a": [1]}, {"a": []}, {"set": {"a": []}}),
    ({"a": [[1]]}, {"a": [[1, 2]]}, {"set": {"a": [[1, 2]]}}),
    ({"a": [{"x": 1, "y": 2}]}, {"a": [{"y": 2, "x": 1}, 3]}, {"append": {"a": [3]}}),
    ({"a": {"x": 1, "y": 2}}, {"a": {"y": 2, "x": 1}}, {}),
    ({"a": {"x": 1}}, {"a": {"x": 2}}, {"patch": {"a": {"set": {"x": 2}}}}),
    ({"a": {"x": 1}}, {"a": {}}, {"patch": {"a": {"remove": ["x"]}}}),
    (
        {"a": {"x": {"y": [1]}}},
        {"a": {"x": {"y": [1, 2]}}},
        {"patch": {"a": {"patch": {"x": {"append": {"y": [2]}}}}}},
    ),
    ({"a": {"x": {"y": 1}}, "b": {"z": 1}}, {"a": {"x": {"y": 1}}, "b": {"z": 1}}, {}),
    ({"a": {"x": 1}}, {"a": [1]}, {"set": {"a": [1]}}),
    ({"a": [1]}, {"a": {"x": 1}}, {"set": {"a": {"x": 1}}}),
    ({"a": 1}, {"a": {}}, {"set": {"a": {}}}),
    ({}, {"a": {"x": 1}}, {"set": {"a": {"x": 1}}}),
]


@pytest.mark.parametrize(("before", "after", "expected"), DIFFS, ids=range(len(DIFFS)))
def test_diff(before: dict[str, Any], after: dict[str, Any], expected: dict[str, Any]) -> None:
    assert canonical(diff(before, after)) == canonical(expected)


@given(documents, documents)
@settings(max_examples=300)
def test_applying_the_difference_gives_the_later_document(before: Any, after: Any) -> None:
    one, other = deepcopy(before), deepcopy(after)
    patch = diff(before, after)
    kept = deepcopy(patch)
    assert canonical(apply(before, patch)) == canonical(after)
    assert bool(patch) == (canonical(before) != canonical(after))
    assert repr((before, after, patch)) == repr((one, other, kept))
    assert read_patch(encode(patch)) == patch  # type: ignore[arg-type]


@given(documents, documents, documents)
@settings(max_examples=300)
def test_a_patch_fits_any_document_and_changes_none(before: Any, after: Any, elsewhere: Any) -> None:
    patch = diff(before, after)
    kept, untouched = deepcopy(patch), deepcopy(elsewhere)
    result = apply(elsewhere, patch)
    assert repr((elsewhere, patch)) == repr((untouched, kept))
    for key, value in patch.get("set", {}).items():
        assert same(result[key], value)
    assert not any(key in result for key in patch.get("remove", ()))
    assert encoded_size(result) <= encoded_size(elsewhere) + encoded_size(patch)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("target", "patch", "expected"),
    [
        ({}, {"append": {"a": [1]}}, {"a": [1]}),
        ({"a": 5}, {"append": {"a": [1]}}, {"a": [1]}),
        ({"a": {"x": 1}}, {"append": {"a": [1]}}, {"a": [1]}),
        ({}, {"patch": {"a": {"set": {"x": 1}}}}, {"a": {"x": 1}}),
        ({}, {"patch": {"a": {"remove": ["x"]}}}, {"a": {}}),
        ({"a": [1]}, {"patch": {"a": {"set": {"x": 1}}}}, {"a": {"x": 1}}),
        ({"a": None}, {"patch": {"a": {"patch": {"b": {"append": {"c": [1]}}}}}}, {"a": {"b": {"c": [1]}}}),
        ({}, {"remove": ["a"]}, {}),
    ],
)
def test_a_target_that_is_missing_or_of_another_type_starts_empty(
    target: Any, patch: Any, expected: Any
) -> None:
    assert apply(target, patch) == expected


def test_what_is_untouched_is_shared() -> None:
    base: dict[str, Any] = {"a": {"x": [1]}, "b": {"y": [2]}}
    result: Any = apply(base, {"patch": {"a": {"set": {"z": 1}}}})
    assert result["b"] is base["b"]
    assert result["a"]["x"] is base["a"]["x"]
    assert result["a"] is not base["a"]


def test_a_patch_as_deep_as_a_value_may_be() -> None:
    before: Any = {"x": 1}
    after: Any = {"x": 2}
    for _ in range(200):
        before, after = {"a": before}, {"a": after}
    assert apply(before, read_patch(encode(diff(before, after)))) == after  # type: ignore[arg-type]


@given(values, values)
def test_same(one: Any, other: Any) -> None:
    assert same(one, other) == (canonical(one) == canonical(other))


DAMAGED = [
    "", "[]", "1", "null", "{", '{"sets":{}}', '{"set":[]}', '{"set":{},"x":1}', '{"remove":{"a":1}}', '{"remove":[1]}',
    '{"append":[]}', '{"append":{"a":1}}', '{"patch":[]}', '{"patch":{"a":1}}', '{"patch":{"a":{"oops":{}}}}',
    '{"patch":{"a":{"append":{"a":{}}}}}',
]  # fmt: skip


@pytest.mark.parametrize("text", DAMAGED)
def test_a_damaged_patch_is_refused(text: str) -> None:
    with pytest.raises(ContextError):
        read_patch(text)


@given(documents)
def test_a_view_is_measured_only_when_its_bound_says_so(document: Any) -> None:
    size = encoded_size(document)
    limits = Limits(context_bytes=max(size, 32))
    assert check_size(document, 5, limits) == 5
    assert check_size(document, limits.context_bytes + 1, limits) == size
    view = View(document)
    view.size = 7
    assert size_bound(view) == 7
    assert size_bound(document) == size


def test_a_document_over_the_limit_names_its_largest_keys() -> None:
    document: Any = {"small": 1, "large": "x" * 100, "larger": "x" * 200}
    with pytest.raises(ContextError, match=r"'larger' \(2\d\d\), 'large' \(1\d\d\)"):
        check_size(document, 1000, Limits(context_bytes=300))
