"""A guard: what stands between a context and code that may read it but not change it."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Protocol

from cloacina.errors import CheckpointError, ContextError
from cloacina.model.json.values import JSON, encode, to_json


class Guard(Protocol):
    """See the module's text. A context without a guard may be changed by everybody."""

    def refuse(self) -> None:
        """Raise if the calling code may not change the context."""
        ...

    def lends(self) -> bool:
        """True if the calling code gets copies of lists and objects, so that it changes nothing in place."""
        ...

    def lent(self, value: JSON) -> None:
        """The calling code got ``value``, which is a copy."""
        ...


class ReadOnly:
    """The guard of a context that nobody may change."""

    def refuse(self) -> None:
        raise ContextError("this context is read-only: only the body of a task changes its context")

    def lends(self) -> bool:
        return True

    def lent(self, value: JSON) -> None:
        return None


READ_ONLY = ReadOnly()


class Watch:
    """The guard of a context whose body has checkpoints: the body may change it, their functions may not.

    It goes by who asks and not by when: while the function of one checkpoint waits, other parts of the body
    may change the context.
    """

    @contextmanager
    def over(self, checkpoint: str) -> Generator[None, None, None]:
        """The block, and what it starts, is the function of this checkpoint."""
        visit = _Visit(self, checkpoint)
        token = _visit.set(visit)
        try:
            yield
        finally:
            _visit.reset(token)
        visit.check()

    def refuse(self) -> None:
        visit = _visit.get()
        if visit is not None and visit.watch is self:
            raise changed(visit.checkpoint)

    def lends(self) -> bool:
        visit = _visit.get()
        return visit is not None and visit.watch is self

    def lent(self, value: JSON) -> None:
        visit = _visit.get()
        if visit is not None:
            visit.borrowed.append((value, encode(value)))


def changed(checkpoint: str) -> CheckpointError:
    """The error of a checkpoint whose function changes the context."""
    return CheckpointError(
        f"checkpoint {checkpoint!r}: its function changes the context, which would be missing when the stored "
        "value is used in its place: return the value, and change the context after the checkpoint"
    )


class _Visit:
    """One run of a checkpoint's function: what it was lent, and how that was."""

    __slots__ = ("borrowed", "checkpoint", "watch")

    def __init__(self, watch: Watch, checkpoint: str) -> None:
        self.watch = watch
        self.checkpoint = checkpoint
        self.borrowed: list[tuple[Any, str]] = []

    def check(self) -> None:
        """Raise `CheckpointError` if something that was lent was changed."""
        for value, before in self.borrowed:
            try:
                now = encode(to_json(value))
            except ContextError:  # something foreign was put in
                now = ""
            if now != before:
                raise changed(self.checkpoint)


_visit: ContextVar[_Visit | None] = ContextVar("cloacina_checkpoint", default=None)
