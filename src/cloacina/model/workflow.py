"""A workflow: a named, validated DAG of tasks, with a content version."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from types import MappingProxyType
from typing import Any, Literal, TypeAlias, TypedDict, Unpack, cast, get_args, overload

from cloacina.errors import ValidationError, WorkflowError
from cloacina.model.context.inputs import InputModel
from cloacina.model.context.keys import Key
from cloacina.model.dag.dag import Dag
from cloacina.model.definition.declared import check_reads
from cloacina.model.definition.durations import Duration
from cloacina.model.definition.hints import did_you_mean, listing, shown
from cloacina.model.definition.options import (
    Callback,
    check_known,
    is_no_list,
    read_callback,
    read_tags,
    read_text,
    read_timeout,
)
from cloacina.model.definition.source import Sources
from cloacina.model.names import check_name
from cloacina.model.retry import RetryPolicy
from cloacina.model.task import P, R, Returned, Task, TaskOptions, TypedTask
from cloacina.model.version import UNVERSIONED, codes_of, version_of

OnVersion: TypeAlias = Literal["adopt_if_compatible", "pin", "adopt"]
"""What a runner does with executions of another version of the workflow that no live runner has."""


class WorkflowOptions(TypedDict, total=False):
    """The options of a workflow; `Workflow` says what each means."""

    description: str
    tags: Iterable[str]
    retry: RetryPolicy | int
    timeout: Duration | None
    keys: Iterable[Key[Any]]
    on_conflict: Literal["merge", "error"]
    on_success: Callback | None
    on_failure: Callback | None
    inputs: type[Any] | None
    on_version: OnVersion


@dataclass(frozen=True, slots=True)
class WorkflowMetadata:
    """What a workflow says about itself."""

    name: str
    version: str
    description: str
    tags: tuple[str, ...]
    tasks: int


@dataclass(frozen=True, eq=False, init=False, repr=False)
class Workflow:
    """A named DAG of tasks.

    Args:
        name: 1 to 100 of the characters A-Z, a-z, 0-9, ``_``, ``.`` and ``-``.
        tasks: tasks to begin with; more come with `task` and `add`.
        description: for people.
        tags: labels for people and filters.
        retry: the policy of tasks that have none of their own: a `RetryPolicy`, a number of attempts, or False.
        timeout: seconds, or a timedelta, from an execution's first start to its end, waits included.
        keys: keys with a ``merge`` function, for values that two branches set.
        on_conflict: ``"merge"``, or ``"error"`` to fail the task that sees what two branches set differently.
        on_success, on_failure: ``(ctx, info)``, called at most once after an execution's end was stored.
        inputs: what every input must fit, a TypedDict, dataclass, `msgspec.Struct` or pydantic model: it is
            converted and gets the defaults before it is stored; ``ctx.input(Model)`` reads it in a body.
        on_version: what becomes of executions in flight of another version that no live runner has:
            ``"adopt_if_compatible"`` takes over those in which nothing that already ran has changed, and sets the
            others aside; ``"adopt"`` takes over whatever can go on at all; ``"pin"`` leaves them all. Does not
            count in the version.

    It freezes, fully checked, at the first use of `dag`, `version`, `metadata`, `policies` or `validate`, or when
    a runner registers it. A workflow that fails the check does not freeze, so it can still be mended. Raises
    `WorkflowError` for everything that is wrong.
    """

    name: str
    description: str
    tags: tuple[str, ...]
    retry: RetryPolicy
    timeout: float | None
    keys: Mapping[str, Key[Any]]
    on_conflict: Literal["merge", "error"]
    on_success: Callback | None
    on_failure: Callback | None
    inputs: InputModel | None
    on_version: OnVersion
    _tasks: dict[str, Task]

    def __init__(self, name: str, tasks: Iterable[Task] = (), **options: Unpack[WorkflowOptions]) -> None:
        check_name("workflow", name, WorkflowError)
        try:
            # A frozen dataclass has no other way in.
            vars(self).update(_read(cast("Mapping[str, object]", options)), name=name, _tasks={})
        except ValidationError as refused:
            raise WorkflowError(f"workflow {name!r}: {refused}") from refused.__cause__
        for task in _listed(name, tasks):
            self.add(task)

    @overload
    def task(self, fn: Callable[P, R], /, **options: Unpack[TaskOptions]) -> TypedTask[P, R]: ...
    @overload
    def task(self, /, **options: Unpack[TaskOptions]) -> Callable[[Callable[P, R]], TypedTask[P, R]]: ...
    def task(self, fn: Callable[P, R] | None = None, /, **options: Unpack[TaskOptions]) -> object:
        """Make a task and add it: ``@workflow.task``, ``@workflow.task(retry=5)`` or ``workflow.task(function)``.

        The options are those of `Task`. Raises `WorkflowError` if something is wrong with it.
        """
        return partial(self._make, **options) if fn is None else self._make(fn, **options)

    def add(self, task: Task | Callable[..., Returned], /, **options: Unpack[TaskOptions]) -> Task:
        """Add a task that was made before, or make one from a function and the options of `Task`.

        Raises `WorkflowError` if something is wrong with it, its id is there already, or it comes too late.
        """
        if not isinstance(task, Task):
            return self._make(task, **options)
        where = f"workflow {self.name!r}, task {task.id!r}"
        if options:
            raise WorkflowError(
                f"{where}: it is a task already, so that {listing(list(options))} cannot be set: say so where it "
                f"is made, or make another task from its function, {task.id}.fn"
            )
        if self.frozen:
            raise WorkflowError(
                f"{where}: it comes too late, the workflow froze at its first use: add all tasks before that"
            )
        if task.id in self._tasks:
            raise WorkflowError(f'{where}: the id is there already: give one of the two another, id="..."')
        self._tasks[task.id] = task
        return task

    def validate(self) -> Workflow:
        """Check everything and freeze; return the workflow. Raises `WorkflowError` for what is wrong."""
        self.dag  # noqa: B018  # its first use checks and freezes
        return self

    @property
    def frozen(self) -> bool:
        """True once the workflow was checked; no task can be added then."""
        return "dag" in vars(self)

    @property
    def tasks(self) -> tuple[Task, ...]:
        """The tasks in the order in which they were declared; does not freeze."""
        return tuple(self._tasks.values())

    @cached_property
    def dag(self) -> Dag:
        """The checked DAG; freezes."""
        dag = Dag(self.name, self._tasks.values())
        if self.inputs is not None:
            check_reads(dag, self.inputs.keys)
        return dag

    @cached_property
    def policies(self) -> tuple[RetryPolicy, ...]:
        """The retry policy that each task follows, in canonical order; freezes."""
        return tuple(self.retry if task.retry is None else task.retry for task in self.dag.tasks)

    def policy(self, index: int) -> RetryPolicy:
        """The retry policy of the task at a place in canonical order; freezes."""
        return self.policies[index]

    @cached_property
    def version(self) -> str:
        """The content version: see `cloacina.model.version`; freezes."""
        return self._hashes[0]

    @cached_property
    def _hashes(self) -> tuple[str, tuple[str | None, ...]]:
        """The version, and the fingerprint of each task's body: together, since both read the files."""
        sources = Sources()
        version = version_of(
            self.name,
            self.dag.tasks,
            self.policies,
            timeout=self.timeout,
            keys=self.keys,
            on_conflict=self.on_conflict,
            sources=sources,
        )
        return version, codes_of(self.dag.tasks, sources)

    def to_json(self) -> str:
        """What a store keeps of this version, as JSON; freezes."""
        return self.dag.to_json(self._hashes[1])

    @property
    def unversioned(self) -> bool:
        """True if the source of some code cannot be found, so that a change of it cannot be seen; freezes."""
        return self.version.startswith(UNVERSIONED)

    @property
    def metadata(self) -> WorkflowMetadata:
        """What the workflow says about itself; freezes."""
        return WorkflowMetadata(self.name, self.version, self.description, self.tags, len(self.dag))

    def _make(self, fn: Callable[P, R], /, **options: Unpack[TaskOptions]) -> Task:
        try:
            made = TypedTask(fn, **options)
        except WorkflowError as refused:
            raise WorkflowError(f"workflow {self.name!r}, {refused}") from refused.__cause__
        return self.add(made)

    def __repr__(self) -> str:
        return f"<Workflow {self.name}: {len(self._tasks)} tasks>"


