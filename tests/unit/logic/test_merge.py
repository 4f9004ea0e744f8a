"""Views: what branches did to one key, joined; depending on the DAG and on nothing else (F102)."""

from __future__ import annotations

import operator
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloacina.errors import ContextConflict, ContextError
from cloacina.logic.merge import view
from cloacina.model.context.context import Context
from cloacina.model.context.keys import Key
from cloacina.model.json.patch import Patch, View
from cloacina.model.json.values import Limits, encode

Patches = list[tuple[int, Any]]
IDS = ["first", "left", "right", "join"]
FORK = [0b0000, 0b0001, 0b0001, 0b0111]
"""The ancestors of a task, two branches and their join."""


def fold(base: Any, patches: Patches, masks: list[int] = FORK, **options: Any) -> View:
    defaults = {"keys": {}, "forbid_conflicts": False, "limits": Limits(), "ids": IDS}
    return view(base, patches, masks=masks, **{**defaults, **options})


def within(change: Any) -> Any:
    """The patch that changes the object under ``a`` so."""
    return {"patch": {"a": change}}


BRANCHES: list[tuple[Any, Any, Any, Any, str | None]] = [
    # base, left, right, view of the join, path of the conflict
    ({}, {"set": {"a": 1}}, {"set": {"b": 2}}, {"a": 1, "b": 2}, None),
    ({}, {"set": {"a": 1}}, {"set": {"a": 2}}, {"a": 2}, "a"),
    ({}, {"set": {"a": 1}}, {"set": {"a": 1}}, {"a": 1}, "a"),
    ({"a": 0}, {"set": {"a": 1}}, {"remove": ["a"]}, {}, "a"),
    ({"a": 0}, {"remove": ["a"]}, {"set": {"a": 1}}, {"a": 1}, "a"),
    ({"a": 0}, {"remove": ["a"]}, {"remove": ["a"]}, {}, None),
    ({"a": [1]}, {"append": {"a": [2]}}, {"append": {"a": [3]}}, {"a": [1, 2, 3]}, None),
    ({"a": [1]}, {"append": {"a": [2]}}, {"set": {"a": [9]}}, {"a": [9]}, "a"),
    ({"a": [1]}, {"set": {"a": [9]}}, {"append": {"a": [2]}}, {"a": [9, 2]}, "a"),
    ({"a": [1]}, {"set": {"a": 9}}, {"append": {"a": [2]}}, {"a": [2]}, "a"),
    ({"a": [1]}, {"append": {"a": [2]}}, within({"set": {"y": 2}}), {"a": {"y": 2}}, "a"),
    ({"a": [1]}, {"remove": ["a"]}, {"append": {"a": [2]}}, {"a": [2]}, "a"),
    ({"a": [1]}, {"append": {"a": [2]}}, {"remove": ["a"]}, {}, "a"),
    ({"a": {"x": 1}}, within({"set": {"y": 2}}), within({"set": {"z": 3}}), {"a": {"x": 1, "y": 2, "z": 3}}, None),
    ({"a": {"x": 1}}, within({"set": {"x": 2}}), within({"set": {"x": 3}}), {"a": {"x": 3}}, "a.x"),
    ({"a": {"x": [1]}}, within({"append": {"x": [2]}}), within({"append": {"x": [3]}}), {"a": {"x": [1, 2, 3]}}, None),
    ({"a": {"x": 1}}, within({"set": {"y": 2}}), {"set": {"a": 5}}, {"a": 5}, "a"),
    ({"a": {"x": 1}}, {"set": {"a": 5}}, within({"set": {"y": 2}}), {"a": {"y": 2}}, "a"),
    ({"a": {"x": 1}}, {"remove": ["a"]}, within({"set": {"y": 2}}), {"a": {"y": 2}}, "a"),
    ({"a": {"b": {"c": 1}}}, within({"patch": {"b": {"set": {"c": 2}}}}), within({"remove": ["b"]}), {"a": {}}, "a.b"),
    ({"a": {"b": 1}}, within({"remove": ["b"]}), within({"remove": ["b"]}), {"a": {}}, None),
]  # fmt: skip


