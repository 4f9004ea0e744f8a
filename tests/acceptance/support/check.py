"""The checker: compares what the database says with what the ledger says, and both with the promises.

`midway` may be asked at any moment, also between a crash and the restart. `finally_` is for the end, when
every execution should be over and every runner gone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from acceptance.support import database
from acceptance.support.database import AttemptRow, Contents
from acceptance.support.ledger import Entry, read
from acceptance.support.shapes import SHAPES
from cloacina.model.status import AttemptState, ExecutionStatus, check_move

ENDED_EXECUTIONS = frozenset({"completed", "failed", "cancelled"})


class Causes(NamedTuple):
    """The processes, by pid, whose bodies may have been repeated: killed ones, and ones that lost their lease."""

    killed: Collection[int] = ()
    frozen: Collection[int] = ()


class Start(NamedTuple):
    """A body's start or end, from the ledger."""

    execution: str
    task: str
    attempt: int
    pid: int
    line: int


class Ledgers(NamedTuple):
    """The ledger, sorted by what its lines say."""

    asked: dict[int, tuple[str, str]]
    acked: dict[int, set[str]]
    starts: list[Start]
    ends: dict[tuple[str, str, int], int]
    over: Counter[str]


def midway(read_database: Callable[[], Contents], ledger: Path) -> Contents:
    """Check what must hold at every moment; return what the database holds."""
    told = _sorted(read(ledger))
    # The ledger first: whatever it says must be in the database by now.
    found = read_database()
    _check(_lost(found, told), "lost")
    _check(_phantoms(found, told), "phantoms")
    _check(_double(found, told), "double")
    _check(_illegal(found), "illegal moves")
    _check(_half_over(found), "over, but not all of it")
    _check(_unexplained_starts(found, told), "bodies that started without a committed start")
    _check(_disorder(found, told), "bodies that started before their dependencies had ended")
    return found


def finally_(read_database: Callable[[], Contents], ledger: Path, causes: Causes) -> Contents:
    """Check that all is over and as it should be, and that what was repeated was so for one of ``causes``."""
    found = midway(read_database, ledger)
    told = _sorted(read(ledger))
    _check(_unfinished(found), "unfinished")
    _check(_wrong(found), "wrong results")
    _check(_repeats(found, told, causes), "unexplained repeats")
    _check(_left_over(found), "left over")
    return found


def whole(path: Path) -> Contents:
    """Check a copy of the database, of whatever moment, by itself; return what it holds."""
    found = database.read(path)
    told = _sorted([])
    _check(_double(found, told), "double")
    _check(_illegal(found), "illegal moves")
    _check(_half_over(found), "over, but not all of it")
    return found


def _check(complaints: Iterator[str], what: str) -> None:
    found = [complaint for _, complaint in zip(range(10), complaints, strict=False)]
    assert not found, f"{what}:\n  " + "\n  ".join(found)


def _lost(found: Contents, told: Ledgers) -> Iterator[str]:
    for number, ids in told.acked.items():
        for id in ids - found.executions.keys():
            yield f"execution {id} of ask {number} was acknowledged and is not there"
    for id in told.over:
        if id not in found.executions or not found.executions[id].over:
            yield f"execution {id} was told to be over and is not: {found.executions.get(id)}"


def _phantoms(found: Contents, told: Ledgers) -> Iterator[str]:
    stored = Counter(row.number for row in found.executions.values())
    for row in found.executions.values():
        shape, key = told.asked.get(row.number, ("", ""))
        if (row.workflow, row.key or "-") != (shape, key):
            yield f"{row} was never asked for"
        if stored[row.number] > 1:
            yield f"{row} is one of {stored[row.number]} executions of one ask"
    for number, ids in told.acked.items():
        if len(ids) > 1:
            yield f"ask {number} was acknowledged with {ids}"


def _double(found: Contents, told: Ledgers) -> Iterator[str]:
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
        if row.over != (len(over) == len(ids)):
            yield f"{row}: only {over} are over"


def _illegal(found: Contents) -> Iterator[str]:
    for move in found.audit:
        try:
            if move.after is None:
                yield f"{move}: a row was deleted"
            elif move.before is None:
                continue
            elif move.task is None:
                check_move(ExecutionStatus(move.before), ExecutionStatus(move.after))
            else:
                check_move(AttemptState(move.before), AttemptState(move.after))
        except Exception as error:
            yield f"{move}: {error}"


def _unexplained_starts(found: Contents, told: Ledgers) -> Iterator[str]:
    times = Counter(start[:3] for start in told.starts)
    for start in told.starts:
        row = _row(found, start)
        if row is None:
            yield f"{start} has no row"
        elif found.pid(row) != start.pid:
            yield f"{start} was started by another than {row} says"
        if times[start[:3]] > 1:
            yield f"{start} started {times[start[:3]]} times"


def _disorder(found: Contents, told: Ledgers) -> Iterator[str]:
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
            elif last.state == "completed" and told.ends.get(last[:3], start.line) >= start.line:
                yield f"{start}: the body of {last} ended later"


def _unfinished(found: Contents) -> Iterator[str]:
    for row in found.executions.values():
        if not row.over:
            yield f"{row}"


def _wrong(found: Contents) -> Iterator[str]:
    for row in found.executions.values():
        shape = SHAPES[row.workflow]
        if row.status != shape.status:
            yield f"{row} should be {shape.status}: {found.attempts.get(row.id)}"
        context = msgspec.json.decode(row.result or "null")
        if not _same(context, shape.context(row.number)):
            yield f"{row} should have {shape.context(row.number)}"
        for task in shape.workflow.dag.ids:
            rows = found.attempts[row.id].get(task, [])
            wanted = shape.states.get(task, "completed")
            if not rows or rows[-1].state != wanted:
                yield f"{row}: {task} should be {wanted}: {rows}"


def _same(context: Any, wanted: dict[str, Any]) -> bool:
    """True if they are equal, where ``...`` equals anything."""
    if not isinstance(context, dict) or sorted(context) != sorted(wanted):
        return False
    return all(value is ... or context[key] == value for key, value in wanted.items())


def _repeats(found: Contents, told: Ledgers, causes: Causes) -> Iterator[str]:
    ran = {start[:3] for start in told.starts} & told.ends.keys()
    for tasks in found.attempts.values():
        for rows in tasks.values():
            yield from _numbers(rows)
            for row in rows:
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


def _sorted(entries: list[Entry]) -> Ledgers:
    told = Ledgers({}, {}, [], {}, Counter())
    for line, (kind, words) in enumerate(entries):
        if kind == "ask":
            told.asked[int(words[0])] = (words[1], words[2])
        elif kind == "ack":
            told.acked.setdefault(int(words[0]), set()).add(words[1])
        elif kind == "start":
            told.starts.append(Start(words[0], words[1], int(words[2]), int(words[3]), line))
        elif kind == "end":
            told.ends[words[0], words[1], int(words[2])] = line
        elif kind == "over":
            told.over[words[0]] += 1
    return told
