"""What an idle DBOS costs: SQL statements and CPU time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import sqlalchemy as sa

from benchmarks.harness.question import Sample
from benchmarks.harness.sizes import watch_idle


async def measure(work: Callable[[], Awaitable[object]]) -> Sample:
    """Run ``work`` once, then count while nothing is asked for."""
    statements = 0

    def count(*_: object) -> None:
        nonlocal statements
        statements += 1

    await work()
    sa.event.listen(sa.Engine, "before_cursor_execute", count)
    try:
        return await watch_idle(lambda: statements)
    finally:
        sa.event.remove(sa.Engine, "before_cursor_execute", count)
