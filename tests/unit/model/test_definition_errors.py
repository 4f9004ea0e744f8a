"""Every mistake in a definition is told with the workflow, the task, the problem and the remedy."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import timedelta
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest

from cloacina.errors import WorkflowError
from cloacina.model.context.context import Context
from cloacina.model.context.keys import Key
from cloacina.model.retry import RetryPolicy
from cloacina.model.rules import context_value, task_failed, task_success
from cloacina.model.task import Task, task
from cloacina.model.workflow import Workflow


def load(ctx: Context) -> None: ...
async def coroutine(ctx: Context) -> None: ...
def _generator(ctx: Context) -> Iterator[int]:
    yield 1


async def _async_generator(ctx: Context) -> AsyncIterator[int]:
    yield 1


def _no_context() -> None: ...
def _no_positional(*, ctx: Context) -> None: ...
def _only_keywords(**rest: Any) -> None: ...
def _handle_first(handle: "TaskHandle", ctx: Context) -> None: ...  # type: ignore[name-defined]  # noqa: F821, UP037
def _two_handles(ctx: Context, a: "TaskHandle", b: "TaskHandle") -> None: ...  # type: ignore[name-defined]  # noqa: F821, UP037
def _handle_by_place(ctx: Context, handle: Any, /) -> None: ...
def _needs_more(ctx: Context, table: str, *, size: int) -> None: ...
def _returns_number(ctx: Context) -> int: ...  # type: ignore[empty-body]
def _returns_dict(ctx: Context) -> dict[str, int]: ...  # type: ignore[empty-body]
def _returns_awaitable(ctx: Context) -> Awaitable[None]: ...  # type: ignore[empty-body]
def _returns_either(ctx: Context) -> Context | bool: ...  # type: ignore[empty-body]
async def _async_returns_text(ctx: Context) -> str: ...  # type: ignore[empty-body]
def prüfen(ctx: Context) -> None: ...


class Steps:
    def begin(self, ctx: Context) -> None: ...


class NoName:
    def __call__(self, ctx: Context) -> None: ...


def _lambda_in_a_partial() -> object:
    return partial(lambda ctx, n: None, n=1)


def _called() -> object:
    called = coroutine(Context())
    called.close()
    return called


def told(ctx: Context, info: object) -> None: ...
def takes_one(ctx: Context) -> None: ...


BODIES: list[tuple[Any, list[str]]] = [
    (lambda ctx: None, ["lambda", "write a function with def"]),
    (_lambda_in_a_partial(), ["lambda", "write a function with def"]),
    (_generator, ["generator", "in place of yield"]),
    (_async_generator, ["generator", "in place of yield"]),
    (partial(_generator), ["generator", "in place of yield"]),
    (Steps, ["class Steps", "hand over a function"]),
    (Steps.begin, ["method without its object", "make an object of Steps", "object.begin"]),
    (_called(), ["called already", "the function itself"]),
    (None, ["None is no body", "the function itself"]),
    ("load", ["'load' is no body", "the function itself"]),
    (_no_context, ["takes no context", "def body(ctx)"]),
    (_no_positional, ["takes no context", "def body(ctx)"]),
    (_only_keywords, ["takes no context", "def body(ctx)"]),
    (partial(load, Context()), ["takes no context", "def body(ctx)"]),
    (_handle_first, ["'handle' is a TaskHandle", "the context comes first"]),
    (_two_handles, ["'a', 'b'", "only one"]),
    (_handle_by_place, ["positional-only", "take the / out"]),
    (_needs_more, ["'table', 'size'", "give a default, bind it"]),
    (_returns_number, ["return int", "write -> None"]),
    (_returns_dict, ["return dict[str, int]", "write -> None"]),
    (_returns_awaitable, ["return Awaitable[None]", "write -> None"]),
    (_returns_either, ["return bool", "write -> None"]),
    (_async_returns_text, ["return str", "write -> None"]),
    (iter, ["cannot be seen", "def body(ctx)"]),
]


@pytest.mark.parametrize(("body", "words"), BODIES)
def test_bodies(body: Any, words: list[str]) -> None:
    workflow = Workflow("etl")
    ways: list[Callable[[Any], object]] = [partial(workflow.add, id="step"), workflow.task(id="step")]
    for make in ways:
        with pytest.raises(WorkflowError) as refused:
            make(body)
        _check(refused.value, ["workflow 'etl'", "task 'step'", *words])


OPTIONS: list[tuple[dict[str, Any], list[str]]] = [
    ({"dependencies": "extract"}, ["one text", "dependencies=['extract']"]),
    ({"dependencies": b"extract"}, ["one text", "write a list"]),
    ({"dependencies": task(load, id="extract")}, ["no list", "dependencies=['extract', clean]"]),
    ({"dependencies": {"extract": True}}, ["no list", "ids or tasks"]),
    ({"dependencies": None}, ["no list", "ids or tasks"]),
    ({"dependencies": 3}, ["no list", "ids or tasks"]),
    ({"dependencies": [load]}, ["plain function", "decorate it with @task"]),
    ({"dependencies": [3]}, ["3 is neither an id nor a task", "dependencies=["]),
    ({"dependencies": ["a", "b", "a"]}, ["'a' twice", "once"]),
    ({"dependencies": ["step"]}, ["depends on itself", "take 'step' out"]),
    ({"retry": True}, ["retry=True", "RetryPolicy(...)", "leave it out"]),
    ({"retry": 0}, ["max_attempts=0", "retry=False"]),
    ({"retry": -3}, ["max_attempts=-3", "retry=False"]),
    ({"retry": "3"}, ["retry='3'", "a number of attempts"]),
    ({"retry": 3.0}, ["retry=3.0", "a number of attempts"]),
    ({"retry": RetryPolicy(), "retry_attempts": 3}, ["'retry_attempts' say it twice", "keep retry="]),
    ({"retry": False, "retry_jitter": True}, ["'retry_jitter' say it twice", "keep retry="]),
    ({"retry_attempts": 0}, ["retry_attempts=0", "1 to"]),
    ({"retry_delay_ms": -1}, ["retry_delay_ms=-1", "0 or more"]),
    ({"retry_delay_ms": 60_000}, ["retry_delay_ms=60000", "max_delay=60"]),
    ({"retry_backoff": "lineal"}, ["retry_backoff='lineal'", "Did you mean 'linear'"]),
    ({"retry_condition": "sometimes"}, ["retry_condition='sometimes'", "'transient'"]),
    ({"trigger_rules": True}, ["trigger_rules=True", "task_failed('fetch')"]),
    ({"trigger_rules": "always"}, ["trigger_rules='always'", "task_failed('fetch')"]),
    ({"trigger_rules": task_failed}, ["no condition", "task_failed('fetch')"]),
    ({"trigger_rules": {"type": "Sometimes"}}, ["trigger_rules", "Sometimes"]),
    ({"trigger_rules": {"type": "All", "conditions": []}}, ["trigger_rules"]),
    ({"trigger_rules": task_failed("extract")}, ["'extract', which it does not depend on", "Add that to"]),
    (
        {"dependencies": ["a"], "trigger_rules": task_failed("a") | task_success("b")},
        ["tests 'b'", "Add that to"],
    ),
    (
        {"dependencies": ["fetch"], "trigger_rules": task_failed("fetsh")},
        ["tests 'fetsh'", "Did you mean 'fetch'"],
    ),
    ({"recovers": True}, ["recovers=True", "trigger_rules=task_failed(...)"]),
    ({"recovers": True, "dependencies": ["a"]}, ["recovers=True", "trigger_rules=task_failed(...)"]),
    ({"recovers": True, "trigger_rules": context_value("n", ">", 1)}, ["stand in", "task_failed(...)"]),
    (
        {"recovers": True, "dependencies": ["a"], "trigger_rules": task_success("a")},
        ["stand in", "task_failed(...)"],
    ),
    ({"timeout": 0}, ["timeout=0", "more than 0"]),
    ({"timeout": -1.5}, ["timeout=-1.5", "more than 0"]),
    ({"timeout": math.nan}, ["timeout=nan", "more than 0"]),
    ({"timeout": math.inf}, ["timeout=inf", "at most 366 days"]),
    ({"timeout": 10**400}, ["timeout=", "at most 366 days"]),
    ({"timeout": timedelta(0)}, ["timeout=", "more than 0"]),
    ({"timeout": "5s"}, ["timeout='5s'", "seconds or a timedelta"]),
    ({"timeout": True}, ["timeout=True", "seconds or a timedelta"]),
    ({"optional": "no"}, ["optional='no'", "True nor False"]),
    ({"recovers": 1}, ["recovers=1", "True nor False"]),
    ({"overlap": None}, ["overlap=None", "True nor False"]),
    ({"on_success": "told"}, ["on_success='told'", "def on_success(ctx, info)"]),
    ({"on_failure": takes_one}, ["on_failure=", "(ctx, info)"]),
    ({"on_failure": SimpleNamespace}, ["on_failure=", "def on_failure(ctx, info)"]),
    ({"description": None}, ["description=None", "write a string"]),
    ({"description": "a\0b"}, ["description=", "take it out"]),
    ({"description": "\ud800"}, ["description=", "take it out"]),
    ({"tags": "nightly"}, ["tags='nightly'", "tags=['nightly'"]),
    ({"tags": ["a", ""]}, ["tag ''", "1 to 100 printable"]),
    ({"tags": ["a\n"]}, ["tag 'a\\n'", "1 to 100 printable"]),
    ({"tags": ["x" * 101]}, ["tag 'xxx", "1 to 100 printable"]),
    ({"tags": [3]}, ["tag 3", "1 to 100 printable"]),
    ({"retrys": 3}, ["unknown option 'retrys'", "Did you mean 'retry'", "timeout"]),
    ({"depends_on": ["a"]}, ["unknown option 'depends_on'", "The options are"]),
    ({"trigger_rule": None}, ["unknown option 'trigger_rule'", "Did you mean 'trigger_rules'"]),
]


@pytest.mark.parametrize(("options", "words"), OPTIONS)
def test_options(options: dict[str, Any], words: list[str]) -> None:
    workflow = Workflow("etl")
    ways: list[Callable[[], object]] = [
        lambda: workflow.add(load, id="step", **options),
        lambda: workflow.task(id="step", **options)(load),
        lambda: workflow.task(load, id="step", **options),
    ]
    for make in ways:
        with pytest.raises(WorkflowError) as refused:
            make()
        _check(refused.value, ["workflow 'etl'", "task 'step'", *words])
    with pytest.raises(WorkflowError) as refused:
        task(load, id="step", **options)
    _check(refused.value, ["task 'step'", *words])
    assert workflow.tasks == ()


BAD_NAMES: list[Any] = [
    "", " ", "a b", "a/b", "../a", "-a", ".a", "a\n", "a\0", "ü", "\u0430", "x" * 101, "x" * 10_000, "a'b", "a::b",
    None, 3, b"a", "\ud800", "a%2e",
]  # fmt: skip


@pytest.mark.parametrize("name", BAD_NAMES)
def test_names(name: Any) -> None:
    words = "1 to 100 of the characters" if isinstance(name, str) else "name"
    with pytest.raises(WorkflowError) as refused:
        Workflow(name)
    _check(refused.value, ["workflow", words])
    with pytest.raises(WorkflowError) as refused:
        Workflow("etl").add(load, id=name)
    _check(refused.value, ["workflow 'etl'", "task", words])


def _named() -> Workflow:
    return Workflow("etl", [Task(load, id="extract"), Task(load, id="step")])


def _ring(*ids: str) -> Callable[[], object]:
    tasks = [Task(load, id=id, dependencies=[ids[place - 1]]) for place, id in enumerate(ids)]
    return lambda: Workflow("etl", tasks).validate()


WHOLE: list[tuple[Callable[[], object], list[str]]] = [
    (lambda: Workflow("etl").validate(), ["has no task", "@workflow.task"]),
    (lambda: Workflow("etl").version, ["has no task", "tasks=[...]"]),
    (lambda: _named().add(load, id="step"), ["task 'step'", "the id is there already", 'id="..."']),
    (lambda: _named().add(Task(load, id="step")), ["task 'step'", "the id is there already", 'id="..."']),
    (lambda: Workflow("etl", [task(load), task(load)]), ["task 'load'", "the id is there already"]),
    (lambda: _named().validate().add(load), ["task 'load'", "comes too late", "before that"]),
    (lambda: _named().add(task(load), retry=3), ["task 'load'", "'retry' cannot be set", "load.fn"]),
    (
        lambda: _named().task(task(load), id="x"),
        ["task 'x'", "'load' is a task already", "workflow.add(load)"],
    ),
    (lambda: _named().add(prüfen), ["task 'prüfen'", "1 to 100 of the characters"]),
    (lambda: _named().add(NoName()), ["task <", "has no name", 'id="..."']),
    (
        lambda: Workflow("etl", [*_named().tasks, Task(load, id="b", dependencies=["extrakt"])]).validate(),
        ["task 'b'", "depends on 'extrakt'", "Did you mean 'extract'", "correct dependencies="],
    ),
    (
        lambda: (
            Workflow(
                "etl", [Task(load, id="b", dependencies=["x"]), Task(load, id="c", dependencies=["y"])]
            ).dag
        ),
        ["task 'b': it depends on 'x'", "task 'c': it depends on 'y'", "Add that task"],
    ),
    (_ring("a", "b"), ["task 'a'", "in a cycle, a → b → a", "take out one", "'b' of 'a'"]),
    (_ring("a", "b", "c"), ["task 'a'", "in a cycle, a → b → c → a", "take out one"]),
    (lambda: Workflow("etl", "load"), ["tasks='load' is no list", "tasks=[...]"]),  # type: ignore[arg-type]
    (lambda: Workflow("etl", task(load)), ["is no list", "tasks=[...]"]),  # type: ignore[arg-type]
    (lambda: Workflow("etl", [load]), ["in tasks= is no task", "decorate it with @task"]),  # type: ignore[list-item]
    (lambda: Workflow("etl", retry=True), ["retry=True", "a number of attempts"]),
    (lambda: Workflow("etl", retry=0), ["max_attempts=0", "retry=False"]),
    (lambda: Workflow("etl", timeout=0), ["timeout=0", "more than 0"]),
    (lambda: Workflow("etl", timeout="1h"), ["timeout='1h'", "timedelta"]),  # type: ignore[arg-type]
    (lambda: Workflow("etl", keys=Key("n", int)), ["keys=", "keys=[Key(...)]"]),  # type: ignore[arg-type]
    (lambda: Workflow("etl", keys=["n"]), ["keys: 'n' is no Key", "Key(name, type"]),  # type: ignore[list-item]
    (lambda: Workflow("etl", keys=[Key("n", int), Key("n", str)]), ["'n' is there twice", "keep one"]),
    (lambda: Workflow("etl", on_conflict="eror"), ["on_conflict='eror'", "'merge' or 'error'"]),  # type: ignore[arg-type]
    (lambda: Workflow("etl", on_version="adapt"), ["on_version='adapt'", "'pin'", "Did you mean 'adopt'"]),  # type: ignore[arg-type]
    (lambda: Workflow("etl", on_success=3), ["on_success=3", "def on_success(ctx, info)"]),  # type: ignore[arg-type]
    (lambda: Workflow("etl", on_failure=takes_one), ["on_failure=", "(ctx, info)"]),  # type: ignore[arg-type]
    (lambda: Workflow("etl", description=3), ["description=3", "write a string"]),  # type: ignore[arg-type]
    (lambda: Workflow("etl", tags="x"), ["tags='x'", "tags=["]),
    (lambda: Workflow("etl", on_conflicts="error"), ["'on_conflicts'", "Did you mean 'on_conflict'"]),  # type: ignore[call-arg]
]


@pytest.mark.parametrize(("make", "words"), WHOLE)
def test_whole_workflows(make: Callable[[], object], words: list[str]) -> None:
    with pytest.raises(WorkflowError) as refused:
        make()
    _check(refused.value, ["workflow 'etl'", *words])


def _check(error: WorkflowError, words: list[str]) -> None:
    assert type(error) is WorkflowError
    assert [word for word in words if word not in str(error)] == [], str(error)
