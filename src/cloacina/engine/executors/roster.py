"""The roster: which executors a runner has, and which tasks go to which."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import cast

from cloacina.engine.executors.around import AroundBody
from cloacina.engine.executors.loop import LoopExecutor
from cloacina.engine.executors.process.executor import ProcessExecutor
from cloacina.engine.executors.protocol import ExecutorFactory, ExecutorHost, TaskExecutor
from cloacina.engine.executors.threads import ThreadExecutor
from cloacina.errors import ValidationError
from cloacina.model.names import check_name
from cloacina.model.retry import RetryPolicy
from cloacina.model.routing.routing import (
    BUILT_IN,
    LOCAL,
    LOOP,
    PROCESS,
    THREADS,
    Check,
    Routing,
    RoutingRule,
)
from cloacina.model.task import Task


@dataclass(frozen=True, slots=True)
class Roster:
    """See the module's text."""

    factories: Mapping[str, ExecutorFactory]
    routing: Routing

    @classmethod
    def of(
        cls,
        executors: Mapping[str, ExecutorFactory] | None = None,
        rules: Iterable[RoutingRule] = (),
        around: AroundBody | None = None,
    ) -> Roster:
        """The built-in executors and ``executors``, by name, with these routing rules.

        ``around`` is wrapped around the bodies that run in this process. Raises `ValidationError` for what is
        none of these, and for a name that is taken.
        """
        factories = {**_BUILT_IN, **_checked(executors)}
        if around is not None:
            factories |= _wrapped(around)
        checks = {name: _check_of(name, factory) for name, factory in factories.items()}
        return cls(factories, Routing(rules, checks))


def _wrapped(around: AroundBody) -> dict[str, ExecutorFactory]:
    if not callable(around):
        raise ValidationError(
            f"around_body={around!r:.80} is no function: give one that returns a context manager for a body"
        )
    return {LOOP: partial(LoopExecutor, around=around), THREADS: partial(ThreadExecutor, around=around)}


def _checked(executors: object) -> dict[str, ExecutorFactory]:
    if executors is None:
        return {}
    if not isinstance(executors, Mapping):
        raise ValidationError(f"executors={executors!r:.80} is no mapping: write executors={{'mine': Mine}}")
    found: dict[str, ExecutorFactory] = {}
    for name, factory in cast("Mapping[object, object]", executors).items():
        key = check_name("executor", name)
        if key == LOCAL or key in _BUILT_IN:
            raise ValidationError(f"executors: {key!r} is built in: give yours another name")
        if not callable(factory):
            raise ValidationError(
                f"executors: {key!r} is {factory!r:.80}, which makes no executor: give a class or a function that "
                "takes an ExecutorHost and returns one"
            )
        found[key] = cast(ExecutorFactory, factory)
    return found


def made(name: str, factory: ExecutorFactory, host: ExecutorHost) -> TaskExecutor:
    """The executor that a factory makes. Raises `ValidationError` if it is none."""
    executor = factory(host)
    missing = [part for part in ("slots", "start", "stop", "close") if not hasattr(executor, part)]
    if missing:
        raise ValidationError(
            f"executors: what {name!r} makes is no executor: {type(executor).__name__} has no {', '.join(missing)}"
        )
    return executor


def _check_of(name: str, factory: ExecutorFactory) -> Check:
    own = cast("Check | None", getattr(factory, "check", None))
    return BUILT_IN.get(name) or own or _anything


def _anything(task: Task, policy: RetryPolicy) -> None:
    return None


_BUILT_IN: dict[str, ExecutorFactory] = {
    LOOP: LoopExecutor,
    THREADS: ThreadExecutor,
    PROCESS: ProcessExecutor,
}
