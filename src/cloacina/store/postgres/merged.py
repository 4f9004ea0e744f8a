"""Merging: what a group writes to one row, as one row, since the parts of its statement do not see each other."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from cloacina.store.rows import Item, NewExecution, Progress

Rows = dict[str, list[tuple[Any, ...]]]
"""The rows of each kind; the kinds are those of `cloacina.store.postgres.groups`."""

_NOTHING = (None, None, None, None)


def merged(items: Iterable[Item]) -> Rows:
    """What ``items`` write, by kind.

    A new execution that makes progress at once is inserted as it is after that; a shift of an attempt that ends as
    well becomes the state from which it must end.
    """
    rows: Rows = {
        kind: []
        for kind in (
            "executions", "shifts", "checkpoints", "ends", "starts", "verdicts", "progress", "events", "obeyed",
        )
    }  # fmt: skip
    for item in items:
        if item.new is not None:
            rows["executions"].append(_new(item.new, item.progress))
        elif item.progress is not None:
            rows["progress"].append(item.progress)
        if item.shifts:
            _add_shifts(rows, item)
        elif item.ends:
            rows["ends"] += [(*end, None) for end in item.ends]
        rows["starts"] += item.starts
        rows["verdicts"] += item.verdicts
        rows["checkpoints"] += item.checkpoints
        rows["events"] += item.events
        rows["obeyed"] += [(id,) for id in item.obeyed]
    return rows


def _new(new: NewExecution, progress: Progress | None) -> tuple[Any, ...]:
    if progress is None:
        return (*new, *_NOTHING)
    owner = None if progress.status.terminal else progress.next_owner
    started = new.started if new.started is not None else progress.started
    row = new._replace(status=progress.status, owner=owner, started=started)
    return (*row, progress.finished, progress.wake_at, progress.result, progress.error)


def _add_shifts(rows: Rows, item: Item) -> None:
    before = {(shift.execution, shift.task, shift.attempt): shift.before for shift in item.shifts}
    for end in item.ends:
        rows["ends"].append((*end, before.pop((end.execution, end.task, end.attempt), None)))
    rows["shifts"] += [
        shift for shift in item.shifts if (shift.execution, shift.task, shift.attempt) in before
    ]
