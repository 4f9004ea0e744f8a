"""What an idle DBOS costs: SQL statements and CPU time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from sqlalchemy import Engine, event

from benchmarks.harness.question import Sample
from benchmarks.harness.sizes import watch_idle


async def measure(work: Callable[[], Awaitable[object]]) -> Sample:
    """Run ``work`` once, then count while nothing is asked for."""
    statements = 0

    def count(*_: object) -> None:
        nonlocal statements
        statements += 1

    await work()
    event.listen(Engine, "before_cursor_execute", count)
    try:
        return await watch_idle(lambda: statements)
    finally:
        event.remove(Engine, "before_cursor_execute", count)
