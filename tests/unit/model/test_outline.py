"""Outlines: what a store keeps of a version is read back, and two versions are told apart task by task."""

from __future__ import annotations

from typing import Any

import pytest

from cloacina.errors import WorkflowError
from cloacina.model.context.context import Context
from cloacina.model.dag.outline import Outline, short
from cloacina.model.rules import context_value, task_failed, task_success
from cloacina.model.task import Task, task
from cloacina.model.workflow import Workflow


def plain(ctx: Context) -> None:
    ctx["plain"] = 1


def other(ctx: Context) -> None:
    ctx["other"] = 2


def made(*tasks: Task) -> Workflow:
    first = [task(plain, id="a"), task(plain, id="b", dependencies=["a"])]
    return Workflow("w", [*first, *tasks])


def outline(**options: Any) -> Outline:
    body = options.pop("body", plain)
    if options.pop("gone", False):
        return Outline.of(made())
    return Outline.of(made(task(body, id="c", **{"dependencies": ["a", "b"], **options})))


def test_what_is_stored_is_read_back() -> None:
    rule = task_failed("a") & context_value("n", ">", 1)
    workflow = made(
        task(plain, id="c", dependencies=["b", "a"], trigger_rules=rule, optional=True, recovers=True)
    )
    read = Outline.read(workflow.version, workflow.to_json())
    assert list(read.tasks) == list(workflow.dag.ids)
    assert (read.dag.ids, read.dag.dependencies) == (workflow.dag.ids, workflow.dag.dependencies)
    last = read.dag.tasks[-1]
    assert (last.rule, last.optional, last.recovers) == (rule, True, True)
    with pytest.raises(WorkflowError, match="another version"):
        last(Context())


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"name": "w"}', '{"name": "w", "tasks": [{"id": 1}]}', "\x00"]
)
def test_damaged_text_is_refused(text: str) -> None:
    with pytest.raises(WorkflowError, match="version 0123456789ab cannot be read"):
        Outline.read("0123456789abcdef", text)


@pytest.mark.parametrize(
    "tasks",
    [
        '[{"id": "a", "dependencies": ["b"]}]',
        '[{"id": "a", "rule": {"type": "Nothing"}}]',
        '[{"id": "a!"}]',
        "[]",
    ],
)
def test_what_is_no_dag_is_refused_when_it_is_needed(tasks: str) -> None:
    read = Outline.read("0123456789abcdef", f'{{"name": "w", "tasks": {tasks}}}')
    with pytest.raises(WorkflowError, match="cannot be understood"):
        read.dag  # noqa: B018


RULE = context_value("n", "==", 1)
DIFFERENCES: dict[str, tuple[dict[str, Any], dict[str, Any], str | None]] = {
    "nothing": ({}, {}, None),
    "order of dependencies": ({"dependencies": ["a", "b"]}, {"dependencies": ["b", "a"]}, None),
    "body": ({"body": plain}, {"body": other}, None),
    "policy": ({"retry": 2}, {"retry": 5, "timeout": 3, "optional": True}, None),
    "gone": ({}, {"gone": True}, "c is gone"),
    "more dependencies": ({"dependencies": ["a"]}, {}, "c depends on a, b instead of a"),
    "none any more": ({}, {"dependencies": []}, "c depends on nothing instead of a, b"),
    "rule": ({}, {"trigger_rules": task_success("a")}, "c has another rule"),
    "rule gone": ({"trigger_rules": RULE}, {}, "c has another rule"),
    "kind of number": (
        {"trigger_rules": RULE},
        {"trigger_rules": context_value("n", "==", True)},
        "c has another rule",
    ),
    "same rule": ({"trigger_rules": RULE}, {"trigger_rules": context_value("n", "Equals", 1)}, None),
}


@pytest.mark.parametrize(("before", "after", "told"), DIFFERENCES.values(), ids=DIFFERENCES)
def test_differences(before: dict[str, Any], after: dict[str, Any], told: str | None) -> None:
    old, new = outline(**before), outline(**after)
    assert old.difference("c", new) == told
    assert old.difference("a", new) is None


def test_a_task_that_the_version_does_not_have() -> None:
    assert outline(gone=True).difference("c", outline()) == "c is not known"


def test_code_is_the_same_if_only_other_things_changed() -> None:
    old = outline()
    assert old.same_code("c", outline(retry=9, dependencies=["a"]))
    assert not old.same_code("c", outline(body=other))
    assert not old.same_code("c", outline(gone=True))
    assert not outline(gone=True).same_code("c", old)


def test_code_of_one_task_does_not_depend_on_the_others() -> None:
    long = made(task(other, id="x"), task(plain, id="c"))
    assert Outline.of(long).same_code("c", outline())


def test_code_without_source_is_only_the_same_in_the_same_version() -> None:
    namespace: dict[str, Any] = {}
    exec("def hidden(ctx):\n    ctx['hidden'] = 1", namespace)
    hidden = outline(body=namespace["hidden"])
    more = outline(body=namespace["hidden"], retry=9)
    assert hidden.tasks["c"].code is None and hidden.tasks["a"].code is not None
    assert hidden.same_code("c", outline(body=namespace["hidden"]))
    assert not hidden.same_code("c", more) and hidden.same_code("a", more)


def test_stored_before_there_were_fingerprints() -> None:
    workflow = made()
    old = Outline.read("1", workflow.dag.to_json())
    assert not old.same_code("a", Outline.of(workflow))
    assert old.difference("a", Outline.of(workflow)) is None


def test_short_versions_tell_what_they_are() -> None:
    assert short("0123456789abcdef") == "0123456789ab"
    assert short("unversioned-0123456789abcdef") == "unversioned-0123456789ab"
    assert short("v1") == "v1"