@pytest.mark.parametrize(("base", "left", "right", "joined", "conflict"), BRANCHES, ids=range(len(BRANCHES)))
def test_two_branches(base: Any, left: Any, right: Any, joined: Any, conflict: str | None) -> None:
    given_in = deepcopy((base, left, right))
    for patches in ([(1, left), (2, right)], [(2, right), (1, left)]):
        assert fold(base, patches) == joined
        if conflict is None:
            assert fold(base, patches, forbid_conflicts=True) == joined
            continue
        with pytest.raises(ContextConflict, match="'left' and 'right'") as caught:
            fold(base, patches, forbid_conflicts=True)
        assert caught.value.path == conflict
    assert repr((base, left, right)) == repr(given_in)


@pytest.mark.parametrize(("base", "left", "right", "joined", "conflict"), BRANCHES, ids=range(len(BRANCHES)))
def test_one_after_the_other_is_never_a_conflict(
    base: Any, left: Any, right: Any, joined: Any, conflict: Any
) -> None:
    assert fold(base, [(1, left), (2, right)], [0, 0b1, 0b11], forbid_conflicts=True) == joined


def test_a_conflict_ends_where_a_task_saw_both() -> None:
    """first → left, right (one key each); join saw both and may write both; what follows the join too."""
    masks = [0, 0b1, 0b1, 0b111, 0b1111]
    patches = [
        (1, {"set": {"a": 1}}),
        (2, {"set": {"b": 1}}),
        (3, {"set": {"a": 2, "b": 2}}),
        (4, {"remove": ["a"]}),
    ]
    assert fold({}, patches, masks, forbid_conflicts=True) == {"b": 2}


def test_a_removal_forgets_what_it_saw() -> None:
    """left extends, its follower removes; right, unseen by both, removes too: nobody's work is lost."""
    masks = [0, 0b1, 0b11, 0b1]
    patches = [(1, {"append": {"a": [1]}}), (2, {"remove": ["a"]}), (3, {"remove": ["a"]})]
    assert fold({"a": []}, patches, masks, forbid_conflicts=True) == {}
    with pytest.raises(ContextConflict):
        fold({"a": []}, [*patches[:2], (3, {"append": {"a": [2]}})], masks, forbid_conflicts=True)


def test_each_of_two_removals_counts() -> None:
    """left and right both remove; what follows right alone has not seen left's removal."""
    patches = [(1, {"remove": ["a"]}), (2, {"remove": ["a"]}), (3, {"set": {"a": 2}})]
    with pytest.raises(ContextConflict, match="'left' and 'join'"):
        fold({"a": 0}, patches, [0, 0b1, 0b1, 0b101], forbid_conflicts=True)


def tally(one: Any, other: Any) -> Any:
    return {key: one.get(key, 0) + other.get(key, 0) for key in sorted({*one, *other})}


MERGES: list[tuple[Any, Callable[[Any, Any], Any], Any, Any, Any, Any]] = [
    # type, merge, value in the base, left, right, value in the join
    (int, operator.add, None, {"set": {"k": 1}}, {"set": {"k": 2}}, 3),
    (int, operator.add, 10, {"set": {"k": 15}}, {"set": {"k": 15}}, 30),
    (int, operator.sub, None, {"set": {"k": 5}}, {"set": {"k": 3}}, 2),
    (int, max, 1, {"set": {"k": 7}}, {"set": {"k": 4}}, 7),
    (int, max, 1, {"remove": ["k"]}, {"set": {"k": 4}}, 4),
    (int, max, 1, {"set": {"k": 4}}, {"remove": ["k"]}, None),
    (int, max, 1, {"set": {"k": 4}}, {}, 4),
    (int, max, 1, {}, {}, 1),
    (list[int], operator.add, [1], {"append": {"k": [2]}}, {"append": {"k": [3]}}, [1, 2, 1, 3]),
    (list[int], lambda a, b: sorted({*a, *b}), [1], {"append": {"k": [3]}}, {"append": {"k": [3, 2]}}, [1, 2, 3]),
    (list[int], lambda a, b: sorted({*a, *b}), [1], {"append": {"k": [3]}}, {"set": {"k": [2]}}, [1, 2, 3]),
    (dict[str, int], tally, {"x": 1}, {"patch": {"k": {"set": {"x": 2}}}}, {"patch": {"k": {"set": {"y": 5}}}},
     {"x": 3, "y": 5}),
    (bytes, operator.add, None, {"set": {"k": "YQ=="}}, {"set": {"k": "Yg=="}}, "YWI="),
]  # fmt: skip


