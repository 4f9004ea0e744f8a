"""A patch: what one task changed in the view that it saw; and the view that patches make.

A patch is a JSON object with any of these members, and ``{}`` says that nothing changed::

    {"set":    {"status": "ok"},           these keys have these values now
     "remove": ["draft"],                  these keys are gone
     "append": {"orders": [17, 18]},       these lists were extended: the old list begins the new one
     "patch":  {"totals": {"set": ...}}}   these objects changed inside, each by a patch of its own

A key that was missing, or held another type, is ``set`` as a whole: two branches that both create a list do
not extend each other's. Create it in a task above both, or in the input, and both extensions are kept.
"""

from __future__ import annotations

from typing import TypedDict, cast

from cloacina.errors import ContextError
from cloacina.model.json.paths import shorten
from cloacina.model.json.values import JSON, Limits, decode, encode, encoded_size


class Patch(TypedDict, total=False):
    """The members of a patch, each about other keys."""

    set: dict[str, JSON]
    remove: list[str]
    append: dict[str, list[JSON]]
    patch: dict[str, Patch]


class View(dict[str, JSON]):
    """A JSON object that is never changed, and knows an upper bound of the bytes of its text, ``size``."""

    __slots__ = ("size",)
    size: int


def as_view(members: dict[str, JSON], text: str) -> View:
    """``members``, whose JSON text is ``text``, as a view; they must not be changed afterwards."""
    view = View(members)
    view.size = len(text) if text.isascii() else len(text.encode())
    return view


def diff(before: dict[str, JSON], after: dict[str, JSON]) -> Patch:
    """Return the patch that turns ``before`` into ``after``, both as `to_json` returns them.

    It shares values with ``after``. Values differ as JSON texts do (1, 1.0 and true are three values), except
    that the order of members is no change.
    """
    root: Patch = {}
    todo = [(root, before, after)]
    nested: list[tuple[Patch, str, Patch]] = []
    for patch, old_members, new_members in todo:  # grows while it is walked
        for key, new in new_members.items():
            if key not in old_members:
                patch.setdefault("set", {})[key] = new
                continue
            old = old_members[key]
            if old is new:
                continue
            if isinstance(old, dict) and isinstance(new, dict):
                inner: Patch = {}
                nested.append((patch, key, inner))
                todo.append((inner, old, new))
            elif isinstance(old, list) and isinstance(new, list) and _begins(old, new):
                patch.setdefault("append", {})[key] = new[len(old) :]
            elif not same(old, new):
                patch.setdefault("set", {})[key] = new
        if gone := [key for key in old_members if key not in new_members]:
            patch["remove"] = gone
    for patch, key, inner in reversed(nested):  # the deepest first: an empty patch is left out
        if inner:
            patch.setdefault("patch", {})[key] = inner
    return root


def apply(base: dict[str, JSON], patch: Patch) -> dict[str, JSON]:
    """Return ``base`` as ``patch`` changes it: a new object that shares what is untouched with both."""
    result = dict(base)
    fold(result, patch, {})
    return result


def fold(view: dict[str, JSON], patch: Patch, made: dict[int, object]) -> None:
    """Apply ``patch`` to ``view`` in place; everything inside it is copied before it is changed.

    ``made`` has, by id, the lists and objects that earlier folds made inside this view: those are changed in
    place, so that n tasks which extend one list cost n steps and not n². Where a list or object is expected
    and none is there, an empty one takes the place of what is.
    """
    todo = [(view, patch)]
    for target, change in todo:  # grows while it is walked
        for key in change.get("remove", ()):
            target.pop(key, None)
        if "set" in change:
            target.update(change["set"])
        for key, items in change.get("append", _NOTHING).items():
            found = target.get(key)
            if isinstance(found, list) and id(found) in made:
                found.extend(items)
            else:
                target[key] = longer = [*found, *items] if isinstance(found, list) else list(items)
                made[id(longer)] = longer
        for key, inner in change.get("patch", _NOTHING_INSIDE).items():
            found = target.get(key)
            if not isinstance(found, dict):
                found = {}
            elif id(found) not in made:
                found = dict(found)
            target[key] = found
            made[id(found)] = found
            todo.append((found, inner))


def read_patch(text: str | bytes) -> Patch:
    """Return the patch that the store holds as ``text``. Raises `ContextError` if it is damaged."""
    root = decode(text)
    todo = [root]
    for patch in todo:  # grows while it is walked
        if not isinstance(patch, dict) or not patch.keys() <= _PARTS:
            raise ContextError(f"a stored patch is damaged, or newer than this cloacina: {shorten(text)}")
        for part, members in patch.items():
            if part == "remove":
                fine = isinstance(members, list) and all(isinstance(key, str) for key in members)
            elif not isinstance(members, dict):
                fine = False
            else:
                fine = part != "append" or all(isinstance(items, list) for items in members.values())
                if part == "patch":
                    todo.extend(members.values())
            if not fine:
                raise ContextError(f"a stored patch is damaged in {part!r}: {shorten(text)}")
    return cast(Patch, root)


def same(one: JSON, other: JSON) -> bool:
    """Whether two values are the same JSON: 1, 1.0 and true differ, so do 0.0 and -0.0; members lack order."""
    if one != other:  # nothing that differs for Python is the same; what is equal may still differ
        return False
    todo = [(one, other)]
    while todo:
        left, right = todo.pop()
        if type(left) is not type(right):
            return False
        if isinstance(left, dict | list):
            if encode(left) == encode(right):
                continue
            if isinstance(left, dict):
                todo.extend((value, cast(dict[str, JSON], right)[key]) for key, value in left.items())
            else:
                todo.extend(zip(left, cast(list[JSON], right), strict=True))
        elif isinstance(left, float) and str(left) != str(right):
            return False
    return True


def check_size(view: dict[str, JSON], bound: int, limits: Limits) -> int:
    """Return an upper bound of the bytes of the text of ``view``, at most ``limits.context_bytes``.

    ``bound`` is one that is known already; only if it is over the limit is the view measured.
    Raises `ContextError` if the view really is over it.
    """
    if bound <= limits.context_bytes:
        return bound
    sizes = {key: encoded_size(key) + encoded_size(value) + 2 for key, value in view.items()}
    size = max(2, 1 + sum(sizes.values()))
    if size > limits.context_bytes:
        largest = sorted(sizes, key=sizes.__getitem__, reverse=True)[:3]
        shown = ", ".join(f"{shorten(key)} ({sizes[key]:,})" for key in largest)
        raise ContextError(
            f"the context has {size:,} bytes as JSON, over the limit of {limits.context_bytes:,}; largest: "
            f"{shown}. Store a file name or a row id instead, or raise the limit in the settings"
        )
    return size


def size_bound(view: dict[str, JSON]) -> int:
    """An upper bound of the bytes of the text of ``view``: known for a `View`, measured for a plain dict."""
    return view.size if isinstance(view, View) else encoded_size(view)


_NOTHING: dict[str, list[JSON]] = {}
_NOTHING_INSIDE: dict[str, Patch] = {}
_PARTS = frozenset(Patch.__annotations__)


def _begins(old: list[JSON], new: list[JSON]) -> bool:
    return len(old) < len(new) and same(old, new[: len(old)])
