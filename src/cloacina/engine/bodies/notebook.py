"""The notebook of one attempt: its checkpoints, read from what earlier attempts stored or made and stored.

It knows neither a database nor a loop. A book keeps the values; for a ``def`` body the methods of its book
block in place of being suspended, so that the one coroutine below also runs on a thread, to its end at once.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine
from typing import Any, Protocol, TypeVar, cast

from cloacina.errors import CheckpointError, ContextError, PayloadError
from cloacina.model.context.context import Context
from cloacina.model.context.guard import changed
from cloacina.model.context.keys import Key
from cloacina.model.definition.hints import shown
from cloacina.model.json.patch import Patch
from cloacina.model.json.values import JSON, Limits, encode, to_json
from cloacina.store.payloads.payloads import read_payload

T = TypeVar("T")

LONGEST_NAME = 200


class Book(Protocol):
    """Where the values of one task's checkpoints are kept, each as JSON text."""

    async def stored(self) -> dict[str, str]:
        """Those that earlier attempts stored, by name; for the caller to keep."""
        ...

    async def store(self, name: str, value: str) -> None:
        """Store one; returns once it is durable."""
        ...


class Notebook:
    """See the module's text. It is the `Checkpoints` of its attempt's context."""

    __slots__ = ("_book", "_is_async", "_limits", "_stored", "_used")

    def __init__(self, book: Book, limits: Limits, *, is_async: bool) -> None:
        """``limits`` bound a value; ``is_async`` says whether the body is ``async def``."""
        self._book = book
        self._limits = limits
        self._is_async = is_async
        self._stored: dict[str, str] | None = None
        self._used: set[str] = set()

    def checkpoint(self, context: Context, name: str | Key[Any], fn: Callable[[], Any]) -> Any:
        plain = _checked(name, fn)
        work = self._checkpoint(context, plain, name if isinstance(name, Key) else None, fn)
        return work if self._is_async else to_end(work)

    async def _checkpoint(
        self, context: Context, name: str, key: Key[Any] | None, fn: Callable[[], Any]
    ) -> Any:
        if name in self._used:
            raise CheckpointError(
                f"checkpoint {name!r} was used in this attempt already: give each one a name of its own, "
                "such as one with the number of the round in a loop"
            )
        self._used.add(name)
        try:
            stored = await self._earlier()
            if name in stored:
                return _read(name, key, stored.pop(name))
            value = self._plain(name, key, await self._made(context, name, fn))
        except BaseException:
            self._used.discard(name)  # nothing was stored: it may be tried again
            raise
        await self._book.store(name, encode(value))
        return value if key is None else key.decode(value)

    async def _earlier(self) -> dict[str, str]:
        if self._stored is None:
            stored = await self._book.stored()
            if self._stored is None:  # another checkpoint of the same body may have been faster
                self._stored = stored
        return self._stored

    async def _made(self, context: Context, name: str, fn: Callable[[], Any]) -> object:
        before = _touched(context)
        with context.watch().over(name):
            value: object = fn()
            if inspect.isawaitable(value):
                if self._is_async:
                    return cast(object, await value)
                if inspect.iscoroutine(value):
                    value.close()
                raise CheckpointError(
                    f"checkpoint {name!r}: its function is async, and the body is a def, which cannot await it: make "
                    "the body async def, or give a function that is not"
                )
        # A plain function was alone: whatever changed was changed by it, in place too.
        if before is not None and _touched(context) != before:
            raise changed(name)
        return value

    def _plain(self, name: str, key: Key[Any] | None, value: object) -> JSON:
        try:
            return to_json(value, name, self._limits) if key is None else key.encode(value, self._limits)
        except ContextError as error:
            raise CheckpointError(
                f"checkpoint {name!r}: what its function returned cannot be stored: {error}"
            ) from error


def to_end(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that nothing suspends; return or raise what it does."""
    try:
        work.send(None)
    except StopIteration as end:
        return cast(T, end.value)
    work.close()
    raise RuntimeError(f"{work!r} was suspended on a thread, where nothing can go on with it")


def _checked(name: str | Key[Any], fn: object) -> str:
    plain = cast(object, name.name if isinstance(name, Key) else name)
    if not isinstance(plain, str) or not plain.isprintable() or not 0 < len(plain) <= LONGEST_NAME:
        raise CheckpointError(
            f"checkpoint name {shown(plain)} must be printable text of 1 to {LONGEST_NAME} characters"
        )
    if not callable(fn):
        if inspect.iscoroutine(fn):
            fn.close()
        raise CheckpointError(
            f"checkpoint {plain!r}: {shown(fn)} cannot be called: hand over the function itself, with "
            "functools.partial if it takes arguments"
        )
    return plain


def _read(name: str, key: Key[Any] | None, text: str) -> Any:
    try:
        value = read_payload(text, "its value")
        return value if key is None else key.decode(value)
    except (ContextError, PayloadError) as error:
        raise CheckpointError(
            f"checkpoint {name!r}: what an earlier attempt stored cannot be used: {error}; give the checkpoint "
            "another name if its meaning has changed"
        ) from error


def _touched(context: Context) -> Patch | None:
    """What the body has changed so far; None if that is no JSON at the moment."""
    try:
        return context.patch()
    except ContextError:
        return None
