"""Settings: defaults, bad values, and the environment."""

from __future__ import annotations

import ast
import inspect
import os
import re
from dataclasses import FrozenInstanceError, fields
from pathlib import Path
from typing import Any

import pytest

from cloacina import settings
from cloacina.errors import ValidationError
from cloacina.settings import Settings

NAMES = [field.name for field in fields(Settings)]
NUMBERS = [field.name for field in fields(Settings) if field.type != "bool"]


def test_the_window_follows_the_slots() -> None:
    assert Settings(async_slots=10, thread_slots=5, process_slots=3).window == 72
    assert Settings(window=7).window == 7


def test_there_is_a_process_for_each_cpu() -> None:
    assert Settings().process_slots == len(os.sched_getaffinity(0))
    assert Settings(process_slots=7).process_slots == 7


def test_the_page_has_a_row_for_each() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs/how-to/running.md").read_text("utf-8")
    rows = "".join(line.split("|")[1] for line in page.splitlines() if line.startswith("| `"))
    assert sorted(re.findall(r"`(\w+)`", rows)) == sorted(NAMES)


def test_they_are_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        Settings().lease = 1.0  # type: ignore[misc]


@pytest.mark.parametrize("value", [-1, True, "5", None, float("nan"), float("inf"), []])
@pytest.mark.parametrize("name", NUMBERS)
def test_bad_values_are_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(ValidationError, match=name):
        Settings(**{name: value})


@pytest.mark.parametrize("name", ["async_slots", "thread_slots", "lease", "poll_interval", "group_rows"])
def test_what_must_not_be_zero_is_refused(name: str) -> None:
    with pytest.raises(ValidationError, match="at least"):
        Settings(**{name: 0})


def test_a_fraction_of_a_slot_is_refused() -> None:
    with pytest.raises(ValidationError, match="whole number"):
        Settings(async_slots=1.5)  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [0, 1, "yes", None])
def test_what_is_not_true_or_false_is_refused_by_name(value: Any) -> None:
    with pytest.raises(ValidationError, match="allow_unsafe_server"):
        Settings(allow_unsafe_server=value)


def test_only_the_program_itself_can_allow_an_unsafe_server() -> None:
    assert not Settings.from_environment({"CLOACINA_ALLOW_UNSAFE_SERVER": "1"}).allow_unsafe_server
    assert Settings.from_environment({}, allow_unsafe_server=True).allow_unsafe_server


def test_the_environment_sets_every_number_and_arguments_win() -> None:
    environ = {f"CLOACINA_{name.upper()}": "3" for name in NUMBERS}
    found = Settings.from_environment({**environ, "CLOACINA_UNRELATED": "x", "LEASE": "9"}, lease=4.0)
    assert {name: getattr(found, name) for name in NUMBERS} == {
        name: 4.0 if name == "lease" else 3 for name in NUMBERS
    }


@pytest.mark.parametrize("text", ["", "many", "1e", "-5", "nan"])
@pytest.mark.parametrize("name", ["thread_slots", "lease"])
def test_bad_text_in_the_environment_is_refused_by_name(name: str, text: str) -> None:
    with pytest.raises(ValidationError, match=f"(?i){name}"):
        Settings.from_environment({f"CLOACINA_{name.upper()}": text})


def test_every_field_says_what_it_means() -> None:
    (node,) = (one for one in ast.parse(inspect.getsource(settings)).body if isinstance(one, ast.ClassDef))
    for field, text in zip(node.body, node.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign):
            assert isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant), ast.unparse(field)
