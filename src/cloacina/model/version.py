"""The version of a workflow: a hash over everything that changes what its executions do.

What counts: the names of workflow and tasks, dependencies, rules, retry policies, timeouts, ``optional``,
``recovers``, ``overlap``, ``on_conflict``, the merge functions of keys, each body's code, and the order in which
equal tasks were declared, because merges follow it. What does not: comments, layout, docstrings, annotations,
decorators, descriptions, tags, callbacks, what is declared to be checked (``inputs``, ``reads``, ``writes``), and
helpers that a body calls by a global name.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from cloacina.model.definition.fingerprint import Fingerprints
from cloacina.model.definition.source import Sources
from cloacina.model.retry import Exponential, Fixed, Linear, RetryPolicy
from cloacina.model.task import Task

if TYPE_CHECKING:
    from cloacina.model.context.keys import Key

UNVERSIONED = "unversioned-"
"""How a version begins if some code has no source: it is never adopted silently."""

_FORMAT = "cloacina version 1"
_DIGITS = 32
_CODE_DIGITS = 16


def version_of(
    name: str,
    tasks: Sequence[Task],
    policies: Sequence[RetryPolicy],
    *,
    timeout: float | None,
    keys: Mapping[str, Key[Any]],
    on_conflict: str,
    sources: Sources | None = None,
) -> str:
    """The version of a workflow whose ``tasks`` are in canonical order and follow ``policies``, one each.

    Returns 32 hexadecimal digits, after `UNVERSIONED` if the source of some code cannot be found. Equal in every
    process, whatever its hash seed and its minor version of Python.
    """
    code = Fingerprints(sources)
    lines = [_FORMAT, f"workflow {name} timeout={timeout!r} on_conflict={on_conflict}"]
    lines += [
        f"key {key.name!a} {code.reference(key.merge)}"
        for key in sorted(keys.values(), key=lambda key: key.name)
        if key.merge is not None
    ]
    for task, policy in zip(tasks, policies, strict=True):
        lines.append(_task_line(task))
        lines.append(_policy_line(policy, code))
        lines.append(code.reference(task.fn, task.lines))
    lines.append(code.text())
    digest = hashlib.sha256("\n".join(lines).encode()).hexdigest()[:_DIGITS]
    return UNVERSIONED + digest if code.unversioned else digest


def codes_of(tasks: Sequence[Task], sources: Sources | None = None) -> tuple[str | None, ...]:
    """The fingerprint of each task's body alone: equal in two versions if its code is; None without source."""
    read = Sources() if sources is None else sources
    found: list[str | None] = []
    for task in tasks:
        code = Fingerprints(read)
        text = f"{code.reference(task.fn, task.lines)}\n{code.text()}"
        found.append(None if code.unversioned else hashlib.sha256(text.encode()).hexdigest()[:_CODE_DIGITS])
    return tuple(found)


def _task_line(task: Task) -> str:
    rule = "none" if task.rule is None else _json(task.rule.to_json())
    flags = [flag for flag in ("optional", "recovers", "overlap", "is_async") if getattr(task, flag)]
    return f"task {task.id} after={sorted(task.dependencies)} rule={rule} timeout={task.timeout!r} {flags}"


def _policy_line(policy: RetryPolicy, code: Fingerprints) -> str:
    if policy.max_attempts == 1 or policy.retry_on == "never":
        return "no retry"
    return (
        f"retry {policy.max_attempts} initial={policy.initial_delay!r} max={policy.max_delay!r} "
        f"backoff={_backoff(policy, code)} jitter={policy.jitter!r} on={_retry_on(policy, code)}"
    )


def _backoff(policy: RetryPolicy, code: Fingerprints) -> str:
    backoff = policy.backoff
    return repr(backoff) if isinstance(backoff, (Fixed, Linear, Exponential)) else code.reference(backoff)


def _retry_on(policy: RetryPolicy, code: Fingerprints) -> str:
    wanted = policy.retry_on
    if isinstance(wanted, str):
        return wanted
    if callable(wanted):
        return code.reference(wanted)
    return ascii(sorted({kind.__qualname__ for kind in wanted}))


def _json(value: object) -> str:
    return ascii(msgspec.json.encode(value, order="deterministic").decode())
