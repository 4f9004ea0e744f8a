"""Does a claim get slower with 1,000,000 finished executions stored, and does it towards the end of a long queue?

A runner's groups claim some of 10,000 executions that wait, and complete those that the group before has claimed: so
the waiting ones leave their traces in the index, as in life. The empty schema and the full one take turns, claim by
claim.
"""

from __future__ import annotations

import statistics
import time
from itertools import count

from benchmarks.floors.group import DOCUMENT
from benchmarks.harness.database import Database, connected, settle
from benchmarks.harness.question import Metric, Question, Sample, Setting
from benchmarks.harness.sizes import CLAIMED, CONTENDED, STORED
from cloacina.model.status import ExecutionStatus
from cloacina.store.postgres.database import PostgresDatabase
from cloacina.store.postgres.location import server_location
from cloacina.store.rows import ClaimRequest, Group, Item, NewExecution, Progress, RunnerRow, StoredExecution

QUESTION = Question(
    (
        Metric("factor", "1,000,000 stored: a claim's time, times empty", "", False, None, 1.1),
        Metric("late", "the last 100 claims of 10,000 waiting, times the first 100", "", False, None, 1.1),
        Metric("claim", f"1,000,000 stored: a claim of {CLAIMED}, p50", "ms"),
    ),
    rounds=3,
    warm_up=False,
    bodies=False,
    stores=("postgres",),
)
MEASURED = 100
WORKFLOW, VERSION = "chain_1", "0123456789abcdef"
PAST = """
    INSERT INTO {s}.executions
        (id, workflow, version, status, input, result, priority, tags, created, started, finished)
    SELECT '01800000-0000-7000-8000-' || lpad(n::text, 12, '0'), %s, %s, 'completed', %s, %s, 0, '[]', n, n, n
    FROM generate_series(1, %s) AS n"""
PAST_ATTEMPTS = """
    INSERT INTO {s}.attempts (execution, task, attempt, state, started, finished, delta)
    SELECT id, 'step_0', 1, 'completed', started, finished, '{{"set":{{"count":1}}}}' FROM {s}.executions"""

_numbers = count()


def sample(setting: Setting) -> Sample:
    full, made = setting.kept("million"), setting.shared / "million.made"
    if not made.exists():
        fill(full)
        made.touch()
    workflow = f"round_{next(_numbers)}"
    queues = [Queue(database, workflow) for database in (setting.database, full)]
    for _ in range(CONTENDED // CLAIMED):
        for queue in queues:
            queue.claim()
    for queue in queues:
        queue.close()
    empty, filled = (queue.early() for queue in queues)
    return {
        "factor": filled / empty,
        "late": statistics.median(queue.late() / queue.early() for queue in queues),
        "claim": 1e3 * filled,
    }


class Queue:
    """Executions that wait, and a runner that claims them."""

    def __init__(self, database: Database, workflow: str) -> None:
        self._store = PostgresDatabase(server_location(database.url, database.schema)).writer()
        self._pairs = ((workflow, VERSION),)
        self._runner = f"runner of {workflow}"
        self._number = 0
        self._claimed: list[StoredExecution] = []
        self._seconds: list[float] = []
        self._store.register_runner(RunnerRow(self._runner, "", 0, 0, "alive", 0))
        self._store.insert_unowned([waiting(workflow, number) for number in range(CONTENDED)])

    def claim(self) -> None:
        """Commit a group that completes what was claimed before, and claims some more."""
        self._number += 1
        items = tuple(Item(one.id, progress=completed(one.id, self._runner)) for one in self._claimed)
        group = Group(self._runner, self._number, items, ClaimRequest(self._pairs, CLAIMED, 1))
        begin = time.perf_counter()
        self._claimed = self._store.commit(group)
        self._seconds.append(time.perf_counter() - begin)
        if len(self._claimed) != CLAIMED:
            raise AssertionError(f"{len(self._claimed)} executions were claimed, not {CLAIMED}")

    def early(self) -> float:
        """The median of the first claims, in seconds."""
        return statistics.median(self._seconds[:MEASURED])

    def late(self) -> float:
        """The median of the last claims, in seconds."""
        return statistics.median(self._seconds[-MEASURED:])

    def close(self) -> None:
        self._store.close()


def waiting(workflow: str, number: int) -> NewExecution:
    id = f"01900000-0000-7000-8000-{next(_numbers):012}"
    return NewExecution(
        id, workflow, VERSION, ExecutionStatus.PENDING, DOCUMENT, None, 0, "[]", None, number, None
    )


def completed(id: str, runner: str) -> Progress:
    return Progress(id, runner, ExecutionStatus.COMPLETED, None, started=1, finished=1, result=DOCUMENT)


def fill(database: Database) -> None:
    """Store so many executions that have ended, without running them."""
    PostgresDatabase(server_location(database.url, database.schema)).writer().close()
    with connected(database.url) as server:
        values = (WORKFLOW, VERSION, DOCUMENT, DOCUMENT, STORED)
        server.execute(PAST.format(s=database.schema), values)
        server.execute(PAST_ATTEMPTS.format(s=database.schema))
        settle(server, database)
