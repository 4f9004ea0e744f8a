"""What do eight processes make of 10,000 executions that wait, all starting to take them at the same moment?

Every execution must have been started once. Executions a second are counted from the first body's start to the last
execution's end, as stored.
"""

from __future__ import annotations

import asyncio

from benchmarks.harness.database import Database
from benchmarks.harness.past import fill
from benchmarks.harness.question import Metric, Question, Sample, Setting
from benchmarks.harness.sizes import CONTENDED, CONTENDERS, INPUT
from benchmarks.harness.workers import Counting, Workers, working

QUESTION = Question(
    (Metric("rate", "10,000 waiting one-task executions, 8 processes start on them at once", "/s", True),),
    rounds=3,
    warm_up=False,
    bodies=False,
)


def sample(setting: Setting) -> Sample:
    fill(setting.database, Counting().workflow(), 0)
    asyncio.run(submit(setting.database))
    with working(setting.database, CONTENDERS, at_once=True) as workers:
        workers.release()
        workers.wait_for("up")
        asyncio.run(all_ended(setting.database))
    check(setting.database, workers)
    [(first, last)] = setting.database.rows(
        "SELECT min(started) AS first, max(finished) AS last FROM attempts"
    )
    return {"rate": CONTENDED * 1e6 / (last - first)}


async def submit(database: Database) -> None:
    async with database.client() as client:
        await client.submit_many(Counting().workflow().name, [INPUT] * CONTENDED)


async def all_ended(database: Database) -> None:
    async with database.client() as client:
        while live := await client.list(status=["pending", "running"], limit=1):
            await client.result(live[0].id)


def check(database: Database, workers: Workers) -> None:
    """Every execution completed, by one attempt, which was the only run of its body."""
    [found] = database.rows(
        "SELECT count(*) AS attempts, count(DISTINCT execution) AS executions, max(attempt) AS highest"
        " FROM attempts WHERE state = 'completed'"
    )
    [(completed,)] = database.rows("SELECT count(*) AS ended FROM executions WHERE status = 'completed'")
    if found != (CONTENDED, CONTENDED, 1) or completed != CONTENDED or sum(workers.bodies) != CONTENDED:
        raise AssertionError(
            f"not started once each: {found}, {completed} completed, bodies {workers.bodies}"
        )
