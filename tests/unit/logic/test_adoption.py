"""Adoption: which executions can go on under another version, for each policy."""

from __future__ import annotations

from typing import Any

import pytest

from cloacina.logic.adoption import Succession, Touched
from cloacina.model.dag.outline import Outline, TaskOutline
from cloacina.model.workflow import OnVersion

OLD, NEW = "old", "new"


def version(name: str, *tasks: str, code: str | None = "x", **changes: dict[str, Any]) -> Outline:
    """Tasks as ``b<a`` (b depends on a); ``changes`` by id."""
    outlines: list[TaskOutline] = []
    for text in tasks:
        id, _, needed = text.partition("<")
        fields: dict[str, Any] = {"dependencies": tuple(needed), "code": code, **changes.get(id, {})}
        outlines.append(TaskOutline(id=id, **fields))
    return Outline("w", name, tuple(outlines))


CHAIN = ("a", "b<a", "c<b")
RULE: dict[str, Any] = {"rule": {"type": "Always"}}

# What the new version is, what was touched (small: ended, capital: not), and the objection of each policy.
CASES: dict[str, tuple[Outline, str, str | None, str | None]] = {
    "nothing changed": (version(NEW, *CHAIN), "aB", None, None),
    "nothing touched, all changed": (version(NEW, "x", "y<x"), "", None, None),
    "body changed": (version(NEW, *CHAIN, code="y"), "aB", None, None),
    "a task more at the end": (version(NEW, *CHAIN, "d<c"), "aB", None, None),
    "a root more": (version(NEW, "r", *CHAIN), "aB", None, None),
    "untouched one gone": (version(NEW, "a", "b<a"), "aB", None, None),
    "untouched one changed": (version(NEW, "a", "b<a", "c<a", c=RULE), "ab", None, None),
    "flags changed": (version(NEW, *CHAIN, b={"optional": True}), "ab", None, None),
    "one before an untouched one": (version(NEW, "a", "b<a", "x<b", "c<x"), "ab", None, None),
    "touched one gone": (version(NEW, "a", "c<a"), "aB", "b is gone", "b is gone"),
    "touched one skipped and gone": (version(NEW, "a", "c<a"), "ab", "b is gone", "b is gone"),
    "dependency more, not ended": (
        version(NEW, "a", "x", "b<ax"), "aB", "b depends on a, x instead of a", "b depends on x",
    ),
    "dependency more, ended": (version(NEW, "a", "b<a", "c<ab"), "abC", "c depends on a, b instead of b", None),
    "dependency less": (version(NEW, "a", "b", "c<b"), "aB", "b depends on nothing instead of a", None),
    "rule": (version(NEW, *CHAIN, b=RULE), "aB", "b has another rule", None),
    "rule of a task that ended": (version(NEW, *CHAIN, a=RULE), "a", "a has another rule", None),
    "one that is not known": (version(NEW, *CHAIN, "z"), "z", "z is not known", None),
    "a dependency that has only begun": (
        version(NEW, "a", "b<a", "c<ab"), "aBC", "c depends on a, b", "c depends on b",
    ),
}  # fmt: skip


def touched(text: str) -> list[Touched]:
    return [Touched(one.lower(), one.islower()) for one in text]


KEPT = "tasks that have run or were skipped must stay as they are"


def test_an_objection_is_a_sentence() -> None:
    def found(policy: OnVersion, *tasks: str) -> str | None:
        return Succession(version(OLD, *CHAIN), version(NEW, *tasks), policy).objection(touched("abC"))

    assert found("adopt_if_compatible", "a", "b") == f"{KEPT}: b depends on nothing instead of a, c is gone"
    assert found("adopt", "x") == f"{KEPT}: a is gone, b is gone, c is gone"
    assert found("adopt", "a", "b<a", "x", "c<x") == (
        "a task has begun before what it depends on now: c depends on x"
    )


@pytest.mark.parametrize(("new", "tasks", "strict", "lenient"), CASES.values(), ids=CASES)
def test_cases(new: Outline, tasks: str, strict: str | None, lenient: str | None) -> None:
    wanted: dict[OnVersion, str | None] = {"adopt_if_compatible": strict, "adopt": lenient}
    for policy, reason in wanted.items():
        found = Succession(version(OLD, *CHAIN), new, policy).objection(touched(tasks))
        assert found is None if reason is None else found is not None and reason in found, (policy, found)


def test_the_same_version_is_no_question() -> None:
    for policy in ("adopt_if_compatible", "adopt", "pin"):
        same = Succession(version(OLD, *CHAIN), version(OLD, "x"), policy)  # type: ignore[arg-type]
        assert same.objection(touched("aB")) is None and not same.pinned


def test_a_pinned_workflow_takes_nothing() -> None:
    pinned = Succession(version(OLD, *CHAIN), version(NEW, *CHAIN), "pin")
    assert pinned.pinned
    for asked in (False, True):
        assert pinned.objection([], asked=asked) == 'the workflow has on_version="pin"'


@pytest.mark.parametrize(("old", "new"), [(OLD, "unversioned-2"), ("unversioned-1", NEW)])
def test_code_without_source_is_not_taken_over_silently(old: str, new: str) -> None:
    before, after = version(old, *CHAIN), version(new, *CHAIN)
    reason = Succession(before, after, "adopt_if_compatible").objection([])
    assert reason is not None and "unversioned-" in reason and "code without source" in reason
    assert Succession(before, after, "adopt_if_compatible").objection(touched("aB"), asked=True) is None
    assert Succession(before, after, "adopt").objection(touched("aB")) is None


def test_a_version_that_cannot_be_read() -> None:
    for policy in ("adopt_if_compatible", "adopt"):
        unread = Succession(OLD, version(NEW, *CHAIN), policy)  # type: ignore[arg-type]
        assert unread.objection(touched("a")) == "what is stored of version old cannot be read"
        assert unread.stale_code("a")


def test_only_some_tasks_are_spelled_out() -> None:
    old = version(OLD, *"abcdef")
    reason = Succession(old, version(NEW, "z"), "adopt_if_compatible").objection(touched("abcdef"))
    assert reason is not None and reason.endswith("a is gone, b is gone, c is gone, and 3 more")


def test_code_is_stale_unless_it_is_surely_the_same() -> None:
    old = version(OLD, *"abcd", d={"code": None})
    new = version(NEW, *"abd", b={"code": "y"}, d={"code": None})
    succession = Succession(old, new, "adopt_if_compatible")
    assert [id for id in "abcd" if succession.stale_code(id)] == ["b", "c", "d"]
