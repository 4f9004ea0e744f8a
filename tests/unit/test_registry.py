"""The registry: one version a name, and nothing that this version cannot run."""

from __future__ import annotations

import pytest

from cloacina import Context, Workflow
from cloacina.engine.registry import Registry
from cloacina.errors import RegistrationError


def body(ctx: Context) -> None: ...


def other(ctx: Context) -> None:
    ctx["other"] = True


def make(function: object = body, name: str = "work") -> Workflow:
    workflow = Workflow(name)
    workflow.task(id="only")(function)  # type: ignore[call-overload]
    return workflow


def test_a_workflow_is_taken_once() -> None:
    registry, workflow = Registry(), make()
    assert registry.add(workflow)
    assert not registry.add(workflow)
    assert not registry.add(make())
    assert registry.versions() == (("work", workflow.version),)
    assert registry.get("work") is workflow


def test_a_name_stands_for_one_version() -> None:
    registry = Registry()
    registry.add(make())
    with pytest.raises(RegistrationError, match="'work' is registered with version"):
        registry.add(make(other))


def test_an_unknown_name_is_refused_with_the_known_ones() -> None:
    registry = Registry()
    registry.add(make(name="a"))
    with pytest.raises(RegistrationError, match=r"no workflow named 'b' .*known: a"):
        registry.get("b")
    assert registry.find("b") is None
