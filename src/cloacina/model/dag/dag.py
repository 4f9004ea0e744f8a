"""The DAG of a workflow: its tasks in canonical order, who depends on whom, and questions about that."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import cast

from cloacina.errors import SubgraphError, WorkflowError
from cloacina.model.conditions import TaskCondition
from cloacina.model.dag.render import DagEdge, DagMetadata, DagNode, dot, mermaid, text
from cloacina.model.definition import order
from cloacina.model.definition.hints import LISTED, did_you_mean, listing
from cloacina.model.json.values import JSON, encode
from cloacina.model.task import Task


class Dag:
    """The tasks of a workflow in canonical order: topological, ties by the order of declaration.

    Numbers (``index``, ``dependencies``, ``dependents``, ``ancestor_masks``) are places in that order. Raises
    `WorkflowError` if there is no task, an id is there twice, a dependency is missing, or there is a cycle.
    """

    def __init__(self, name: str, tasks: Iterable[Task]) -> None:
        declared = tuple(tasks)
        self.name = name
        places = _places(name, declared)
        needs = [[places[needed] for needed in task.dependencies] for task in declared]
        sequence = order.canonical(needs)
        _check_cycle(name, declared, needs, sequence)
        self.tasks: tuple[Task, ...] = tuple(declared[place] for place in sequence)
        self.ids: tuple[str, ...] = tuple(task.id for task in self.tasks)
        self.index: dict[str, int] = {id: index for index, id in enumerate(self.ids)}
        self.dependencies: tuple[tuple[int, ...], ...] = tuple(
            tuple(sorted(self.index[needed] for needed in task.dependencies)) for task in self.tasks
        )
        self.dependents: tuple[tuple[int, ...], ...] = tuple(
            map(tuple, order.dependents_of(self.dependencies))
        )

    @cached_property
    def ancestor_masks(self) -> tuple[int, ...]:
        """For each task, a number whose bit j is set if task j must end before it."""
        return tuple(order.ancestor_masks(self.dependencies))

    @cached_property
    def levels(self) -> tuple[tuple[str, ...], ...]:
        """The ids by the length of the longest way to them; those of one level can run side by side."""
        rows: list[list[str]] = [[] for _ in range(max(self._level_of) + 1)]
        for id, level in zip(self.ids, self._level_of, strict=True):
            rows[level].append(id)
        return tuple(map(tuple, rows))

    @property
    def roots(self) -> tuple[str, ...]:
        """The tasks that depend on nothing."""
        return tuple(id for id, needed in zip(self.ids, self.dependencies, strict=True) if not needed)

    @property
    def leaves(self) -> tuple[str, ...]:
        """The tasks that nothing depends on."""
        return tuple(id for id, after in zip(self.ids, self.dependents, strict=True) if not after)

    def ancestors(self, task: str | Task) -> tuple[str, ...]:
        """Every task that must end before ``task``, in canonical order. Raises `SubgraphError` if unknown."""
        return self._named(order.bits(self.ancestor_masks[self._place(task)]))

    def descendants(self, task: str | Task) -> tuple[str, ...]:
        """Every task that waits for ``task``, in canonical order. Raises `SubgraphError` if unknown."""
        return self._named(order.descendants(self._place(task), self.dependents))

    def subgraph(self, tasks: str | Task | Iterable[str | Task]) -> Dag:
        """The DAG of these tasks and all that they depend on. Raises `SubgraphError` if one is unknown."""
        wanted = [tasks] if isinstance(tasks, (str, Task)) else list(tasks)
        if not wanted:
            raise SubgraphError(f"workflow {self.name!r}: a subgraph needs at least one task: name some")
        mask = 0
        for place in map(self._place, wanted):
            mask |= self.ancestor_masks[place] | 1 << place
        return Dag(self.name, (self.tasks[place] for place in order.bits(mask)))

    @property
    def nodes(self) -> tuple[DagNode, ...]:
        """The tasks as data for pictures, in canonical order."""
        return tuple(
            DagNode(
                id=task.id,
                level=level,
                description=task.description,
                tags=task.tags,
                rule="" if task.rule is None else repr(task.rule),
                optional=task.optional,
                recovers=task.recovers,
            )
            for task, level in zip(self.tasks, self._level_of, strict=True)
        )

    @property
    def edges(self) -> tuple[DagEdge, ...]:
        """The dependencies as data for pictures, by target in canonical order."""
        return tuple(
            DagEdge(self.ids[source], task.id, tests.get(self.ids[source], ""))
            for task, needed in zip(self.tasks, self.dependencies, strict=True)
            for tests in (_tests(task),)
            for source in needed
        )

    @property
    def metadata(self) -> DagMetadata:
        """The measures of the DAG."""
        return DagMetadata(
            name=self.name,
            tasks=len(self.tasks),
            edges=sum(map(len, self.dependencies)),
            levels=len(self.levels),
            width=max(map(len, self.levels)),
        )

    def text(self) -> str:
        """The DAG as plain text, a line for each task."""
        return text(self.metadata, self.nodes, self.edges)

    def mermaid(self) -> str:
        """The DAG as a Mermaid flowchart."""
        return mermaid(self.nodes, self.edges)

    def dot(self) -> str:
        """The DAG as a Graphviz digraph."""
        return dot(self.metadata, self.nodes, self.edges)

    def to_json(self, codes: Sequence[str | None] = ()) -> str:
        """What a store keeps of a version, as JSON: the id, dependencies and rule of each task.

        ``codes`` are the fingerprints of the tasks' bodies, in canonical order.
        """
        tasks: list[dict[str, JSON]] = [
            {
                "id": task.id,
                "dependencies": sorted(task.dependencies),  # type: ignore[dict-item]  # strings are JSON
                "rule": None if task.rule is None else task.rule.to_json(),
                "optional": task.optional,
                "recovers": task.recovers,
            }
            for task in self.tasks
        ]
        for stored, code in zip(tasks, codes, strict=False):
            stored["code"] = code
        return encode({"name": self.name, "tasks": cast("list[JSON]", tasks)})

    def __len__(self) -> int:
        return len(self.tasks)

    def __contains__(self, task: object) -> bool:
        return (task.id if isinstance(task, Task) else task) in self.index

    def __repr__(self) -> str:
        return f"<Dag {self.name}: {len(self.tasks)} tasks>"

    def _repr_markdown_(self) -> str:
        """What a notebook shows."""
        return f"```mermaid\n{self.mermaid()}```\n"

    @cached_property
    def _level_of(self) -> Sequence[int]:
        return order.levels(self.dependencies)

    def _named(self, places: Iterable[int]) -> tuple[str, ...]:
        return tuple(self.ids[place] for place in places)

    def _place(self, task: str | Task) -> int:
        id = task.id if isinstance(task, Task) else task
        place = self.index.get(id)
        if place is None:
            hint = did_you_mean(id, self.ids)
            raise SubgraphError(
                f"workflow {self.name!r} has no task {id!r}.{hint} It has {listing(self.ids)}"
            )
        return place


def _places(name: str, declared: tuple[Task, ...]) -> dict[str, int]:
    """Where each id was declared, after checking that every dependency is one."""
    where = f"workflow {name!r}"
    if not declared:
        raise WorkflowError(f"{where} has no task: add one with @workflow.task or tasks=[...]")
    places = {task.id: place for place, task in enumerate(declared)}
    if len(places) < len(declared):
        twice = next(task.id for place, task in enumerate(declared) if places[task.id] != place)
        raise WorkflowError(f"{where}, task {twice!r}: the id is there twice: give one of them another id")
    missing = [(task.id, needed) for task in declared for needed in task.dependencies if needed not in places]
    if missing:
        told = [
            f"{where}, task {id!r}: it depends on {needed!r}, which the workflow does not have."
            f"{did_you_mean(needed, places)} Add that task, or correct dependencies="
            for id, needed in missing[:LISTED]
        ]
        more = [f"and {len(missing) - LISTED} more"] if len(missing) > LISTED else []
        raise WorkflowError("\n".join([*told, *more]))
    return places


def _check_cycle(name: str, declared: tuple[Task, ...], needs: order.Needs, ordered: list[int]) -> None:
    cycle = [declared[place].id for place in order.find_cycle(needs, ordered)]
    if not cycle:
        return
    way = " → ".join([*cycle, cycle[0]])
    if len(cycle) > LISTED:
        way = " → ".join([*cycle[:LISTED], f"({len(cycle) - LISTED} more)", cycle[0]])
    raise WorkflowError(
        f"workflow {name!r}, task {cycle[0]!r}: tasks wait for each other in a cycle, {way}: "
        f"take out one of the dependencies, such as {cycle[-1]!r} of {cycle[0]!r}"
    )


def _tests(task: Task) -> dict[str, str]:
    """Which outcomes of each dependency the task's rule tests, as words."""
    words: dict[str, list[str]] = {}
    for leaf, negated in task.rule.leaves() if task.rule is not None else ():
        if isinstance(leaf, TaskCondition):
            word = leaf.word.removeprefix("task_")
            words.setdefault(leaf.task, []).append(f"not {word}" if negated else word)
    return {id: ", ".join(dict.fromkeys(found)) for id, found in words.items()}
