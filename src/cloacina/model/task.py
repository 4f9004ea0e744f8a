"""A task: a named unit of work, made from a function by a decorator."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, ParamSpec, TypeAlias, TypeVar, Unpack, cast, overload

from cloacina.errors import ValidationError, WorkflowError
from cloacina.model.context.context import Context
from cloacina.model.context.keys import Key
from cloacina.model.definition.body import body_name, read_body
from cloacina.model.definition.declared import read_keys
from cloacina.model.definition.durations import Duration
from cloacina.model.definition.fingerprint import plain_function
from cloacina.model.definition.hints import did_you_mean, listing, shown
from cloacina.model.definition.options import (
    Callback,
    check_known,
    read_callback,
    read_dependencies,
    read_executor,
    read_flag,
    read_retry,
    read_rule,
    read_tags,
    read_text,
    read_timeout,
)
from cloacina.model.definition.source import Lines, source_lines
from cloacina.model.names import check_name
from cloacina.model.retry import RetryOptions, RetryPolicy
from cloacina.model.rules import Condition, can_stand_in

Returned: TypeAlias = "Context | Awaitable[Context | None] | None"
"""What a body may return: nothing, or the context it was given."""

P = ParamSpec("P")
R_co = TypeVar("R_co", bound=Returned, covariant=True)
R = TypeVar("R", bound=Returned)


class TaskOptions(RetryOptions, total=False):
    """The options of a task; `Task` says what each means."""

    id: str
    dependencies: Iterable[str | Task]
    retry: RetryPolicy | int
    trigger_rules: Condition | Mapping[str, object]
    timeout: Duration | None
    optional: bool
    recovers: bool
    on_success: Callback | None
    on_failure: Callback | None
    description: str
    tags: Iterable[str]
    overlap: bool
    executor: str | None
    reads: Iterable[str | Key[Any]]
    writes: Iterable[str | Key[Any]]


@dataclass(frozen=True, eq=False, init=False, repr=False)
class Task:
    """A named unit of work. Immutable; may belong to several workflows; callable like its function.

    Args:
        fn: the body: ``async def`` or ``def``, a bound method, a `functools.partial`, or a callable object.
            Its first positional parameter takes the context; a parameter annotated `TaskHandle`, else one named
            ``handle``, takes the handle of the attempt; one annotated `Transaction` (`BlockingTransaction` for
            ``def``), else one named ``tx``, a transaction, on PostgreSQL only. It returns None or that context.
        id: the name; by default that of the function.
        dependencies: the tasks that must end first: ids or tasks. An id may be declared later.
        retry: a policy, a number of attempts, or False for one attempt; by default what the workflow says.
        retry_attempts: part of the flat spelling of a policy, in place of ``retry``; the other parts are
            ``retry_delay_ms``, ``retry_max_delay_ms``, ``retry_backoff``, ``retry_jitter`` and
            ``retry_condition``.
        trigger_rules: the condition under which it runs, as a value or as JSON; tests dependencies and context.
        timeout: seconds, or a timedelta, that one attempt may take; by default without end.
        optional: its failure does not fail the execution.
        recovers: when it completes in place of a failed task, that failure does not fail the execution.
        on_success, on_failure: ``(ctx, info)``, called at most once after the end was stored.
        description: by default the first line of the function's docstring.
        tags: labels for people and filters.
        overlap: a retry of a ``def`` body need not wait for the thread of an attempt that timed out.
        executor: where its body runs, unless a routing rule of the runner says otherwise: ``"local"``, the
            default, means this process; ``"process"`` a process of its own; or an executor of the runner's.
        reads: the context keys that it reads, names or `Key`: a workflow whose input and tasks above are all
            declared refuses one that nothing can have written. Not enforced when it runs.
        writes: the context keys that it changes: an attempt that changes another fails, without retry.

    Raises `WorkflowError` for anything else.
    """

    id: str
    fn: Callable[..., Any]
    dependencies: tuple[str, ...]
    retry: RetryPolicy | None
    rule: Condition | None
    timeout: float | None
    optional: bool
    recovers: bool
    on_success: Callback | None
    on_failure: Callback | None
    description: str
    tags: tuple[str, ...]
    overlap: bool
    executor: str | None
    reads: frozenset[str] | None
    writes: frozenset[str] | None
    is_async: bool
    handle_parameter: str | None
    transaction_parameter: str | None
    lines: Lines
    """The source of the body's file as it was when the task was made, for the version."""

    def __init__(self, fn: Callable[..., Any], /, **options: Unpack[TaskOptions]) -> None:
        given = cast("Mapping[str, object]", options)
        body = _bare(fn)
        name = given["id"] if "id" in given else body_name(body)
        try:
            # A frozen dataclass has no other way in.
            vars(self).update(_read(body, name, given))
        except ValidationError as refused:
            raise WorkflowError(
                f"task {shown(body if name is None else name)}: {refused}"
            ) from refused.__cause__

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the body, as if it had never been made a task."""
        return self.fn(*args, **kwargs)

    def __repr__(self) -> str:
        after = f" after {', '.join(self.dependencies)}" if self.dependencies else ""
        return f"<Task {self.id}{after}>"


@dataclass(frozen=True, eq=False, init=False, repr=False)
class TypedTask(Task, Generic[P, R_co]):
    """A `Task` whose call has the types of its function: what the decorators return."""

    fn: Callable[P, R_co]

    def __init__(self, fn: Callable[P, R_co], /, **options: Unpack[TaskOptions]) -> None:
        super().__init__(fn, **options)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """Call the body, as if it had never been made a task."""
        return self.fn(*args, **kwargs)


@overload
def task(fn: Callable[P, R], /, **options: Unpack[TaskOptions]) -> TypedTask[P, R]: ...
@overload
def task(**options: Unpack[TaskOptions]) -> Callable[[Callable[P, R]], TypedTask[P, R]]: ...
def task(fn: Callable[P, R] | None = None, /, **options: Unpack[TaskOptions]) -> object:
    """Make a `Task` from a function: ``@task``, ``@task(retry=5)`` or ``task(function, id="load")``.

    The options are those of `Task`. Raises `WorkflowError` if the function or an option is refused.
    """
    return functools.partial(TypedTask, **options) if fn is None else TypedTask(fn, **options)


def _bare(fn: Callable[..., Any]) -> Callable[..., Any]:
    """The function inside what a class body or a task wrapped around it."""
    wrapper: object = fn
    if isinstance(wrapper, staticmethod):
        return cast("staticmethod[..., Any]", wrapper).__func__
    if isinstance(wrapper, functools.partial):
        bound = cast(Any, wrapper)
        if isinstance(bound.func, Task):
            return functools.partial(bound.func.fn, *bound.args, **bound.keywords)
    return fn


def _read(fn: Callable[..., Any], name: object, options: Mapping[str, object]) -> dict[str, object]:
    """Every attribute of a task, checked."""
    check_known(options, TaskOptions.__optional_keys__)
    if isinstance(fn, Task):
        raise WorkflowError(f"{fn.id!r} is a task already: add it to a workflow, workflow.add({fn.id})")
    body = read_body(fn)
    if name is None:
        raise WorkflowError('it has no name: give one, id="..."')
    plain = plain_function(fn)
    read: dict[str, object] = {
        "id": check_name("task", name, WorkflowError),
        "fn": fn,
        "dependencies": read_dependencies(options.get("dependencies", ())),
        "retry": read_retry(options),
        "rule": read_rule(options.get("trigger_rules")),
        "timeout": read_timeout(options.get("timeout")),
        "description": read_text("description", options.get("description", _first_line(fn))),
        "tags": read_tags(options.get("tags", ())),
        "executor": read_executor(options.get("executor")),
        "is_async": body.is_async,
        "handle_parameter": body.handle_parameter,
        "transaction_parameter": body.transaction_parameter,
        "lines": source_lines(plain) if plain else [],
    }
    for flag in ("optional", "recovers", "overlap"):
        read[flag] = read_flag(flag, options.get(flag, False))
    for callback in ("on_success", "on_failure"):
        read[callback] = read_callback(callback, options.get(callback))
    for keys in ("reads", "writes"):
        read[keys] = read_keys(keys, options.get(keys))
    _check_rule(read)
    for name in functools.WRAPPER_ASSIGNMENTS:
        if hasattr(fn, name):
            read[name] = getattr(fn, name)
    read["__wrapped__"] = fn
    return read


def _check_rule(read: Mapping[str, Any]) -> None:
    """The rule may only name dependencies, and a task that recovers needs one that lets it stand in."""
    name, dependencies, rule = read["id"], read["dependencies"], cast("Condition | None", read["rule"])
    if name in dependencies:
        raise WorkflowError(f"it depends on itself: take {name!r} out of its dependencies")
    strangers = [] if rule is None else sorted(rule.tasks().difference(dependencies))
    if strangers:
        hint = did_you_mean(strangers[0], dependencies)
        raise WorkflowError(
            f"its rule tests {listing(strangers)}, which it does not depend on.{hint} Add that to its dependencies"
        )
    if read["recovers"] and (rule is None or not can_stand_in(rule, dependencies)):
        raise WorkflowError(
            "recovers=True needs a rule under which it can stand in for a failed task: "
            "write, for example, trigger_rules=task_failed(...)"
        )


def _first_line(fn: Callable[..., Any]) -> str:
    plain = plain_function(fn)
    return ((plain.__doc__ if plain else None) or "").strip().partition("\n")[0].strip()
