"""Adoption: whether executions of one version of a workflow can go on under another.

A task that was touched, which means that it has an attempt or was skipped, must mean the same in both
versions: the same id, the same dependencies, the same rule. Then everything that was decided so far would
have been decided alike, and what was not decided yet follows the new version. Bodies, retry policies, timeouts,
``optional`` and ``recovers`` may differ.

``on_version="adopt"`` asks for less: each touched task is still there, and what it depends on now has ended.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from typing import NamedTuple

from cloacina.model.dag.outline import Outline, short
from cloacina.model.version import UNVERSIONED
from cloacina.model.workflow import OnVersion

TOLD = 3
"""How many tasks a reason spells out before it only counts the rest."""


class Touched(NamedTuple):
    """A task with an attempt or a skip, and whether it has ended."""

    task: str
    ended: bool


class Succession:
    """An old and a new version of one workflow: compared once, asked about many executions."""

    def __init__(self, old: Outline | str, new: Outline, policy: OnVersion) -> None:
        """``old`` is the version alone if what is stored of it cannot be read."""
        self.old = old if isinstance(old, str) else old.version
        self.new = new.version
        self._before = None if isinstance(old, str) else old
        self._after = new
        self._policy = policy
        self._differences: dict[str, str | None] = {}

    @property
    def pinned(self) -> bool:
        """True if the new version leaves executions of others alone, whatever they are."""
        return self._policy == "pin" and self.old != self.new

    def objection(self, touched: Iterable[Touched], *, asked: bool = False) -> str | None:
        """Why an execution with these tasks cannot go on under the new version; None if it can.

        ``asked``: a user asks for it, so that even a version that cannot be told from others will do.
        """
        if self.old == self.new:
            return None
        if self.pinned:
            return 'the workflow has on_version="pin"'
        if self._before is None:
            return f"what is stored of version {short(self.old)} cannot be read"
        if self._policy == "adopt":
            return self._impossible(list(touched))
        if self._unseen is not None and not asked:
            return self._unseen
        told = [self._difference(one.task, self._before) for one in touched]
        return _listed([one for one in told if one is not None], _KEPT)

    def stale_code(self, task: str) -> bool:
        """True if the body of a task is not surely the same in both versions."""
        return self._before is None or not self._before.same_code(task, self._after)

    @cached_property
    def _unseen(self) -> str | None:
        """The objection to versions of which nobody can tell what changed."""
        for version in (self.old, self.new):
            if version.startswith(UNVERSIONED):
                return (
                    f"version {short(version)} has code without source, so that nobody can tell what changed"
                )
        return None

    def _difference(self, task: str, before: Outline) -> str | None:
        if task not in self._differences:
            self._differences[task] = before.difference(task, self._after)
        return self._differences[task]

    def _impossible(self, touched: list[Touched]) -> str | None:
        tasks = self._after.tasks
        gone = [f"{one.task} is gone" for one in touched if one.task not in tasks]
        if gone:
            return _listed(gone, _KEPT)
        ended = {one.task for one in touched if one.ended}
        early = [
            f"{one.task} depends on {needed}"
            for one in touched
            for needed in tasks[one.task].dependencies
            if needed not in ended
        ]
        return _listed(early, "a task has begun before what it depends on now")


_KEPT = "tasks that have run or were skipped must stay as they are"


def _listed(found: list[str], why: str) -> str | None:
    if not found:
        return None
    more = f", and {len(found) - TOLD} more" if len(found) > TOLD else ""
    return f"{why}: {', '.join(found[:TOLD])}{more}"
