"""Tasks: what a function becomes, and how its body will be called."""

from __future__ import annotations

import asyncio
import copy
import dataclasses
import functools
import inspect
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, Optional

import pytest

from cloacina.errors import WorkflowError
from cloacina.model.context.context import Context
from cloacina.model.retry import Exponential, RetryPolicy
from cloacina.model.rules import task_failed
from cloacina.model.task import Task, TypedTask, task

if TYPE_CHECKING:
    from somewhere import TaskHandle, Unseen  # type: ignore[import-not-found]


async def load(ctx: Context, table: str = "orders") -> None:
    """Load a table.

    And more about that.
    """
    ctx["loaded"] = table


def save(ctx: Context) -> Context:
    return ctx


class Steps:
    async def begin(self, ctx: Context) -> None: ...

    def end(self, ctx: Context) -> None: ...

    @staticmethod
    def middle(ctx: Context) -> None: ...

    @classmethod
    def made(cls, ctx: Context) -> None: ...

    async def __call__(self, ctx: Context) -> None: ...


class Plain:
    def __call__(self, ctx: Context) -> None: ...


def test_a_bare_decorator() -> None:
    made = task(load)
    assert isinstance(made, TypedTask)
    assert isinstance(made, Task)
    assert (made.id, made.fn, made.is_async, made.handle_parameter) == ("load", load, True, None)
    assert (made.dependencies, made.retry, made.rule, made.timeout) == ((), None, None, None)
    assert (made.optional, made.recovers, made.overlap, made.tags) == (False, False, False, ())
    assert made.description == "Load a table."


def test_a_task_is_called_and_looks_like_its_function() -> None:
    made = task(load)
    context = Context()
    asyncio.run(made(context, table="users"))
    assert context["loaded"] == "users"
    assert (made.__name__, made.__qualname__, made.__module__) == ("load", "load", __name__)  # type: ignore[attr-defined]
    assert made.__doc__ == load.__doc__
    assert inspect.signature(made) == inspect.signature(load)
    assert task(save)(context) is context


def test_every_option() -> None:
    def told(ctx: Context, info: object) -> None: ...

    made = task(
        save,
        id="save.all-2",
        dependencies=[task(load), "clean"],
        retry=RetryPolicy(5),
        trigger_rules=task_failed("clean"),
        timeout=timedelta(minutes=1),
        optional=True,
        recovers=True,
        on_success=told,
        on_failure=told,
        description="Saves.",
        tags=["io", "team:data", "io"],
        overlap=True,
    )
    assert (made.id, made.dependencies, made.retry) == ("save.all-2", ("load", "clean"), RetryPolicy(5))
    assert (made.rule, made.timeout) == (task_failed("clean"), 60.0)
    assert made.optional
    assert made.recovers
    assert made.overlap
    assert made.on_success is made.on_failure is told
    assert (made.description, made.tags) == ("Saves.", ("io", "team:data"))


@pytest.mark.parametrize(
    ("options", "policy"),
    [
        ({}, None),
        ({"retry": 4}, RetryPolicy(4)),
        ({"retry": False}, RetryPolicy.none()),
        ({"retry_attempts": 4}, RetryPolicy(4)),
        (
            {"retry_attempts": 3, "retry_delay_ms": 1000, "retry_backoff": "exponential"},
            RetryPolicy(3, 1.0, backoff=Exponential()),
        ),
        (
            {"retry_delay_ms": 5, "retry_max_delay_ms": 50, "retry_jitter": True, "retry_condition": OSError},
            RetryPolicy(initial_delay=0.005, max_delay=0.05, jitter=0.25, retry_on=OSError),
        ),
    ],
)
def test_both_spellings_of_retries(options: Any, policy: RetryPolicy | None) -> None:
    assert task(save, **options).retry == policy


def test_rules_as_json() -> None:
    made = task(save, dependencies=["a"], trigger_rules={"type": "TaskFailed", "task_name": "a"})
    assert made.rule == task_failed("a")


def test_dependencies_of_a_set_come_in_one_order() -> None:
    assert task(save, dependencies={"c", "a", "b"}).dependencies == ("a", "b", "c")
    assert task(save, dependencies=(id for id in "cab")).dependencies == ("c", "a", "b")


@pytest.mark.parametrize(
    ("fn", "name", "is_async"),
    [
        (load, "load", True),
        (save, "save", False),
        (Steps().begin, "begin", True),
        (Steps().end, "end", False),
        (Steps.middle, "middle", False),
        (staticmethod(save), "save", False),
        (Steps.made, "made", False),
        (functools.partial(load, table="users"), "load", True),
        (functools.partial(functools.partial(save)), "save", False),
        (functools.partial(Steps().begin), "begin", True),
        (functools.partial(task(load), table="users"), "load", True),
    ],
)
def test_bodies_of_every_kind(fn: Any, name: str, is_async: bool) -> None:
    made: Any = task(fn)
    assert (made.id, made.is_async) == (name, is_async)
    called = made(Context())
    assert inspect.iscoroutine(called) is is_async
    if is_async:
        called.close()


