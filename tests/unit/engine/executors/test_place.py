"""Places: what another process finds by module and name, and what it does not."""

from __future__ import annotations

import functools
import sys
import types
from collections.abc import Callable
from typing import Any

import pytest

from cloacina.engine.executors.process.orders import checked, judge_of
from cloacina.engine.executors.process.place import Place, main_module, place_of
from cloacina.engine.executors.process.wire import Judge
from cloacina.errors import RegistrationError, ValidationError
from cloacina.model.context.context import Context
from cloacina.model.retry import RetryPolicy
from cloacina.model.task import Task, task
from cloacina.model.workflow import Workflow
from cloacina.runner import Runner
from support import process_bodies


def plain(ctx: Context) -> None: ...


@task
def decorated(ctx: Context) -> None: ...


def wrapping(fn: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(fn)
    def wrapper(*args: Any) -> Any:
        return fn(*args)

    return wrapper


@wrapping
def wrapped(ctx: Context) -> None: ...


class Steps:
    @staticmethod
    def static(ctx: Context) -> None: ...

    @classmethod
    def of_class(cls, ctx: Context) -> None: ...

    def method(self, ctx: Context) -> None: ...

    @task
    @staticmethod
    def inside(ctx: Context) -> None: ...

    def __call__(self, ctx: Context) -> None: ...


def twice(ctx: Context) -> None: ...


first_twice = twice


def twice(ctx: Context) -> None: ...  # type: ignore[no-redef]


def named_otherwise(ctx: Context) -> None: ...


named_otherwise.__qualname__ = "nothing_of_this_name"


def nested() -> Callable[..., Any]:
    def inner(ctx: Context) -> None: ...

    return inner


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests are modules without a place in `sys.path`, but they are loaded under a name."""
    monkeypatch.setitem(sys.modules, __name__, sys.modules[__name__])


@pytest.mark.parametrize(
    ("thing", "name"),
    [
        (plain, "plain"),
        (decorated.fn, "decorated"),
        (wrapped, "wrapped"),
        (Steps.static, "Steps.static"),
        (Steps.of_class, "Steps.of_class"),
        (Steps.inside.fn, "Steps.inside"),
        (Steps, "Steps"),
    ],
)
def test_what_stands_at_the_top_level_of_a_module_is_found(thing: Any, name: str) -> None:
    place = place_of(thing)
    assert place == Place(__name__, name)
    found: Any = place.find_loaded()
    assert (found.fn if isinstance(found, Task) else found) == thing


def test_what_is_built_in_is_found() -> None:
    assert place_of(ValueError) == Place("builtins", "ValueError")
    assert Place("builtins", "ValueError").find() is ValueError


@pytest.mark.parametrize(
    ("thing", "told"),
    [
        (nested(), "nested.<locals>.inner is made while the program runs"),
        (lambda ctx: None, "<lambda> is made while the program runs"),
        (functools.partial(plain), "a functools.partial has no name"),
        (Steps().method, "Steps.method is bound to an object of this process"),
        (Steps(), "an object of class Steps has no name"),
        (first_twice, "finds something else there, or nothing"),
        (named_otherwise, "finds something else there, or nothing"),
    ],
)
def test_what_no_other_process_finds_is_refused_with_the_remedy(thing: Any, told: str) -> None:
    with pytest.raises(ValidationError) as caught:
        place_of(thing)
    assert told in str(caught.value)
    assert "at the top level of a module" in str(caught.value) or "to the top level" in str(caught.value)


@pytest.mark.parametrize("main", [types.ModuleType("__main__"), None])
def test_a_prompt_and_a_notebook_have_no_file(main: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "__main__", main)
    assert main_module() is None
    typed = types.FunctionType(plain.__code__, {"__name__": "__main__"}, "typed")
    with pytest.raises(ValidationError, match="typed into a prompt or a notebook.*a module of its own"):
        place_of(typed)


def test_a_task_that_asks_for_a_handle_is_refused() -> None:
    def waits(ctx: Context, handle: object) -> None: ...

    with pytest.raises(ValidationError, match="'handle' asks for a TaskHandle.*wait in a task of its own"):
        checked(task(waits), RetryPolicy())


@pytest.mark.parametrize(
    ("retry_on", "judge"),
    [
        ("all", Judge("all")),
        ("transient", Judge("transient")),
        (
            (KeyError, process_bodies.Unpicklable),
            Judge(types=(Place("builtins", "KeyError"), Place("support.process_bodies", "Unpicklable"))),
        ),
        (process_bodies.is_value_error, Judge(predicate=Place("support.process_bodies", "is_value_error"))),
    ],
)
def test_a_policy_says_where_its_types_and_predicates_are(retry_on: Any, judge: Judge) -> None:
    assert judge_of(RetryPolicy(retry_on=retry_on)) == judge


class Local:
    class Error(Exception):
        pass


def test_a_policy_that_no_other_process_can_ask_is_refused() -> None:
    class Hidden(Exception):
        pass

    for retry_on in (lambda error: True, Hidden, (ValueError, Hidden)):
        policy = RetryPolicy(retry_on=retry_on)  # type: ignore[arg-type]
        with pytest.raises(
            ValidationError, match=r"its retry_on is asked where the body runs, and .*top level"
        ):
            checked(task(plain), policy)
    checked(task(plain), RetryPolicy(retry_on=Local.Error))


async def test_it_is_refused_when_the_workflow_is_registered() -> None:
    workflow = Workflow("work", [task(nested(), executor="process")])
    with pytest.raises(RegistrationError) as caught:
        async with Runner("sqlite://:memory:", workflows=[workflow]):
            raise AssertionError("it started")
    assert str(caught.value).startswith(
        "workflow 'work', task 'inner': it cannot run where executor='process' sends it: "
    )
    async with Runner("sqlite://:memory:") as runner:
        with pytest.raises(RegistrationError, match="top level of a module"):
            await runner.submit(workflow)
        assert await runner.list() == []
