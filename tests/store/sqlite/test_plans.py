"""Query plans: no statement may get slower because much is stored."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import partial

import pytest

from cloacina.model.status import ExecutionStatus, Reason
from cloacina.store.nouns import checkpoints, commands, forks, retention, runners, versions
from cloacina.store.nouns import reads as looks
from cloacina.store.rows import ExecutionFilter, ExpiryLook
from cloacina.store.sqlite import claims, groups, reads, unowned
from cloacina.store.sqlite.file.connection import Connection
from store.make import ME, Stores, claim, new

STATEMENTS = {
    "fence": groups._FENCE,
    **{kind.noun: kind.write for kind in (groups.ATTEMPT_ENDS, groups.PROGRESS, groups.NEW_EXECUTIONS)},
    "unfit ends": groups.ATTEMPT_ENDS.unfit,
    "unfit progress": groups.PROGRESS.unfit,
    "unfit executions": groups.NEW_EXECUTIONS.unfit,
    "unfit starts": groups.ATTEMPT_STARTS.unfit,
    "shifts": groups.SHIFTS.write,
    "unfit shifts": groups.SHIFTS.unfit,
    "unfit checkpoints": checkpoints.CHECKPOINTS.unfit,
    "checkpoints": checkpoints._STORED,
    "candidates": claims.CANDIDATES,
    "take": claims.TAKE,
    "load": reads._PACKED_WITH_ATTEMPTS,
    "size": reads._BYTES,
    "size of attempts": reads._ATTEMPT_BYTES,
    "owned": reads._OWNED,
    "missing": looks.MISSING,
    "any runner": retention.ANY_RUNNER,
    "remove runners": retention.REMOVE_RUNNERS,
    "ended": looks.ENDED,
    "expired": retention.LOOK_AT_ALL,
    "expired failures": retention.LOOK_AT_STATUS,
    "ended and old": retention.ENDED,
    **{text.split()[2]: text for text in retention.REMOVE},
    "next wake-up": looks.NEXT_WAKE_UP,
    "interrupt": runners.INTERRUPT,
    "free": runners.FREE,
    "owned by a runner": runners.OWNED,
    "orphans": runners.ORPHANS,
    "holders": unowned._HOLDERS,
    "forks of": forks.FORKS_OF,
    "stored forks": forks._STORED,
    "lock of forked ones": forks.LOCK,
    "parked for a version": versions.PARKED,
    "free by version": versions.FREE,
    "stranded versions": versions.STRANDED_VERSIONS,
    "stranded": versions.STRANDED,
    "in flight": versions.IN_FLIGHT,
    "touched": versions.TOUCHED,
    "lock of what is sent": versions.LOCK_SENT,
    "live": versions.LIVE,
    "adopt": versions.ADOPT,
    "park": versions.PARK,
    "forget": versions.FORGET,
    "dag of an execution": commands.DAG,
    "cancel running": commands.CANCEL_RUNNING,
    "cancel waiting": commands.CANCEL_WAITING,
    "skip unstarted": commands.SKIP_UNSTARTED,
    "cancel": commands.CANCEL,
    "pause": commands.PAUSE,
    "interrupt parked": commands.INTERRUPT,
    "resume": commands.RESUME,
    "commands of an owner": commands.OF_OWNER,
    "commands of claimed ones": commands.OF_EXECUTIONS,
}


def connection_of(stores: Stores) -> Connection:
    connection: Connection = stores.writer._connection  # type: ignore[attr-defined]
    return connection


@pytest.mark.parametrize("analyzed", [False, True])
@pytest.mark.parametrize("name", STATEMENTS)
def test_tables_are_searched_never_scanned(stores: Stores, name: str, analyzed: bool) -> None:
    connection = connection_of(stores)
    if analyzed:
        stores.writer.insert_unowned([new(f"e{n}", status=ExecutionStatus.COMPLETED) for n in range(3000)])
        connection.rows("ANALYZE")
    statement = STATEMENTS[name]
    parameters = max((int(number or 1) for number in re.findall(r"\?(\d*)", statement)), default=0)
    plan = [row[3] for row in connection.rows(f"EXPLAIN QUERY PLAN {statement}", ("[]",) * parameters)]
    scans = [
        step
        for step in plan
        if step.startswith("SCAN") and any(t in step for t in ("executions", "attempts", "checkpoints"))
    ]
    allowed = {"orphans": "executions_owner"}.get(name, "nothing")
    assert [step for step in scans if allowed not in step] == [], plan
    assert not any("AUTOMATIC" in step for step in plan), plan


def steps(connection: Connection, action: Callable[[], object]) -> int:
    """How many thousands of instructions SQLite runs for ``action``."""
    counted = 0

    def tick() -> bool:
        nonlocal counted
        counted += 1
        return False

    connection._raw.set_progress_handler(tick, 1000)
    try:
        action()
    finally:
        connection._raw.set_progress_handler(None)
    return counted


FINISHED, WAITING = 20_000, 20_000

# An operation on the stores, which must cost the same with many executions stored as with few.
OPERATIONS: dict[str, Callable[[Stores], object]] = {
    "claim": lambda stores: stores.commit(claim=claim(20, "wf", "other")),
    "claim of nothing": lambda stores: stores.commit(claim=claim(20, "unheard of")),
    "newest": lambda stores: stores.reader.executions(ExecutionFilter(limit=20)),
    "by workflow": lambda stores: stores.reader.executions(ExecutionFilter(workflow="wf", limit=20)),
    "failed": lambda stores: stores.reader.executions(ExecutionFilter(status=(ExecutionStatus.FAILED,))),
    "live": lambda stores: stores.reader.executions(
        ExecutionFilter(status=(ExecutionStatus.PENDING, ExecutionStatus.RUNNING), limit=20)
    ),
    "one": lambda stores: stores.reader.execution("p10"),
    "expired": lambda stores: stores.reader.expired(ExpiryLook(ExecutionStatus.COMPLETED, 1 << 50, "", 20)),
    "next wake-up": lambda stores: stores.reader.next_wake_up([("wf", "v1")]),
    "orphans": lambda stores: stores.writer.free_orphans(5),
    "stranded": lambda stores: stores.reader.stranded([("wf", "v1"), ("other", "v1")], [], 20),
    "stranded of another": lambda stores: stores.reader.stranded([("nobody's", "v2")], [], 20),
    "forks": lambda stores: stores.reader.forks_of(["p10", "f10"]),
    "recover": lambda stores: stores.writer.recover(ME, Reason.SHUTDOWN, 5),
}


def test_no_operation_gets_slower_with_what_is_stored(stores: Stores) -> None:
    connection = connection_of(stores)
    stores.reader.close()
    stores.reader = type(stores.reader)(connection, owned=False)  # type: ignore[call-arg]
    stores.writer.register_versions(ME, [("wf", "v1", "{}"), ("other", "v1", "{}")], 1)

    def fill(first: int, waiting: int, finished: int) -> None:
        rows = [
            new(f"p{n}", workflow=("wf", "other", "nobody's")[n % 3], priority=n % 5)
            for n in range(first, first + waiting)
        ]
        done = ExecutionStatus.COMPLETED
        rows += [new(f"f{n}", status=done) for n in range(first, first + finished)]
        for start in range(0, len(rows), 10_000):
            stores.writer.insert_unowned(rows[start : start + 10_000])

    def measure() -> dict[str, int]:
        return {name: steps(connection, partial(run, stores)) for name, run in OPERATIONS.items()}

    fill(0, 100, 100)
    few = measure()
    connection.rows("UPDATE runners SET state = 'alive'")
    stores.writer.register_versions(ME, [("wf", "v1", "{}"), ("other", "v1", "{}")], 1)
    fill(1000, WAITING, FINISHED)
    many = measure()
    assert {name: many[name] for name in few if many[name] > 2 * few[name] + 2} == {}


def test_the_lateral_claim_reads_no_more_than_its_limit_in_each_index(stores: Stores) -> None:
    plan = [
        row[3]
        for row in connection_of(stores).rows(
            f"EXPLAIN QUERY PLAN {claims.CANDIDATES}", (json.dumps([["wf", "v1"]]), 5, 5)
        )
    ]
    searches = [step for step in plan if "executions" in step]
    assert len(searches) == 2
    assert "executions_claim (workflow=? AND version=?)" in searches[0]
    assert "executions_wake (workflow=? AND version=? AND wake_at" in searches[1]
