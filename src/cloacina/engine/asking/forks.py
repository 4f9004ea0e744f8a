"""Forks as callers ask for them: an execution that has ended is done again in part, as a new one.

What is stored of the old one is read, `cloacina.logic.fork` decides which tasks are done again, and the new one
is inserted as a whole, without an owner: any runner that has its version claims it. The old one stays as it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from dataclasses import replace as changed
from operator import methodcaller
from typing import TYPE_CHECKING, Any, cast

from cloacina.clock import Clock
from cloacina.engine.asking.submission import read_input
from cloacina.engine.driving.records import input_of, past_of
from cloacina.engine.registry import Registry
from cloacina.errors import CloacinaError, ForkRefused, StoreError, ValidationError, WorkflowError
from cloacina.logic.adoption import Succession, Touched
from cloacina.logic.execution import Past
from cloacina.logic.fork import standing_of, to_redo, to_retry, views, without
from cloacina.model.context.keys import Key
from cloacina.model.dag.dag import Dag
from cloacina.model.dag.outline import Outline, short
from cloacina.model.definition.hints import did_you_mean, listing
from cloacina.model.ids import new_id
from cloacina.model.json.patch import read_patch
from cloacina.model.json.values import JSON, Limits, encode
from cloacina.model.result import ForkResult
from cloacina.model.status import AttemptState, ExecutionStatus
from cloacina.model.task import Task
from cloacina.model.workflow import Workflow
from cloacina.store.rows import (
    Checkpoint,
    ExecutionFilter,
    Fork,
    NewExecution,
    StoredAttempt,
    StoredExecution,
)

if TYPE_CHECKING:
    from cloacina.engine.asking.access import Access

PAGE = 50
"""How many executions of a bulk are read, and their forks stored in one transaction."""


@dataclass(frozen=True, slots=True)
class ForkPlan:
    """What is done again: what a retry does if ``tasks`` is None, else these tasks, or all if there are none.

    ``replace`` has top-level context keys with the values that they are to begin with.
    """

    tasks: tuple[str, ...] | None = None
    replace: Mapping[str, JSON] = field(default_factory=dict[str, JSON])

    @classmethod
    def checked(cls, from_task: object, replace: object) -> ForkPlan:
        """The plan of `Desk.fork`. Raises `ValidationError` for other things than tasks and a mapping."""
        several = isinstance(from_task, Iterable) and not isinstance(from_task, str | Task)
        named: list[object] = [] if from_task is None else [from_task]
        if several:
            named = list(cast("Iterable[object]", from_task))
        tasks: list[str] = []
        for one in named:
            id = one.id if isinstance(one, Task) else one
            if not isinstance(id, str):
                raise ValidationError(
                    f"from_task={one!r:.80} is no task: give a task or its id, or a list of them"
                )
            tasks.append(id)
        if several and not tasks:
            raise ValidationError("from_task names no task: leave it out to do all of them again")
        if replace is None:
            return cls(tuple(tasks))
        if not isinstance(replace, Mapping):
            raise ValidationError(f"replace={replace!r:.80} is no mapping from context keys to values")
        return cls(tuple(tasks), dict(cast("Mapping[str, JSON]", replace)))


@dataclass(frozen=True, slots=True)
class _Route:
    """From the version that executions ended under to the one that their forks run on."""

    old: Outline
    new: Outline
    succession: Succession
    workflow: Workflow | None

    @property
    def keys(self) -> Mapping[str, Key[Any]]:
        return {} if self.workflow is None else self.workflow.keys


class Forks:
    """Makes forks in one process."""

    def __init__(self, access: Access, clock: Clock, limits: Limits) -> None:
        self._access = access
        self._reader = access.reader
        self._clock = clock
        self._limits = limits
        self.registry: Registry | None = None
        """The workflows of this process's runner, if it has one."""

    async def one(self, execution: str, plan: ForkPlan) -> str:
        """Fork one execution; return the id of the new one.

        Raises `ExecutionNotFound`, `ForkRefused`, and what a submit of its input raises.
        """
        stored = await self._access.stored(execution)
        made, _ = await self._make(stored, plan, {})
        await self._access.intake.add_forks([made], once=False)
        return made.new.id

    async def many(
        self, filter: ExecutionFilter, plan: ForkPlan, *, dry_run: bool, skip_forked: bool
    ) -> list[ForkResult]:
        """Fork every execution that matches, page by page, newest first; ``filter.limit`` 0 is no limit.

        With ``skip_forked``, one that has a fork already is left out. Raises what the store raises; the pages
        before that are stored.
        """
        results: list[ForkResult] = []
        routes: dict[tuple[str, str], _Route] = {}
        before, left = filter.before, filter.limit
        while True:
            page = changed(filter, before=before, limit=min(PAGE, left) if left else PAGE)
            rows = await self._reader.run(methodcaller("executions", page))
            if rows:
                results += await self._page([row.id for row in rows], plan, routes, dry_run, skip_forked)
                before = rows[-1].id
                left -= len(rows) if left else 0
            if len(rows) < page.limit or (filter.limit and not left):
                return results

    async def _page(
        self,
        ids: list[str],
        plan: ForkPlan,
        routes: dict[tuple[str, str], _Route],
        dry_run: bool,
        once: bool,
    ) -> list[ForkResult]:
        stored = await self._reader.run(lambda store: [store.execution(id) for id in ids])
        before = await self._reader.run(lambda store: store.forks_of(ids)) if once else {}
        results: dict[str, ForkResult] = {}
        forks: list[Fork] = []
        for row in stored:
            if row is None:
                continue  # pruned since it was listed
            if row.id in before:
                results[row.id] = _forked_already(row.id, before[row.id])
                continue
            try:
                made, reset = await self._make(row, plan, routes)
            except StoreError as error:
                if error.retryable:
                    raise
                results[row.id] = ForkResult(row.id, None, (), str(error))
            except CloacinaError as error:
                results[row.id] = ForkResult(row.id, None, (), str(error))
            else:
                results[row.id] = ForkResult(row.id, None if dry_run else made.new.id, reset, None)
                forks.append(made)
        if forks and not dry_run:
            answers = await self._access.intake.add_forks(forks, once=once)
            for made, holder in zip(forks, answers, strict=True):
                if holder is not None:
                    results[made.forked_from] = _forked_already(made.forked_from, holder)
        return list(results.values())

    async def _make(
        self, stored: StoredExecution, plan: ForkPlan, routes: dict[tuple[str, str], _Route]
    ) -> tuple[Fork, tuple[str, ...]]:
        """The fork of one execution, and the tasks that it does again, in canonical order."""
        if not stored.status.terminal:
            raise ForkRefused(
                f"execution {stored.id} is {stored.status}, and only one that has ended can be forked: wait for its "
                "end, or cancel it first"
            )
        version = stored.workflow, stored.version
        if version not in routes:
            routes[version] = await self._route(stored)
        route = routes[version]
        input = input_of(stored)
        past = list(past_of(stored))
        reset = self._reset(stored, plan, route, past, input)
        kept = tuple(row for row in stored.attempts if row.task not in reset)
        _check_succession(stored, route, {row.task for row in kept})
        id, now = new_id(self._clock.now()), self._clock.now()
        new = NewExecution(
            id,
            stored.workflow,
            route.new.version,
            ExecutionStatus.PENDING,
            self._input(stored, plan, route, input) if plan.replace else stored.input,
            None,
            stored.priority,
            stored.tags,
            None,
            now,
            None,
        )
        if plan.replace:
            kept = tuple(_without(row, plan.replace) for row in kept)
        checkpoints = await self._checkpoints(stored, route, reset) if plan.tasks is None else {}
        copied = tuple(
            Checkpoint(id, task, name, value, now)
            for task, found in checkpoints.items()
            for name, value in found.items()
        )
        names = (*route.old.tasks, *(task for task in route.new.tasks if task not in route.old.tasks))
        open_ = tuple(task for task in names if task in reset or task not in route.old.tasks)
        return Fork(new, stored.id, kept, copied), open_

    def _reset(
        self,
        stored: StoredExecution,
        plan: ForkPlan,
        route: _Route,
        past: Sequence[Past],
        input: dict[str, JSON],
    ) -> frozenset[str]:
        dag = _dag(stored, route)
        strangers = sorted({row.task for row in past} - set(dag.ids))
        if strangers:
            raise ForkRefused(
                f"execution {stored.id} has a history of {listing(strangers)}, which version "
                f"{short(stored.version)} of workflow {stored.workflow!r} does not have: submit a new one instead"
            )
        standing = standing_of(dag, past, views(dag, input, past, route.keys, self._limits))
        if plan.tasks is None:
            chosen = to_retry(standing)
            if not chosen:
                raise ForkRefused(
                    f"execution {stored.id} is {stored.status} with nothing to retry: no task of it failed for good "
                    "or was cut short; to do some of it again all the same, use fork(id, from_task=...)"
                )
            return chosen
        known = {*dag.ids, *route.new.tasks}
        for task in plan.tasks:
            if task not in known:
                raise ForkRefused(
                    f"execution {stored.id} has no task {task!r}.{did_you_mean(task, known)} "
                    f"Workflow {stored.workflow!r} has {listing(dag.ids)}"
                )
        return to_redo(standing, [task for task in plan.tasks or dag.ids if task in dag.index])

    def _input(self, stored: StoredExecution, plan: ForkPlan, route: _Route, input: dict[str, JSON]) -> str:
        data = read_input({**input, **plan.replace}, self._limits)
        model = None if route.workflow is None else route.workflow.inputs
        if model is not None:
            where = f"the input of workflow {stored.workflow!r}, with what replace= says"
            data = read_input(model.fit(data, where), self._limits)
        return encode(data)

    async def _checkpoints(
        self, stored: StoredExecution, route: _Route, reset: frozenset[str]
    ) -> dict[str, dict[str, str]]:
        """The checkpoints of tasks that are tried again with the same code, by task and name.

        One that completed begins afresh: something before it is done again, so that it may see other things.
        """
        last = {row.task: row for row in stored.attempts}
        tasks = [
            task
            for task, row in last.items()
            if task in reset
            and row.attempt > 0
            and row.state is not AttemptState.COMPLETED
            and not route.succession.stale_code(task)
        ]
        if not tasks:
            return {}
        return await self._reader.run(
            lambda store: {task: store.checkpoints(stored.id, task) for task in tasks}
        )

    async def _route(self, stored: StoredExecution) -> _Route:
        workflow = None if self.registry is None else self.registry.find(stored.workflow)
        if workflow is not None:
            new = Outline.of(workflow)
        else:
            new = await self._outline(stored, None)
        old = new if new.version == stored.version else await self._outline(stored, stored.version)
        policy = "adopt_if_compatible" if workflow is None else workflow.on_version
        return _Route(old, new, Succession(old, new, policy), workflow)

    async def _outline(self, stored: StoredExecution, version: str | None) -> Outline:
        found = await self._reader.run(lambda store: store.dag(stored.workflow, version))
        if found is None:
            raise ForkRefused(
                f"execution {stored.id} cannot be forked: nobody has registered version "
                f"{short(version or stored.version)} of workflow {stored.workflow!r}; submit a new one instead"
            )
        try:
            return Outline.read(*found)
        except WorkflowError as error:
            raise ForkRefused(f"execution {stored.id} cannot be forked: {error}; submit a new one") from error


def _dag(stored: StoredExecution, route: _Route) -> Dag:
    try:
        return route.old.dag
    except WorkflowError as error:
        raise ForkRefused(f"execution {stored.id} cannot be forked: {error}; submit a new one") from error


def _check_succession(stored: StoredExecution, route: _Route, kept: set[str]) -> None:
    """Refuse to copy what tasks did under a version with which the new one does not agree about them."""
    if not kept:
        return
    why = route.succession.objection([Touched(task, True) for task in sorted(kept)], asked=True)
    if why is not None:
        raise ForkRefused(
            f"execution {stored.id} ended under version {short(route.old.version)}, and version "
            f"{short(route.new.version)} cannot go on from there: {why}; use fork(id) to do all of it again, or a "
            "runner with the old version"
        )


def _without(row: StoredAttempt, keys: Mapping[str, JSON]) -> StoredAttempt:
    if row.delta is None:
        return row
    patch = read_patch(row.delta)
    kept = without(patch, keys)
    return row if kept == patch else row._replace(delta=encode(cast("JSON", kept)))


def _forked_already(id: str, fork: str) -> ForkResult:
    return ForkResult(id, None, (), f"it has a fork already, {fork}; skip_forked=False forks it again")
