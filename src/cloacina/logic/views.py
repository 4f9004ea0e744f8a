"""The views of one execution: what each task sees, and what the execution comes to."""

from __future__ import annotations

from cloacina.logic.merge import view as merge
from cloacina.model.json.patch import Patch
from cloacina.model.json.values import JSON, Limits
from cloacina.model.workflow import Workflow


class Views:
    """Made from the input and the patches of Completed tasks; a view that later ones begin with is kept."""

    __slots__ = (
        "_after",
        "_before",
        "_dag",
        "_joined",
        "_limits",
        "_unread",
        "_workflow",
        "input",
        "patches",
    )

    def __init__(self, workflow: Workflow, limits: Limits) -> None:
        dag = workflow.dag
        self.input: dict[str, JSON] = {}
        self.patches: dict[int, Patch] = {}
        """What each Completed task changed, by canonical index; nothing for those that changed nothing."""
        self._dag = dag
        self._workflow = workflow
        self._limits = limits
        self._unread = [len(readers) for readers in dag.dependents]
        self._after: dict[int, dict[str, JSON]] = {}
        self._before: dict[int, dict[str, JSON]] = {}
        self._joined = _NOT_JOINED
        """The last view that was merged, by the tasks above it: all tasks of a layer may share it."""

    def of(self, index: int) -> dict[str, JSON]:
        """What task ``index`` sees. Raises `ContextError` if it cannot be built."""
        needed = self._dag.dependencies[index]
        if not needed:
            return self.input
        if len(needed) == 1:
            return self.after(needed[0])
        mask = self._dag.ancestor_masks[index]
        if self._joined[0] != mask:
            self._joined = mask, self._join(mask)
        return self._joined[1]

    def after(self, index: int) -> dict[str, JSON]:
        """What a task that depends on task ``index`` alone sees."""
        # Walks up single dependencies to a view that is at hand, then down again, patching.
        path: list[int] = []
        at = index
        while True:
            known = self._after.get(at)
            if known is not None:
                break
            path.append(at)
            known = self._before.get(at)
            if known is not None:
                break
            needed = self._dag.dependencies[at]
            if len(needed) != 1:
                known = self.of(at)
                break
            at = needed[0]
        for at in reversed(path):
            patch = self.patches.get(at)
            if patch:
                known = self._fold(known, [(at, patch)])
            if self._unread[at]:
                self._after[at] = known
                self._before.pop(at, None)
        return known

    def result(self) -> dict[str, JSON]:
        """The view of a sink below all tasks. Raises `ContextError` if it cannot be built."""
        last = self._end_of_all()
        return self._merge(None) if last is None else self.after(last)

    def ended(self, index: int, *, last: bool) -> None:
        """Task ``index`` has ended, as the last one or not: forget views that nobody will read any more."""
        for needed in self._dag.dependencies[index]:
            self._keep(index, needed, last)
            self._unread[needed] -= 1
            if not self._unread[needed]:
                self._after.pop(needed, None)
                self._before.pop(needed, None)

    def _end_of_all(self) -> int | None:
        """The task that every other one precedes, if there is one: its view is all that the sink sees."""
        last = len(self._dag.tasks) - 1
        return last if self._dag.ancestor_masks[last] == (1 << last) - 1 else None

    def _keep(self, index: int, needed: int, last: bool) -> None:
        # What a task saw is where the view after it begins; else a long chain is walked up at every step.
        seen = self._after.get(needed)
        if seen is not None and len(self._dag.dependencies[index]) == 1 and (self._unread[index] or last):
            self._before[index] = seen

    def _join(self, mask: int) -> dict[str, JSON]:
        known, view = self._joined
        more = mask & ~known
        if not known or known & ~mask or known >= more & -more or not self._plain:
            return self._merge(mask)
        added: list[tuple[int, Patch]] = []  # to the last view, since all these are later in canonical order
        while more:
            index = (more & -more).bit_length() - 1
            more &= more - 1
            patch = self.patches.get(index)
            if patch:
                added.append((index, patch))
        return self._fold(view, added) if added else view

    @property
    def _plain(self) -> bool:
        """True if a view is no more than patches applied one after the other."""
        keys = self._workflow.keys
        return self._workflow.on_conflict != "error" and not any(key.merge for key in keys.values())

    def _merge(self, mask: int | None) -> dict[str, JSON]:
        chosen = sorted(self.patches) if mask is None else [i for i in sorted(self.patches) if mask >> i & 1]
        return self._fold(self.input, [(index, self.patches[index]) for index in chosen])

    def _fold(self, base: dict[str, JSON], patches: list[tuple[int, Patch]]) -> dict[str, JSON]:
        return merge(
            base,
            patches,
            masks=self._dag.ancestor_masks,
            keys=self._workflow.keys,
            forbid_conflicts=self._workflow.on_conflict == "error",
            limits=self._limits,
            ids=self._dag.ids,
        )


_NOT_JOINED: tuple[int, dict[str, JSON]] = 0, {}
