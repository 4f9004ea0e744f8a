"""Routing: which executor runs a task, decided once when its workflow is registered.

The first rule whose pattern matches the task's namespace decides; without one the task's own ``executor=``
option does, and without that ``local``, which means the executor ``loop`` for an ``async def`` body and
``threads`` for a ``def`` body.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import cast

from cloacina.errors import RegistrationError, ValidationError
from cloacina.model.definition.hints import did_you_mean
from cloacina.model.names import check_name
from cloacina.model.retry import RetryPolicy
from cloacina.model.routing.namespace import TaskNamespace, parse_namespace
from cloacina.model.task import Task
from cloacina.model.workflow import Workflow

LOCAL, LOOP, THREADS, PROCESS = "local", "loop", "threads", "process"

Check = Callable[[Task, RetryPolicy], None]
"""Raises `ValidationError` if an executor cannot run a task that follows this policy."""

_WILDCARDS = frozenset("*?[")


@dataclass(frozen=True, slots=True)
class RoutingRule:
    """Tasks whose namespace matches ``pattern`` run on ``executor``.

    Args:
        pattern: a glob on the whole namespace, ``tenant::package::workflow::task``: ``*`` stands for any
            characters, ``?`` for one, ``[ab]`` for one of those; upper and lower case differ.
        executor: the name of an executor of the runner.

    Raises `ValidationError` for a bad name, and for a pattern that can match nothing.
    """

    pattern: str
    executor: str

    def __post_init__(self) -> None:
        if not isinstance(self.pattern, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ValidationError(
                f"a routing pattern is a text, not {type(self.pattern).__name__}: write '*::orders::*'"
            )
        if not _WILDCARDS.intersection(self.pattern):
            parse_namespace(self.pattern)
        object.__setattr__(self, "executor", check_name("executor", self.executor))

    def matches(self, namespace: TaskNamespace) -> bool:
        """True if the rule is about this task."""
        return fnmatchcase(str(namespace), self.pattern)


def _only_async(task: Task, policy: RetryPolicy) -> None:
    if not task.is_async:
        raise ValidationError("its body is a plain def, which would block the loop: use 'threads' or 'local'")


def _only_def(task: Task, policy: RetryPolicy) -> None:
    if task.is_async:
        raise ValidationError("its body is async def, which needs the loop: use 'loop' or 'local'")


BUILT_IN: Mapping[str, Check] = MappingProxyType({LOOP: _only_async, THREADS: _only_def})


class Routing:
    """The routing rules of one runner.

    ``checks`` has every executor by name, with what it demands of a task. Raises `ValidationError` for rules
    that are none, and for one that names an executor which is not there.
    """

    def __init__(self, rules: Iterable[RoutingRule] = (), checks: Mapping[str, Check] = BUILT_IN) -> None:
        self._rules = _listed(rules)
        self._checks = checks
        for rule in self._rules:
            if rule.executor != LOCAL and rule.executor not in checks:
                raise ValidationError(f"{rule}: {self._remedy(rule.executor)}")

    def routes(self, workflow: Workflow) -> tuple[str, ...]:
        """The executor of each task of ``workflow``, in canonical order; freezes the workflow.

        Raises `RegistrationError` for an executor that is not there or cannot run the task.
        """
        return tuple(
            self._route(workflow.name, task, policy)
            for task, policy in zip(workflow.dag.tasks, workflow.policies, strict=True)
        )

    def _route(self, workflow: str, task: Task, policy: RetryPolicy) -> str:
        rule = self._rule(workflow, task)
        wanted = rule.executor if rule is not None else task.executor or LOCAL
        key = wanted if wanted != LOCAL else LOOP if task.is_async else THREADS
        check = self._checks.get(key)
        try:
            if check is None:
                raise ValidationError(self._remedy(wanted))
            check(task, policy)
        except ValidationError as refused:
            sent = rule or f"executor={wanted!r}"
            raise RegistrationError(
                f"workflow {workflow!r}, task {task.id!r}: it cannot run where {sent} sends it: {refused}"
            ) from refused
        return key

    def _rule(self, workflow: str, task: Task) -> RoutingRule | None:
        if not self._rules:
            return None
        namespace = TaskNamespace.of(workflow, task.id)
        return next((rule for rule in self._rules if rule.matches(namespace)), None)

    def _remedy(self, executor: str) -> str:
        known = (LOCAL, *self._checks)
        return (
            f"this runner has no executor {executor!r} (known: {', '.join(known)}): give it one, "
            f"Runner(executors={{{executor!r}: ...}}).{did_you_mean(executor, known)}"
        )


def _listed(rules: object) -> tuple[RoutingRule, ...]:
    if isinstance(rules, (str, Mapping, RoutingRule)) or not isinstance(rules, Iterable):
        raise ValidationError(f"routing={rules!r:.80} is no list: write routing=[RoutingRule(...)]")
    listed = tuple(cast("Iterable[object]", rules))
    for rule in listed:
        if not isinstance(rule, RoutingRule):
            raise ValidationError(
                f"{rule!r:.80} in routing= is no rule: write RoutingRule(pattern, executor)"
            )
    return cast("tuple[RoutingRule, ...]", listed)
