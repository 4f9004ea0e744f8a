"""The same work as workflows of cloacina: trivial bodies that read one value and write it back plus one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from benchmarks.harness.question import Bodies
from cloacina.model.context.context import Context
from cloacina.model.workflow import Workflow


async def count_async(context: Context) -> None:
    context["count"] += 1


def count_def(context: Context) -> None:
    context["count"] += 1


TRIVIAL: dict[Bodies, Callable[[Context], Any]] = {"async": count_async, "def": count_def}


def one_task(bodies: Bodies) -> Workflow:
    """A workflow of one task."""
    return chain(1, bodies)


def chain(length: int, bodies: Bodies) -> Workflow:
    """A workflow whose tasks run one after the other."""
    return chain_of(TRIVIAL[bodies], length)


def chain_of(body: Callable[[Context], Any], length: int) -> Workflow:
    """The chain of so many tasks with this body."""
    workflow = Workflow(f"chain_{length}")
    for number in range(length):
        before = [f"step_{number - 1}"] if number else []
        workflow.add(body, id=f"step_{number}", dependencies=before)
    return workflow.validate()


def fan(branches: int, bodies: Bodies) -> Workflow:
    """A workflow of so many independent tasks, and one that depends on them all."""
    workflow = Workflow(f"fan_{branches}")
    names = [f"branch_{number}" for number in range(branches)]
    for name in names:
        workflow.add(TRIVIAL[bodies], id=name)
    workflow.add(TRIVIAL[bodies], id="gather", dependencies=names)
    return workflow.validate()
