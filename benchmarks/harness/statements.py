"""Statements: how many a subject runs, counted from outside of it.

On SQLite a trace counts on every connection that its library opens in this process. On PostgreSQL the log of a server
that is started for this measurement alone has every one, whoever sent it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import replace
from typing import Any

from benchmarks.harness.question import Setting
from benchmarks.harness.server import CountingServer

Count = Callable[[], int]


@contextmanager
def traced() -> Iterator[Count]:
    """Count what every connection runs that is opened meanwhile."""
    import apsw

    ran = 0

    def run(_: object) -> None:
        nonlocal ran
        ran += 1

    def opened(connection: Any) -> None:
        connection.trace_v2(apsw.SQLITE_TRACE_STMT, run)

    apsw.connection_hooks.append(opened)
    try:
        yield lambda: ran
    finally:
        apsw.connection_hooks.remove(opened)


@contextmanager
def counted(
    setting: Setting, in_process: Callable[[], AbstractContextManager[Count]] = traced
) -> Iterator[tuple[Setting, Count]]:
    """Where to measure, and what tells the number of statements so far; ``in_process`` counts on SQLite."""
    if setting.server:
        with closing(CountingServer(setting.folder.parent)) as server:
            yield replace(setting, server=server.url), server.count
    else:
        with in_process() as count:
            yield setting, count
