"""What does an idle engine cost: SQL statements and CPU time?

Statements are counted by a trace on every connection that SQLite's library opens in this process, CPU time
is that of the whole process, its lease and store threads included.
"""

from __future__ import annotations

from typing import Any

import apsw

from benchmarks.harness.engine import Execute, with_runner
from benchmarks.harness.question import Metric, Question, Sample, Setting
from benchmarks.harness.sizes import watch_idle
from benchmarks.harness.workflows import one_task

QUESTION = Question(
    (
        Metric("statements", "idle: SQL statements a minute", "", False, 0),
        Metric("cpu", "idle: CPU seconds a minute", "s", False, 0.1),
    ),
    rounds=1,
    warm_up=False,
    bodies=False,
)


class Statements:
    """Counts what every connection runs that is opened while it is in use."""

    def __init__(self) -> None:
        self.count = 0

    def __enter__(self) -> Statements:
        apsw.connection_hooks.append(self._opened)
        return self

    def __exit__(self, *_: object) -> None:
        apsw.connection_hooks.remove(self._opened)

    def _opened(self, connection: Any) -> None:
        connection.trace_v2(apsw.SQLITE_TRACE_STMT, self._ran)

    def _ran(self, _: object) -> None:
        self.count += 1


def sample(setting: Setting) -> Sample:
    with Statements() as statements:

        async def measure(execute: Execute) -> Sample:
            await execute()
            if not statements.count:
                raise AssertionError(
                    "the trace saw nothing of an execution: it cannot prove that all is quiet"
                )
            return await watch_idle(lambda: statements.count)

        return with_runner(setting, one_task(setting.bodies), measure)