def _read(options: Mapping[str, object]) -> dict[str, object]:
    """Every option of a workflow, checked."""
    check_known(options, WorkflowOptions.__optional_keys__)
    given = options.get("retry")
    read: dict[str, object] = {
        "description": read_text("description", options.get("description", "")),
        "tags": read_tags(options.get("tags", ())),
        "retry": RetryPolicy() if given is None else RetryPolicy.of(given),
        "timeout": read_timeout(options.get("timeout")),
        "keys": _keys(options.get("keys", ())),
        "on_conflict": options.get("on_conflict", "merge"),
        "inputs": None if options.get("inputs") is None else InputModel(options["inputs"]),
        "on_version": options.get("on_version", "adopt_if_compatible"),
    }
    if read["on_conflict"] not in ("merge", "error"):
        raise WorkflowError(f"on_conflict={shown(read['on_conflict'])} is unknown: give 'merge' or 'error'")
    policy, known = read["on_version"], get_args(OnVersion)
    if policy not in known:
        hint = did_you_mean(policy, known)
        raise WorkflowError(f"on_version={shown(policy)} is unknown: give one of {listing(known)}.{hint}")
    for callback in ("on_success", "on_failure"):
        read[callback] = read_callback(callback, options.get(callback))
    return read


def _keys(value: object) -> Mapping[str, Key[Any]]:
    if is_no_list(value):
        raise WorkflowError(f"keys={shown(value)} is no list: write keys=[Key(...)]")
    found: dict[str, Key[Any]] = {}
    for key in cast("Iterable[object]", value):
        if not isinstance(key, Key):
            raise WorkflowError(f"keys: {shown(key)} is no Key: write Key(name, type, merge=function)")
        if key.name in found:
            raise WorkflowError(f"keys: {key.name!r} is there twice: keep one Key with that name")
        found[key.name] = key
    return MappingProxyType(found)


def _listed(name: str, tasks: object) -> Iterable[Task]:
    if is_no_list(tasks):
        raise WorkflowError(f"workflow {name!r}: tasks={shown(tasks)} is no list: write tasks=[...]")
    for task in cast("Iterable[object]", tasks):
        if not isinstance(task, Task):
            raise WorkflowError(
                f"workflow {name!r}: {shown(task)} in tasks= is no task: decorate it with @task"
            )
        yield task
