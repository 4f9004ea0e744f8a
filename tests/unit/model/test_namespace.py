"""Namespaces: four names in one text, and back."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloacina.errors import ValidationError
from cloacina.model.names import NAME
from cloacina.model.routing.namespace import TaskNamespace, parse_namespace

NAMES = st.from_regex(NAME, fullmatch=True)


@given(NAMES, NAMES, NAMES, NAMES)
def test_a_namespace_is_read_as_it_was_written(tenant: str, package: str, workflow: str, task: str) -> None:
    namespace = TaskNamespace(tenant, package, workflow, task)
    assert str(namespace) == f"{tenant}::{package}::{workflow}::{task}"
    assert parse_namespace(str(namespace)) == namespace


def test_a_workflow_without_a_package_is_embedded_and_public() -> None:
    assert str(TaskNamespace.of("orders", "load")) == "public::embedded::orders::load"
    assert TaskNamespace.of("w", "t", tenant="acme", package="etl") == TaskNamespace("acme", "etl", "w", "t")


def test_it_is_a_value() -> None:
    namespace = TaskNamespace.of("w", "t")
    assert {namespace: 1}[TaskNamespace.of("w", "t")] == 1
    with pytest.raises(AttributeError):
        namespace.task = "other"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "it has 1 of 4 parts"),
        ("orders::load", "it has 2 of 4 parts: write tenant::package::workflow::task"),
        ("a::b::c::d::e", "it has 5 of 4 parts"),
        ("a::b::c::", "cannot name a task"),
        ("a::b c::d::e", "cannot name a package"),
        ("a:::b::c::d", "cannot name a package"),
        ("::b::c::d", "cannot name a tenant"),
        ("a::b::c/d::e", "cannot name a workflow"),
        ("x" * 10_000, "it has 1 of 4 parts"),
        (None, "a namespace is a text, not NoneType"),
        (7, "a namespace is a text, not int"),
    ],
)
def test_what_is_no_namespace_is_refused_with_the_reason(text: Any, told: str) -> None:
    with pytest.raises(ValidationError) as caught:
        parse_namespace(text)
    assert told in str(caught.value)
    assert len(str(caught.value)) < 700
