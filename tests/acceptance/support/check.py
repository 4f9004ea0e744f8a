"""The checker: compares what the database says with what the ledger says, and both with the promises.

`judge` complains, by kind. `midway` fails for any complaint, and may be asked at any moment, also between a crash and
the restart. `finally_` is for the end, when every execution should be over and every runner gone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import msgspec

from acceptance.support import database
from acceptance.support.database import AttemptRow, Contents, Move
from acceptance.support.ledger import read
from acceptance.support.shape import Shape
from acceptance.support.shapes import SHAPES
from acceptance.support.tale import Start, Tale, tale_of
from cloacina.errors import ExecutionError
from cloacina.model.status import AttemptState, ExecutionStatus, check_move

ENDED_EXECUTIONS = frozenset({"completed", "failed", "cancelled"})


KINDS = (
    "lost",
    "phantom",
    "double",
    "unexplained starts",
    "stale accepted",
    "order violations",
    "wrong context",
    "stuck",
)
"""What must never be:

* lost: an execution that was acknowledged, or told to be over, is not there so; some of a batch are not there
* phantom: an execution that nobody asked for
* double: two ends of an execution or a task
* unexplained starts: a body without a committed start of its own, or one repeated for no cause
* stale accepted: a result of a runner that was dead by then, or of an attempt that had ended
* order violations: a body before its dependencies had ended, or after a pause or a cancel was acknowledged
* wrong context: another result, end of a task or of the execution than the workflow's
* stuck: not over in the end, or not whole
"""

Complaints: TypeAlias = dict[str, list[str]]
"""By kind."""


class Causes(NamedTuple):
    """The processes, by pid, whose bodies may have been repeated: killed ones, and ones that lost their lease."""

    killed: Collection[int] = ()
    frozen: Collection[int] = ()


class Verdict(NamedTuple):
    """What was looked at, and what is to be complained of."""

    found: Contents
    told: Tale
    complaints: Complaints


def judge(read_database: Callable[[], Contents], ledger: Path, causes: Causes | None = None) -> Verdict:
    """Compare everything. With ``causes``, all should be over, and what was repeated was so for one of them."""
    told = tale_of(read(ledger))
    # The ledger first: whatever it says must be in the database by now. And again afterwards, as work may go on:
    # whatever is in the database must have been asked for by then.
    found = read_database()
    later = tale_of(read(ledger))
    told = told._replace(asked=later.asked, forks=later.forks, halts=later.halts)
    complaints: Complaints = {kind: [] for kind in KINDS}
    _so_far(found, told, complaints)
    if causes is not None:
        _in_the_end(found, told, causes, complaints)
    return Verdict(found, told, complaints)


def midway(read_database: Callable[[], Contents], ledger: Path) -> Contents:
    """Check what must hold at every moment; return what the database holds."""
    return _agreed(judge(read_database, ledger))


def finally_(read_database: Callable[[], Contents], ledger: Path, causes: Causes) -> Contents:
    """Check that all is over and as it should be, and that what was repeated was so for one of ``causes``."""
    return _agreed(judge(read_database, ledger, causes))


def whole(path: Path) -> Contents:
    """Check a copy of the database, of whatever moment, by itself; return what it holds."""
    found = database.read(path)
    complaints: Complaints = {kind: [] for kind in KINDS}
    _by_itself(found, tale_of([]), complaints)
    return _agreed(Verdict(found, tale_of([]), complaints))


def _agreed(verdict: Verdict) -> Contents:
    told = [f"{kind}: {one}" for kind, some in verdict.complaints.items() for one in some[:10]]
    assert not told, "\n".join(told)
    return verdict.found


def _so_far(found: Contents, told: Tale, complaints: Complaints) -> None:
    complaints["lost"] += _lost(found, told)
    complaints["phantom"] += _phantoms(found, told)
    complaints["unexplained starts"] += _unexplained_starts(found, told)
    complaints["order violations"] += _disorder(found, told)
    complaints["order violations"] += _late_starts(found, told)
    _by_itself(found, told, complaints)


def _by_itself(found: Contents, told: Tale, complaints: Complaints) -> None:
    complaints["lost"] += _deleted(found)
    complaints["double"] += _double(found, told)
    complaints["double"] += _illegal(found)
    complaints["stale accepted"] += _stale(found)
    complaints["stuck"] += _half_over(found)


def _in_the_end(found: Contents, told: Tale, causes: Causes, complaints: Complaints) -> None:
    complaints["stuck"] += _unfinished(found)
    complaints["stuck"] += _left_over(found)
    complaints["wrong context"] += _wrong(found)
    complaints["stale accepted"] += _stale_values(found)
    complaints["unexplained starts"] += _repeats(found, told, causes)


def _lost(found: Contents, told: Tale) -> Iterator[str]:
    stored = {row.number for row in found.executions.values()}
    for batch in told.batches:
        if batch & stored and batch - stored:
            yield f"of a batch {sorted(batch - stored)} are not there, {sorted(batch & stored)} are"
    for old, new in told.forked:
        if new not in found.executions:
            yield f"fork {new} of {old} was acknowledged and is not there"
    for number, ids in told.acked.items():
        for id in ids - found.executions.keys():
            yield f"execution {id} of ask {number} was acknowledged and is not there"
    for id in told.over:
        if id not in found.executions or not found.executions[id].over:
            yield f"execution {id} was told to be over and is not: {found.executions.get(id)}"


def _phantoms(found: Contents, told: Tale) -> Iterator[str]:
    stored = Counter(row.number for row in found.executions.values() if row.forked_from is None)
    forks = Counter(row.forked_from for row in found.executions.values())
    for row in found.executions.values():
        shape, key = told.asked.get(row.number, ("", ""))
        if row.workflow != shape or (row.forked_from is None and (row.key or "-") != key):
            yield f"{row} was never asked for"
        if forks[row.id] > told.forks[row.id]:
            yield f"{row} has {forks[row.id]} forks, and {told.forks[row.id]} were asked for"
        if stored[row.number] > 1:
            yield f"{row} is one of {stored[row.number]} executions of one ask"
    for number, ids in told.acked.items():
        if len(ids) > 1:
            yield f"ask {number} was acknowledged with {ids}"


def _double(found: Contents, told: Tale) -> Iterator[str]:
    terminal = Counter(
        move.execution for move in found.audit if move.task is None and move.after in ENDED_EXECUTIONS
    )
    completions = Counter(
        (move.execution, move.task) for move in found.audit if move.task and move.after == "completed"
    )
    for what, times in [*terminal.items(), *completions.items(), *told.over.items()]:
        if times > 1:
            yield f"{what} ended {times} times"
    for tasks in found.attempts.values():
        for rows in tasks.values():
            if any(row.over for row in rows[:-1]):
                yield f"a task went on after it had ended: {rows}"


def _half_over(found: Contents) -> Iterator[str]:
    for row in found.executions.values():
        tasks = found.attempts.get(row.id, {})
        ids = SHAPES[row.workflow].workflow.dag.ids
        over = [task for task in ids if task in tasks and tasks[task][-1].over]
        waits_for_resume = row.status == "paused" and len(over) == len(ids)
        if row.over != (len(over) == len(ids)) and not waits_for_resume:
            yield f"{row}: only {over} are over"


def _deleted(found: Contents) -> Iterator[str]:
    yield from (f"{move}: a row was deleted" for move in found.audit if move.after is None)


def _illegal(found: Contents) -> Iterator[str]:
    for move in found.audit:
        if move.execution and not move.task and move.before and move.after:
            yield from _refused(move, ExecutionStatus(move.before), ExecutionStatus(move.after))


def _refused(move: Move, before: Any, after: Any) -> Iterator[str]:
    try:
        check_move(before, after)
    except ExecutionError as error:
        yield f"{move}: {error}"


def _stale(found: Contents) -> Iterator[str]:
    """What was written of an attempt after it had ended, or after its runner had."""
    gone: set[str | None] = set()
    for move in found.audit:
        if move.execution is None:
            gone.add(move.runner)
        elif move.task is None or (move.before is None and _forked(found, move.execution)):
            continue
        elif move.runner in gone and move.after in ("running", "completed", "failed", "timed_out"):
            yield f"{move}: its runner was not alive any more"
        elif move.before and move.after:
            yield from _refused(move, AttemptState(move.before), AttemptState(move.after))


def _stale_values(found: Contents) -> Iterator[str]:
    """A value that says which attempt wrote it must be that of the attempt that completed."""
    for row in found.executions.values():
        context = msgspec.json.decode(row.result or "null")
        if not isinstance(context, dict) or "attempt" not in context:
            continue
        first = SHAPES[row.workflow].workflow.dag.ids[0]
        ended = [attempt.attempt for attempt in found.attempts[row.id][first] if attempt.state == "completed"]
        if SHAPES[row.workflow].context(row.number)["attempt"] is ... and ended != [context["attempt"]]:
            yield f"{row} has the value of attempt {context['attempt']}, and {ended} completed"


def _forked(found: Contents, execution: str) -> bool:
    return execution in found.executions and found.executions[execution].forked_from is not None


def _copied(found: Contents, row: AttemptRow) -> bool:
    """True if a fork has it from the execution that it was made of."""
    old = found.executions[row.execution].forked_from
    rows = found.attempts.get(old, {}).get(row.task, []) if old else []
    return any(one[2:] == row[2:] for one in rows)


def _unexplained_starts(found: Contents, told: Tale) -> Iterator[str]:
    times = Counter(start[:3] for start in told.starts)
    for start in told.starts:
        row = _row(found, start)
        runner = found.runners.get(row.runner or "") if row else None
        if row is None or runner is None:
            yield f"{start} has no row, or its runner has none: {row}"
        elif runner.pid != start.pid:
            yield f"{start} was started by another than {row} says"
        if times[start[:3]] > 1:
            yield f"{start} started {times[start[:3]]} times"


def _disorder(found: Contents, told: Tale) -> Iterator[str]:
    for start in told.starts:
        execution = found.executions.get(start.execution)
        row = _row(found, start)
        if execution is None or row is None:
            continue
        dag = SHAPES[execution.workflow].workflow.dag
        for needed in dag.dependencies[dag.index[start.task]]:
            rows = found.attempts[start.execution].get(dag.ids[needed], [])
            last = rows[-1] if rows else None
            if last is None or not last.over or last.finished is None:
                yield f"{start}: {dag.ids[needed]} had not ended: {rows}"
            elif row.started is None or last.finished > row.started:
                yield f"{start}: {row} is older than {last}"
            elif last.state != "completed" or _copied(found, last):
                continue
            elif told.ends.get(last[:3], start.line) >= start.line:
                yield f"{start}: the body of {last} ended later"


def _late_starts(found: Contents, told: Tale) -> Iterator[str]:
    for execution, halts in told.halts.items():
        for rows in found.attempts.get(execution, {}).values():
            for row in rows:
                if any(since < (row.started or 0) < until for since, until in halts):
                    yield f"{row} was started although it had been acknowledged that nothing starts: {halts}"


def _unfinished(found: Contents) -> Iterator[str]:
    for row in found.executions.values():
        if not row.over:
            yield f"{row}"


def _wrong(found: Contents) -> Iterator[str]:
    for row in found.executions.values():
        shape = SHAPES[row.workflow]
        if row.forked_from is not None and shape.forked is not None:
            shape = Shape(shape.workflow, shape.forked)
        if row.status != shape.status:
            yield f"{row} should be {shape.status}: {found.attempts.get(row.id)}"
        context = msgspec.json.decode(row.result or "null")
        untouched = row.status == "cancelled" and row.result is None  # cancelled before anybody had it
        if not untouched and not _same(context, shape.context(row.number)):
            yield f"{row} should have {shape.context(row.number)}"
        for task in shape.workflow.dag.ids:
            rows = found.attempts.get(row.id, {}).get(task, [])
            wanted = shape.states.get(task, "completed")
            if not rows or rows[-1].state not in wanted.split():
                yield f"{row}: {task} should be {wanted}: {rows}"


def _same(context: Any, wanted: dict[str, Any]) -> bool:
    """True if they are equal, where ``...`` equals anything."""
    if not isinstance(context, dict) or sorted(context) != sorted(wanted):
        return False
    return all(value is ... or context[key] == value for key, value in wanted.items())


def _repeats(found: Contents, told: Tale, causes: Causes) -> Iterator[str]:
    ran = {start[:3] for start in told.starts} & told.ends.keys()
    for tasks in found.attempts.values():
        for rows in tasks.values():
            yield from _numbers(rows)
            for row in rows:
                if _copied(found, row):
                    continue
                yield from _explained(found, row, causes)
                if row.state == "completed" and row[:3] not in ran:
                    yield f"{row} completed, but its body never ran to its end"


def _numbers(rows: list[AttemptRow]) -> Iterator[str]:
    numbers = [row.attempt for row in rows]
    wanted = list(range(1, len(rows) + 1))
    if numbers != wanted and not (numbers == [0] and rows[0].state in ("skipped", "failed")):
        yield f"attempts are not numbered from 1: {rows}"


def _explained(found: Contents, row: AttemptRow, causes: Causes) -> Iterator[str]:
    if row.state != "interrupted":
        return
    runner = found.runners.get(row.runner or "")
    ends = {"crash": "dead", "lost_lease": "dead", "shutdown": "stopped", "deferred": "dead stopped"}
    if runner is None or runner.state not in ends.get(row.reason or "", "").split():
        yield f"{row} was interrupted, but its runner is {runner}"
    elif row.reason == "crash" and runner.pid not in causes.killed:
        yield f"{row} is put down to a crash, but process {runner.pid} was not killed"
    elif row.reason == "lost_lease" and runner.pid not in causes.frozen:
        yield f"{row} is put down to a lost lease, but process {runner.pid} was not frozen"


def _left_over(found: Contents) -> Iterator[str]:
    for runner in found.runners.values():
        if runner.state == "alive":
            yield f"{runner} still counts as alive"
    for row in found.executions.values():
        if row.owner is not None:
            yield f"{row} still has an owner"
    yield from (f"{row} still runs" for row in found.rows if row.state in ("running", "deferred"))


def _row(found: Contents, start: Start) -> AttemptRow | None:
    rows = found.attempts.get(start.execution, {}).get(start.task, [])
    return next((row for row in rows if row.attempt == start.attempt), None)