@pytest.mark.parametrize(("form", "merge", "old", "left", "right", "joined"), MERGES, ids=range(len(MERGES)))
def test_a_key_with_a_merge_function(
    form: Any, merge: Any, old: Any, left: Any, right: Any, joined: Any
) -> None:
    base = {"other": 1} if old is None else {"k": old, "other": 1}
    keys = {"k": Key("k", form, merge=merge), "other": Key("other", int)}
    given_in = deepcopy((base, left, right))
    for options in ({}, {"forbid_conflicts": True}):
        found = fold(
            base, [(2, {**right, "set": {**right.get("set", {}), "r": 1}}), (1, left)], keys=keys, **options
        )
        assert found == {"other": 1, "r": 1} | ({} if joined is None else {"k": joined})
    assert repr((base, left, right)) == repr(given_in)


def test_a_task_that_saw_the_current_value_replaces_it() -> None:
    keys = {"k": Key("k", int, merge=operator.add)}
    patches = [(i, {"set": {"k": value}}) for i, value in enumerate([1, 10, 20, 5])]
    assert fold({}, patches[:1], keys=keys) == {"k": 1}
    assert fold({}, patches[:3], keys=keys) == {"k": 30}
    assert fold({}, patches, keys=keys) == {"k": 5}


def test_what_a_task_left_is_its_own_view_with_its_patch() -> None:
    """1 and 2 fork from 0; 3 follows both; 4 follows 2 alone and extends what it saw."""
    masks = [0, 0b1, 0b1, 0b111, 0b101]
    keys = {"k": Key("k", list[int], merge=operator.add)}
    patches = [(0, {"set": {"k": [0]}}), *((i, {"append": {"k": [i]}}) for i in (1, 2, 3, 4))]
    left = {1: [0, 1], 2: [0, 2], 3: [0, 1, 0, 2, 3], 4: [0, 2, 4]}
    assert fold({}, patches[:3], masks, keys=keys)["k"] == left[1] + left[2]
    assert fold({}, patches[:4], masks, keys=keys)["k"] == left[3]
    assert fold({}, patches, masks, keys=keys)["k"] == left[3] + left[4]


