"""Names: one pattern for all, refused with a typed error (F094)."""

from __future__ import annotations

import pytest

from cloacina.errors import ValidationError, WorkflowError
from cloacina.model.names import check_name

GOOD = ["a", "_", "0", "fetch_data", "Fetch-2.1", "a.b.c", "x" * 100, "_-.", "9lives"]
BAD = [
    "",
    " ",
    "   ",
    "\t",
    "\n",
    "a\n",
    "\na",
    "a b",
    " a",
    "a ",
    "-a",
    ".a",
    "..",
    ".",
    "a/b",
    "a\\b",
    "../a",
    "a:b",
    "a::b",
    "a*",
    "a'b",
    'a"b',
    "a;b",
    "a%b",
    "a\0b",
    "\0",
    "a\x1b[31m",
    "a\x7f",
    "\u0430bc",  # Cyrillic a
    "\uff41",  # fullwidth a
    "\u0661",  # Arabic digit one
    "caf\u00e9",
    "cafe\u0301",
    "a\u200bb",  # zero width space
    "a\u202eb",  # right-to-left override
    "\u2024a",
    "\ud800",
    "\U0001f600",
    "x" * 101,
    "x" * 10_240,
]
NO_STRINGS: list[object] = [None, 1, 1.5, True, b"a", ["a"], ("a",), object()]


@pytest.mark.parametrize("name", GOOD)
def test_accepts(name: str) -> None:
    assert check_name("task", name) == name


@pytest.mark.parametrize("name", BAD)
def test_refuses_with_a_short_printable_message(name: str) -> None:
    with pytest.raises(ValidationError, match="task") as caught:
        check_name("task", name)
    assert len(str(caught.value)) < 300
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("name", NO_STRINGS)
def test_refuses_what_is_no_string(name: object) -> None:
    with pytest.raises(ValidationError, match="a string"):
        check_name("workflow", name)


def test_raises_the_error_that_is_asked_for() -> None:
    with pytest.raises(WorkflowError):
        check_name("task", "", WorkflowError)


def test_returns_a_plain_string() -> None:
    class Shouting(str):
        def __str__(self) -> str:
            return "LOUD"

    assert type(check_name("task", Shouting("quiet"))) is str
    assert check_name("task", Shouting("quiet")) == "quiet"
