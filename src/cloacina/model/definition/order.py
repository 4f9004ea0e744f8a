"""Orders of a DAG whose tasks are numbers: the canonical order, levels, ancestors, cycles.

``needs[i]`` lists the tasks that task ``i`` depends on. Nothing here recurses: depth is the user's.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from heapq import heapify, heappop, heappush
from typing import TypeAlias

Needs: TypeAlias = Sequence[Sequence[int]]


def dependents_of(needs: Needs) -> list[list[int]]:
    """The reverse of ``needs``: who depends on each task, in ascending order."""
    dependents: list[list[int]] = [[] for _ in needs]
    for task, needed in enumerate(needs):
        for dependency in needed:
            dependents[dependency].append(task)
    return dependents


def canonical(needs: Needs) -> list[int]:
    """The topological order in which the task with the lowest number that can come next comes next.

    Tasks on a cycle, and those after one, are left out (Kahn's algorithm with a heap).
    """
    dependents = dependents_of(needs)
    missing = [len(needed) for needed in needs]
    free = [task for task, count in enumerate(missing) if not count]
    heapify(free)
    order: list[int] = []
    while free:
        task = heappop(free)
        order.append(task)
        for dependent in dependents[task]:
            missing[dependent] -= 1
            if not missing[dependent]:
                heappush(free, dependent)
    return order


def find_cycle(needs: Needs, ordered: Iterable[int]) -> list[int]:
    """A cycle among the tasks that `canonical` left out; empty if it left out none.

    Each task needs the one before it, and the first needs the last. It starts at its lowest number.
    """
    left = set(range(len(needs))).difference(ordered)
    if not left:
        return []
    # A task that was left out needs another one that was, so walking up must come round.
    at = min(left)
    place: dict[int, int] = {}
    while at not in place:
        place[at] = len(place)
        at = next(dependency for dependency in needs[at] if dependency in left)
    cycle = list(place)[place[at] :][::-1]
    start = cycle.index(min(cycle))
    return cycle[start:] + cycle[:start]


def levels(needs: Needs) -> list[int]:
    """How many tasks the longest way from a root to each task passes. Tasks are in topological order."""
    level: list[int] = []
    for needed in needs:
        level.append(1 + max((level[dependency] for dependency in needed), default=-1))
    return level


def ancestor_masks(needs: Needs) -> list[int]:
    """The ancestors of each task as the bits of a number. Tasks are in topological order."""
    masks: list[int] = []
    for needed in needs:
        mask = 0
        for dependency in needed:
            mask |= masks[dependency] | 1 << dependency
        masks.append(mask)
    return masks


def bits(mask: int) -> list[int]:
    """The numbers whose bits are set in ``mask``, in ascending order."""
    return [number for number, bit in enumerate(reversed(f"{mask:b}")) if bit == "1"]


def descendants(start: int, dependents: Needs) -> list[int]:
    """Every task that depends on ``start``, directly or not, in ascending order."""
    found: set[int] = set()
    unread = [start]
    while unread:
        fresh = [task for task in dependents[unread.pop()] if task not in found]
        found.update(fresh)
        unread.extend(fresh)
    return sorted(found)