@pytest.mark.parametrize(
    ("merge", "base", "found"),
    [
        (lambda one, other: 1 // 0, {}, "ZeroDivisionError"),
        (lambda one, other: float("nan"), {}, "nan"),
        (lambda one, other: None, {}, "null"),
        (lambda one: one, {}, "TypeError"),
        (operator.add, {"k": "text"}, "array"),
    ],
)
def test_a_merge_that_fails_names_its_key(merge: Any, base: Any, found: str) -> None:
    keys = {"k": Key("k", int, merge=merge)}
    left = {"append": {"k": [1]}} if base else {"set": {"k": 1}}
    with pytest.raises(ContextError, match=found) as caught:
        fold(base, [(1, left), (2, {"set": {"k": 2}})], keys=keys)
    assert caught.value.path == "k"


def test_a_view_over_the_limit_is_refused() -> None:
    limits = Limits(context_bytes=200)
    patches = [(1, {"append": {"a": ["x" * 60]}}), (2, {"append": {"a": ["y" * 60]}})]
    assert len(encode(fold({"a": []}, patches, limits=limits))) <= 200
    with pytest.raises(ContextError, match="'a'"):
        fold({"a": ["z" * 90]}, patches, limits=limits)
    keys = {"k": Key("k", str, merge=lambda one, other: (one + other) * 10)}
    with pytest.raises(ContextError, match="'k'"):
        fold({}, [(1, {"set": {"k": "x" * 20}}), (2, {"set": {"k": "y" * 20}})], keys=keys, limits=limits)


def test_a_view_that_shrinks_in_the_end_is_not_too_large() -> None:
    patches = [(0, {"set": {"a": "x" * 90}}), (1, {"set": {"b": "x" * 90}}), (3, {"remove": ["a"]})]
    assert set(fold({}, patches, limits=Limits(context_bytes=120))) == {"b"}


def test_a_view_without_patches_costs_nothing_twice() -> None:
    base = {"a": 1}
    first = fold(base, [])
    assert first == base
    assert first is not base
    assert fold(first, []) is first


names = st.sampled_from("abc")
leaves = st.integers(0, 3) | st.lists(st.integers(0, 3), max_size=2)
values = leaves | st.dictionaries(names, leaves, max_size=2)
actions = st.lists(
    st.tuples(st.sampled_from(["set", "remove", "extend", "inside"]), names, values), max_size=3
)


@st.composite
def workflows(draw: st.DrawFn) -> tuple[list[int], list[Any]]:
    """Ancestor masks of a random DAG, and what the body of each task does to its context."""
    masks: list[int] = []
    for index in range(draw(st.integers(1, 7))):
        above = draw(st.sets(st.integers(0, index - 1), max_size=3)) if index else set()
        mask = 0
        for task in above:
            mask |= masks[task] | 1 << task
        masks.append(mask)
    return masks, [draw(actions) for _ in masks]


def act(ctx: Any, steps: Any) -> None:
    for verb, name, value in steps:
        found = ctx.get(name)
        if verb == "set":
            ctx[name] = deepcopy(value)
        elif verb == "remove":
            ctx.pop(name, None)
        elif verb == "extend" and isinstance(found, list):
            found.append(deepcopy(value))
        elif verb == "inside" and isinstance(found, dict):
            found["x"] = deepcopy(value)


def delta(before: Any, after: Any) -> list[Any]:
    """The model of a patch: (path, verb, value), written down the slow way."""
    steps: list[Any] = [((name,), "remove", None) for name in before if name not in after]
    for name, new in after.items():
        old = before.get(name)
        if name in before and repr(old) == repr(new):
            continue
        if isinstance(old, dict) and isinstance(new, dict):
            steps += [((name, *path), verb, value) for path, verb, value in delta(old, new)]
        elif isinstance(old, list) and isinstance(new, list) and new[: len(old)] == old:
            steps += [((name,), "append", item) for item in new[len(old) :]]
        else:
            steps.append(((name,), "set", new))
    return steps


def redo(document: Any, steps: list[Any]) -> None:
    for path, verb, value in steps:
        at = document
        for name in path[:-1]:
            if not isinstance(at.get(name), dict):
                at[name] = {}
            at = at[name]
        if verb == "remove":
            at.pop(path[-1], None)
        elif verb == "set":
            at[path[-1]] = deepcopy(value)
        else:
            if not isinstance(at.get(path[-1]), list):
                at[path[-1]] = []
            at[path[-1]].append(deepcopy(value))


START = {"a": [0], "b": {"x": 1, "y": [0]}}


@given(workflows(), st.randoms(use_true_random=False))
@settings(max_examples=300)
def test_views_of_random_dags_are_those_of_the_model(workflow: Any, order: Any) -> None:
    masks, bodies = workflow
    patches: dict[int, Patch] = {}
    deltas: dict[int, list[Any]] = {}
    views: dict[int, View] = {}
    start = fold(deepcopy(START), [])
    for task, mask in enumerate([*masks, (1 << len(masks)) - 1]):  # the last one is the sink
        model: Any = deepcopy(START)
        seen = [other for other in range(len(masks)) if mask >> other & 1]
        for other in seen:
            redo(model, deltas[other])
        shuffled = [(other, patches[other]) for other in seen]
        order.shuffle(shuffled)
        views[task] = fold(start, shuffled, masks)
        assert views[task] == model
        assert len(encode(views[task])) <= views[task].size
        if seen and mask == masks[seen[-1]] | 1 << seen[-1]:  # the shorter way below a single task
            assert fold(views[seen[-1]], [(seen[-1], patches[seen[-1]])], masks) == model
        if task < len(masks):
            ctx = Context.over(views[task])
            act(ctx, bodies[task])
            patches[task] = ctx.patch()
            act(after := deepcopy(model), bodies[task])
            deltas[task] = delta(model, after)
            assert views[task] == model
    assert start == START


@given(st.lists(st.lists(st.integers(0, 9), max_size=3), min_size=1, max_size=6))
def test_lists_extended_on_all_branches_keep_all(branches: list[list[int]]) -> None:
    patches = [(i, {"append": {"a": items}}) for i, items in enumerate(branches)]
    found = fold({"a": [0]}, patches[::-1], [0] * len(branches), forbid_conflicts=True)
    assert found["a"] == [0, *(item for items in branches for item in items)]


@given(workflows(), st.data())
def test_a_merge_function_sees_what_tasks_left(workflow: Any, data: Any) -> None:
    """Against the definition, in plain recursion: join what each task left, in canonical order."""
    masks = workflow[0]
    steps = st.sampled_from([{}, {"set": {"k": ["s"]}}, {"append": {"k": ["a"]}}, {"remove": ["k"]}])
    patches = {task: data.draw(steps) for task in range(len(masks))}
    base: Any = data.draw(st.sampled_from([{}, {"k": ["b"]}]))

    def left(task: int) -> Any:
        value: Any = joined(masks[task])
        patch: Any = patches[task]
        if "append" in patch:
            return [*(value or []), "a"]
        return patch["set"]["k"] if "set" in patch else None

    def joined(mask: int) -> Any:
        value, done = base.get("k"), 0
        for task in (task for task, patch in patches.items() if mask >> task & 1 and patch):
            new = left(task)
            merge = done & ~masks[task] and value is not None and new is not None
            value = ["(", *value, "|", *new, ")"] if merge else new
            done |= 1 << task
        return value

    everything = (1 << len(masks)) - 1
    key = Key("k", list[str], merge=lambda one, other: ["(", *one, "|", *other, ")"])
    found = fold(base, list(patches.items()), masks, keys={"k": key})
    assert found.get("k") == joined(everything)


SAW_SECOND = [0b0000, 0b0000, 0b0010, 0b0111]
"""Two tasks side by side, one that saw the second of them, and their join."""


@pytest.mark.parametrize(
    ("first", "second", "third", "path"),
    [
        ({"append": {"a": [1]}}, {"append": {"a": [2]}}, {"set": {"a": [3]}}, "a"),
        (within({"set": {"x": 1}}), within({"set": {"y": 2}}), {"set": {"a": 3}}, "a"),
        (within({"set": {"x": 1}}), within({"set": {"y": 2}}), within({"set": {"y": 3}}), None),
        ({"remove": ["a"]}, {"remove": ["a"]}, {"set": {"a": 3}}, "a"),
    ],
)
def test_a_conflict_with_any_of_several_that_combine(
    first: Any, second: Any, third: Any, path: str | None
) -> None:
    """The third saw what the second did, and not what the first did."""
    base: Any = {"a": [0]} if "append" in first else {"a": {}}
    patches = [(0, first), (1, second), (2, third)]
    if path is None:
        fold(base, patches, SAW_SECOND, forbid_conflicts=True)
        return
    with pytest.raises(ContextConflict, match="'first' and 'right' both wrote a,"):
        fold(base, patches, SAW_SECOND, forbid_conflicts=True)


def test_a_set_that_saw_all_ends_what_was_before() -> None:
    """What was extended, removed and set before it is no conflict with what comes after it on its branch."""
    chain = [0b0000, 0b0001, 0b0011, 0b0111]
    for before in ({"append": {"a": [1]}}, {"remove": ["a"]}, {"set": {"a": [9]}}):
        for after in ({"append": {"a": [1]}}, {"remove": ["a"]}, {"set": {"a": [9]}}):
            fold(
                {"a": [0]}, [(0, before), (1, {"set": {"a": [5]}}), (2, after)], chain, forbid_conflicts=True
            )
    beside = [0b0000, 0b0001, 0b0001, 0b0001]
    patches: Patches = [(0, {"remove": ["a"]}), (1, {"set": {"b": 1}}), (2, {"remove": ["a"]})]
    assert fold({"a": [0]}, patches, beside, forbid_conflicts=True) == {"b": 1}


def test_a_conflict_says_what_to_do() -> None:
    for ids, names in (
        (IDS, "'left' and 'right'"),
        ((), "number 1 in canonical order and number 2 in canonical order"),
    ):
        with pytest.raises(ContextConflict) as refusal:
            fold({}, [(1, {"set": {"a": 1}}), (2, {"set": {"a": 2}})], ids=ids, forbid_conflicts=True)
        assert str(refusal.value) == (
            f"the tasks {names} both wrote a, neither seeing the other's value, and the workflow has "
            'on_conflict="error". Let one depend on the other, write different keys, or give the workflow '
            "keys=[Key('a', ..., merge=function)]"
        )


def test_a_merge_function_takes_one_after_the_other() -> None:
    beside = [0, 0, 0, 0b0111]
    patches: Patches = [(n, {"set": {"n": 2**n}}) for n in range(3)]
    assert fold({}, patches, beside, keys={"n": Key("n", int, merge=lambda one, other: one + other)}) == {
        "n": 7
    }


def test_what_is_merged_counts_with_all_the_rest() -> None:
    keys = {"k": Key("k", str, merge=lambda one, other: one + other)}
    patches: Patches = [(1, {"set": {"k": "x" * 40}}), (2, {"set": {"k": "y" * 40}})]
    fold({"a": "z" * 80}, patches, keys=keys, limits=Limits(context_bytes=200))
    with pytest.raises(ContextError):
        fold({"a": "z" * 120}, patches, keys=keys, limits=Limits(context_bytes=200))
