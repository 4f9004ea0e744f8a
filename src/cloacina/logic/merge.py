"""A view: what a task sees, made of the input and the patches of the completed tasks above it.

The patches are applied in the workflow's canonical order, so a view depends on who completed and never on
when. Two tasks are on different branches if neither is above the other; then neither saw what the other wrote.
What they did to one key is joined so:

* two extensions of a list: both are kept, in canonical order;
* two patches of an object: member by member, by these same rules;
* two removals: it is gone;
* anything else: the later task in canonical order wins. With ``forbid_conflicts`` that is a `ContextConflict`
  instead, even where both wrote the same value: whether a workflow passes must not depend on its data.

A `Key` with a merge function replaces these rules for its name. Whatever a task did to the key (assigned it,
extended the list, changed a member) counts as writing the whole value. If the task had seen all that was
written so far, its value replaces the current one; if not, ``merge(current, new)`` decides, with ``new`` the
value as that task left it. A removal has no value to merge: removed by the later task, the key is gone; removed
by an earlier one, the later value stands. The function is called again for every view, so it must be pure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any, cast

from cloacina.errors import ContextConflict, ContextError
from cloacina.model.context.keys import Key
from cloacina.model.json.patch import Patch, View, apply, check_size, fold, size_bound
from cloacina.model.json.paths import join_path
from cloacina.model.json.values import JSON, Limits, encoded_size

_NOTHING: Any = object()


def view(
    base: dict[str, JSON],
    patches: Iterable[tuple[int, Patch]],
    *,
    masks: Sequence[int],
    keys: Mapping[str, Key[Any]],
    forbid_conflicts: bool,
    limits: Limits,
    ids: Sequence[str] = (),
) -> View:
    """Return ``base`` with the patches of tasks applied. Neither is changed; the view shares values with both.

    ``patches`` are pairs of a task's index in canonical order and its patch, of a set of tasks that has with
    each task all that completed above it, or of one task whose own view is ``base``. ``masks[i]`` has the
    bits of the tasks above task i. ``ids[i]`` is its id, for messages.

    A view knows its size, a plain dict is measured at each call: so make a view of a large input once, with
    no patches, and use that as the base.

    Raises `ContextConflict` if conflicts are forbidden and there is one; `ContextError` if a merge function
    raises or returns what cannot be stored, or the view is larger than ``limits.context_bytes``.
    """
    found = list(patches)
    if not found and isinstance(base, View):
        return base
    result, made = View(base), dict[int, object]()
    bound = size_bound(base)
    for _, patch in found:
        bound += encoded_size(cast(JSON, patch))
    if len(found) > 1:
        found.sort(key=itemgetter(0))
        writes = _take_merged(found, keys)
        if forbid_conflicts:
            _forbid(found, masks, ids)
        for name, written in writes.items():
            value = _Merging(keys[name], base, written, masks, limits).result()
            bound += encoded_size(cast(JSON, value))
            if value:
                result.update(value)
            else:
                result.pop(name, None)
    for _, patch in found:
        fold(result, patch, made)
    result.size = check_size(result, bound, limits)
    return result


def _take_merged(
    found: list[tuple[int, Patch]], keys: Mapping[str, Key[Any]]
) -> dict[str, list[tuple[int, Patch]]]:
    """Take out of the patches, in place in ``found``, what they do to keys with a merge function."""
    names = {name for name, key in keys.items() if key.merge is not None}
    writes: dict[str, list[tuple[int, Patch]]] = {}
    if not names:
        return writes
    for at, (task, patch) in enumerate(found):
        rest: dict[str, Any] = {}
        for part, members in cast(dict[str, Any], patch).items():
            for name in [name for name in members if name in names]:
                taken = [name] if part == "remove" else {name: members[name]}
                writes.setdefault(name, []).append((task, cast(Patch, {part: taken})))
            if part == "remove":
                rest[part] = [name for name in members if name not in names]
            else:
                rest[part] = {name: value for name, value in members.items() if name not in names}
        found[at] = task, cast(Patch, rest)
    return writes


class _Merging:
    """What all that tasks did to one key with a merge function comes to. Documents here have that key or none."""

    def __init__(
        self,
        key: Key[Any],
        base: dict[str, JSON],
        writes: list[tuple[int, Patch]],
        masks: Sequence[int],
        limits: Limits,
    ) -> None:
        self.key = key
        self.base = {key.name: base[key.name]} if key.name in base else {}
        self.writes = writes
        self.writers = sum(1 << task for task, _ in writes)
        self.masks = masks
        self.limits = limits
        self.left: dict[int, dict[str, JSON]] = {}
        """What each task left, by its index: its own view of the key with its patch."""

    def result(self) -> dict[str, JSON]:
        for task, patch in self.writes:  # canonical order: those above come first
            whole = "set" in patch or "remove" in patch
            seen = {} if whole else self._join(self.masks[task] & self.writers)
            self.left[task] = apply(seen, patch)
        return self._join(self.writers)

    def _join(self, tasks: int) -> dict[str, JSON]:
        """What the tasks with these bits left together; with each come all the writers above it."""
        if not tasks:
            return self.base
        last = tasks.bit_length() - 1
        if tasks == self.masks[last] & self.writers | 1 << last:  # the last saw all the others
            return self.left[last]
        name, decode = self.key.name, self.key.decode
        document, done = self.base, 0
        merged: Any = _NOTHING
        current: Any
        for task in _bits(tasks):
            new = self.left[task]
            unseen, done = done & ~self.masks[task], done | 1 << task
            current = document.get(name, _NOTHING) if merged is _NOTHING else merged
            if not unseen or name not in new or current is _NOTHING:
                document, merged = new, _NOTHING
            else:
                if merged is _NOTHING:
                    current = decode(current)
                merged = self._call(current, decode(new[name]))
        return document if merged is _NOTHING else {name: self.key.encode(merged, self.limits)}

    def _call(self, current: object, new: object) -> object:
        merge = cast(Callable[[object, object], object], self.key.merge)
        try:
            return merge(current, new)
        except BaseException as error:
            path = join_path("", self.key.name)
            raise ContextError(
                f"{path} cannot be merged: the merge function of {self.key!r} raised "
                f"{type(error).__name__}: {error}",
                path=path,
            ) from error


@dataclass(slots=True)
class _Trace:
    """Which tasks wrote at one place of the document, as bits, since it was last written as a whole by a task
    that had seen everything there.
    """

    replaced: int = 0
    removed: int = 0
    extended: int = 0
    inside: int = 0
    members: dict[str, _Trace] = field(default_factory=dict[str, "_Trace"])


def _forbid(found: list[tuple[int, Patch]], masks: Sequence[int], ids: Sequence[str]) -> None:
    """Raise `ContextConflict` if two patches, in canonical order, do not combine."""
    root = _Trace()
    for task, patch in found:
        bit = 1 << task
        todo: list[tuple[_Trace, Patch, tuple[str, ...]]] = [(root, patch, ())]
        for trace, change, path in todo:  # grows while it is walked
            for part, members in cast(dict[str, Any], change).items():
                for name in members:
                    there = trace.members.setdefault(name, _Trace())
                    if clash := _clashing(there, part) & ~masks[task]:
                        raise _conflict((*path, name), clash, task, ids)
                    _leave(there, part, bit)
                    if part == "patch":
                        todo.append((there, members[name], (*path, name)))


def _clashing(there: _Trace, part: str) -> int:
    """The tasks whose writes do not combine with such a one."""
    if part == "append":
        return there.replaced | there.removed | there.inside
    if part == "patch":
        return there.replaced | there.removed | there.extended
    if part == "remove":
        return there.replaced | there.extended | there.inside
    return there.replaced | there.removed | there.extended | there.inside


def _leave(there: _Trace, part: str, bit: int) -> None:
    if part == "append":
        there.extended |= bit
    elif part == "patch":
        there.inside |= bit
    else:
        there.extended = there.inside = 0
        there.replaced = bit if part == "set" else 0
        there.removed = bit | there.removed if part == "remove" else 0


def _conflict(steps: tuple[str, ...], clash: int, later: int, ids: Sequence[str]) -> ContextConflict:
    earlier = next(_bits(clash))
    path = join_path("", *steps)
    names = (repr(ids[task]) if ids else f"number {task} in canonical order" for task in (earlier, later))
    return ContextConflict(
        f"the tasks {' and '.join(names)} both wrote {path}, neither seeing the other's value, and the workflow has "
        'on_conflict="error". Let one depend on the other, write different keys, or give the workflow '
        f"keys=[Key({steps[0]!r}, ..., merge=function)]",
        path=path,
    )


def _bits(mask: int) -> Iterator[int]:
    while mask:
        low = mask & -mask
        yield low.bit_length() - 1
        mask ^= low
