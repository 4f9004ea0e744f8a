"""Assertions about what an execution came to, whose messages tell the whole story."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from cloacina.errors import ValidationError
from cloacina.model.definition.hints import did_you_mean, listing, shown
from cloacina.model.result import ErrorInfo, ExecutionResult, TaskResult
from cloacina.model.status import ExecutionStatus, Reason, TaskState
from cloacina.model.task import Task


def assert_completed(result: ExecutionResult) -> None:
    """The execution completed."""
    __tracebackhide__ = True
    _expect(_checked(result).status is ExecutionStatus.COMPLETED, "the execution did not complete", result)


def assert_failed(
    result: ExecutionResult,
    *,
    task: Task | str | None = None,
    error: type[BaseException] | str | None = None,
) -> None:
    """The execution failed; with ``task``, that task did; with ``error``, the last error was of that kind.

    ``error`` is a class, which must be the error's own, or a text that stands in what the error says.
    """
    __tracebackhide__ = True
    _expect(_checked(result).status is ExecutionStatus.FAILED, "the execution did not fail", result)
    failed = [one for one in result.tasks.values() if one.state is TaskState.FAILED]
    if task is not None:
        one = _task(result, task)
        _expect(one.state is TaskState.FAILED, f"task {one.id!r} did not fail: it is {one.state}", result)
        failed = [one]
    if error is not None:
        told = [one.error for one in failed if one.error is not None]
        wanted = error if isinstance(error, str) else error.__qualname__
        _expect(any(_is(info, error) for info in told), f"no error is {wanted!r}", result)


def assert_skipped(result: ExecutionResult, task: Task | str, *, reason: Reason | str | None = None) -> None:
    """A task was skipped; with ``reason``, for that one: ``"rule_not_met"``, ``"dependency_failed"`` and so on."""
    __tracebackhide__ = True
    one = _task(result, task)
    _expect(one.state is TaskState.SKIPPED, f"task {one.id!r} was not skipped: it is {one.state}", result)
    if reason is not None:
        known = [one.value for one in Reason]
        if reason not in known:
            hint = did_you_mean(reason, known)
            raise ValidationError(
                f"assert_skipped: no reason {reason!r}: give one of {listing(known)}.{hint}"
            )
        _expect(one.reason == reason, f"task {one.id!r} was skipped as {one.reason}, not as {reason}", result)


def assert_attempts(result: ExecutionResult, task: Task | str, times: int) -> None:
    """So many attempts of a task were started; 0 if it never ran."""
    __tracebackhide__ = True
    one = _task(result, task)
    _expect(one.attempts == times, f"task {one.id!r} had {one.attempts} attempts, not {times}", result)


def assert_context(result: ExecutionResult, expected: Mapping[str, Any]) -> None:
    """The result's context has these values under these keys; it may have others."""
    __tracebackhide__ = True
    found = _checked(result).context.to_dict()
    wrong = [
        f"context[{key!r}] is {shown(found[key], 200) if key in found else 'not there'}, not {shown(value, 200)}"
        for key, value in expected.items()
        if key not in found or found[key] != value
    ]
    _expect(not wrong, "; ".join(wrong), result)


def assert_order(result: ExecutionResult, *tasks: Task | str) -> None:
    """These tasks ran one after the other: each began when the one before it had ended."""
    __tracebackhide__ = True
    if len(tasks) < 2:
        raise ValidationError("assert_order: name two tasks or more, in the order in which they are to run")
    chain = [_task(result, task) for task in tasks]
    for one in chain:
        _expect(one.started is not None, f"task {one.id!r} never ran: it is {one.state}", result)
    for first, then in pairwise(chain):
        ended, began = first.finished, then.started
        after = ended is not None and began is not None and ended <= began
        _expect(after, f"task {then.id!r} began before task {first.id!r} had ended", result)


def _expect(holds: bool, otherwise: str, result: ExecutionResult) -> None:
    __tracebackhide__ = True
    if not holds:
        raise AssertionError(f"{otherwise}\n{_story(result)}")


def _story(result: ExecutionResult) -> str:
    """What happened, a line for each task."""
    width = max(map(len, result.tasks), default=0)
    lines = [result.summary]
    for task in result.tasks.values():
        attempts = f" after {task.attempts} attempts" if task.attempts > 1 else ""
        why = task.error if task.state is not TaskState.COMPLETED and task.error else task.reason
        lines.append(f"  {task.id:<{width}}  {task.state}{attempts}{f': {why}' if why else ''}")
    return "\n".join(lines)


def _task(result: ExecutionResult, task: Task | str) -> TaskResult:
    id = task.id if isinstance(task, Task) else task
    known = _checked(result).tasks
    if id not in known:
        raise ValidationError(
            f"workflow {result.workflow!r} has no task {id!r}: it has {listing(list(known))}.{did_you_mean(id, known)}"
        )
    return known[id]


def _checked(result: ExecutionResult) -> ExecutionResult:
    if not isinstance(result, ExecutionResult):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ValidationError(
            f"{shown(result)} is no result: give what execute() or result() returned; did you forget to await it?"
        )
    return result


def _is(info: ErrorInfo, wanted: type[BaseException] | str) -> bool:
    if isinstance(wanted, str):
        return wanted in str(info)
    module = "" if wanted.__module__ == "builtins" else f"{wanted.__module__}."
    return info.type == f"{module}{wanted.__qualname__}"
