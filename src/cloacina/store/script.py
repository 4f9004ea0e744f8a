"""A script: statements one after the other, for whoever has a connection to run.

It yields a statement with its parameters, gets the rows, or what the driver raised, and returns what it is for. So
one text serves connections that block and connections that are awaited.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from functools import partial
from typing import Any, TypeAlias, TypeVar

T = TypeVar("T")

Statement: TypeAlias = tuple[str, tuple[str, ...]]
"""A text with $1, $2 and so on, and what these stand for."""

Rows: TypeAlias = list[tuple[Any, ...]]
"""What a statement answered; empty for one that returns nothing."""

Script: TypeAlias = Generator[Statement, Rows, T]


def run(script: Script[T], fetch: Callable[[str, tuple[str, ...]], Rows]) -> T:
    """Run ``script`` on a connection that blocks; return what it returns, or raise what it raises."""
    go_on: Callable[[], Statement] = partial(next, script)
    while True:
        try:
            statement = go_on()
        except StopIteration as end:
            result: T = end.value
            return result
        try:
            go_on = partial(script.send, fetch(*statement))
        except Exception as error:
            go_on = partial(script.throw, error)


async def run_awaiting(script: Script[T], fetch: Callable[[str, tuple[str, ...]], Awaitable[Rows]]) -> T:
    """`run` on a connection that is awaited."""
    go_on: Callable[[], Statement] = partial(next, script)
    while True:
        try:
            statement = go_on()
        except StopIteration as end:
            result: T = end.value
            return result
        try:
            go_on = partial(script.send, await fetch(*statement))
        except Exception as error:
            go_on = partial(script.throw, error)