@pytest.mark.parametrize(
    ("fn", "is_async"), [(Steps(), True), (Plain(), False), (functools.partial(Steps()), True)]
)
def test_callable_objects_need_a_name(fn: Any, is_async: bool) -> None:
    assert task(fn, id="step").is_async is is_async
    with pytest.raises(WorkflowError, match=r'give one, id="\.\.\."'):
        task(fn)


def test_a_decorated_function_is_seen_through_its_wrapper() -> None:
    @functools.wraps(load)
    async def wrapper(*args: Any, **kwargs: Any) -> None:
        await load(*args, **kwargs)

    made = task(wrapper)
    assert (made.id, made.is_async, made.description) == ("load", True, "Load a table.")


def _handle_by_text(ctx: Context, h: TaskHandle) -> None: ...
def _handle_or_none(ctx: Context, h: TaskHandle | None = None) -> None: ...
def _handle_quoted(ctx: Context, *, h: Optional[TaskHandle] = None) -> None: ...  # noqa: UP045
def _handle_by_name(ctx: Context, *, handle: Any) -> None: ...
def _handle_of_both(ctx: Context, h: TaskHandle, handle: int = 3) -> None: ...
def _context_called_handle(handle: Context) -> None: ...
def _all_in_one(*handle: Any) -> None: ...
def _other(ctx: Context, size: int = 1, **rest: Any) -> None: ...


class _Handles:
    class TaskHandle: ...

    @staticmethod
    def real(ctx: Context, h: Any) -> None: ...

    real.__annotations__["h"] = TaskHandle


@pytest.mark.parametrize(
    ("fn", "name"),
    [
        (_handle_by_text, "h"),
        (_handle_or_none, "h"),
        (_handle_quoted, "h"),
        (_handle_by_name, "handle"),
        (_handle_of_both, "h"),
        (_Handles.real, "h"),
        (_context_called_handle, None),
        (_all_in_one, None),
        (_other, None),
    ],
)
def test_the_handle_is_found(fn: Any, name: str | None) -> None:
    assert task(fn).handle_parameter == name


Alias = Context
Maybe = Context | None


class Mine(Context): ...


def _none(ctx: Context) -> None: ...
def _context(ctx: Context) -> Context: ...  # type: ignore[empty-body]
def _union(ctx: Context) -> Context | None: ...
def _optional(ctx: Context) -> Optional[Context]: ...  # noqa: UP045
def _any(ctx: Context) -> Any: ...
def _alias(ctx: Context) -> Maybe: ...
def _quoted(ctx: Context) -> "Alias | None": ...  # noqa: UP037
def _subclass(ctx: Context) -> Mine: ...  # type: ignore[empty-body]
def _annotated(ctx: Context) -> Annotated[None, "nothing"]: ...
def _never(ctx: Context) -> NoReturn: ...  # type: ignore[empty-body]
def _unseen(ctx: Context) -> Unseen: ...
def _nothing(ctx): ...  # type: ignore[no-untyped-def]


@pytest.mark.parametrize(
    "fn",
    [
        _none,
        _context,
        _union,
        _optional,
        _any,
        _alias,
        _quoted,
        _subclass,
        _annotated,
        _never,
        _unseen,
        _nothing,
    ],
)
def test_allowed_return_annotations(fn: Any) -> None:
    assert task(fn).fn is fn


def test_annotations_that_are_values_are_read_too() -> None:
    def body(ctx: Context) -> None: ...

    for allowed in (None, Context, Mine, Maybe, Optional[Context], Any, NoReturn, Annotated[None, 1], "None"):  # noqa: UP045
        body.__annotations__["return"] = allowed
        assert task(body).id == "body"
    for refused in (int, dict[str, int], Context | int, Optional[int], Annotated[int, 1], "int | None"):  # noqa: UP045
        body.__annotations__["return"] = refused
        with pytest.raises(WorkflowError, match="put results into the context"):
            task(body)


def test_a_task_is_immutable_and_compared_by_identity() -> None:
    made = task(save)
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.timeout = 3.0  # type: ignore[misc]
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.anything = 3  # type: ignore[attr-defined]
    assert made != task(save)
    assert len({made, task(save)}) == 2
    assert copy.copy(made).id == "save"
    assert repr(task(save, dependencies=["a", "b"])) == "<Task save after a, b>"
