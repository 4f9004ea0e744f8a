"""The commit of a group: the fence, one statement per kind of row, and the claim, in one transaction."""

from __future__ import annotations

from collections.abc import Iterable

from cloacina.store.nouns import commands
from cloacina.store.nouns.batches import Batch, RowKind, Unfit, batches, explained, write
from cloacina.store.nouns.checkpoints import CHECKPOINTS
from cloacina.store.nouns.forks import COPIES, FORKS
from cloacina.store.nouns.runners import fenced
from cloacina.store.rows import (
    AttemptEnd,
    AttemptStart,
    Checkpoint,
    Event,
    Group,
    Item,
    NewExecution,
    Progress,
    Shift,
    StoredExecution,
    Verdict,
)
from cloacina.store.sqlite import claims
from cloacina.store.sqlite.file.connection import Connection

_FENCE = "UPDATE runners SET group_no = ?2 WHERE id = ?1 AND state = 'alive' AND group_no = ?2 - 1"

NEW_EXECUTIONS = RowKind(
    noun="new executions",
    complaint=FORKS.complaint,
    write="""
        INSERT INTO executions (id, workflow, version, status, input, key, priority, tags, owner, created, started)
        SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5, value ->> 6,
            value ->> 7, value ->> 8, value ->> 9, value ->> 10
        FROM jsonb_each(?)""",
    unfit=FORKS.unfit,
)

ATTEMPT_STARTS = RowKind(
    noun="attempt starts",
    complaint=COPIES.complaint,
    write="""
        INSERT INTO attempts (execution, task, attempt, runner, started, suspect, state)
        SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5, 'running'
        FROM jsonb_each(?)""",
    unfit=COPIES.unfit,
)

ATTEMPT_ENDS = RowKind(
    noun="attempt ends",
    complaint="these attempts are not under way",
    write="""
        UPDATE attempts
        SET state = sent.state, finished = sent.finished, retry_at = sent.retry_at, delta = sent.delta,
            error = sent.error, reason = sent.reason
        FROM (
            SELECT value ->> 0 AS execution, value ->> 1 AS task, value ->> 2 AS attempt, value ->> 3 AS state,
                value ->> 4 AS finished, value ->> 5 AS retry_at, value ->> 6 AS delta, value ->> 7 AS error,
                value ->> 8 AS reason
            FROM jsonb_each(?)) AS sent
        WHERE attempts.execution = sent.execution AND attempts.task = sent.task
            AND attempts.attempt = sent.attempt AND attempts.state IN ('running', 'deferred')""",
    unfit="""
        SELECT value ->> 0, value ->> 1, value ->> 2 FROM jsonb_each(?)
        WHERE NOT EXISTS (
            SELECT 1 FROM attempts
            WHERE execution = value ->> 0 AND task = value ->> 1 AND attempt = value ->> 2
                AND state IN ('running', 'deferred'))
        LIMIT 3""",
)

VERDICTS = RowKind(
    noun="verdicts",
    complaint=COPIES.complaint,
    write="""
        INSERT INTO attempts (execution, task, attempt, state, finished, reason, error)
        SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5, value ->> 6
        FROM jsonb_each(?)""",
    unfit=COPIES.unfit,
)

SHIFTS = RowKind(
    noun="shifts of attempts",
    complaint="these attempts are not in the state that they are moved from",
    write="""
        UPDATE attempts
        SET state = sent.after
        FROM (
            SELECT value ->> 0 AS execution, value ->> 1 AS task, value ->> 2 AS attempt, value ->> 3 AS before,
                value ->> 4 AS after
            FROM jsonb_each(?)) AS sent
        WHERE attempts.execution = sent.execution AND attempts.task = sent.task
            AND attempts.attempt = sent.attempt AND attempts.state = sent.before""",
    unfit="""
        SELECT value ->> 0, value ->> 1, value ->> 2 FROM jsonb_each(?)
        WHERE NOT EXISTS (
            SELECT 1 FROM attempts
            WHERE execution = value ->> 0 AND task = value ->> 1 AND attempt = value ->> 2
                AND state = value ->> 3)
        LIMIT 3""",
)

# IS instead of = keeps a planner with stale statistics off the index on owner, through which it would read
# every owned execution for each row.
PROGRESS = RowKind(
    noun="executions",
    complaint="these executions have ended or another owner",
    write="""
        UPDATE executions
        SET status = sent.status,
            owner = CASE WHEN sent.status IN ('completed', 'failed', 'cancelled') THEN NULL ELSE sent.next_owner END,
            started = coalesce(executions.started, sent.started), finished = sent.finished,
            wake_at = sent.wake_at, result = sent.result, error = sent.error
        FROM (
            SELECT value ->> 0 AS id, value ->> 1 AS owner, value ->> 2 AS status, value ->> 3 AS next_owner,
                value ->> 4 AS started, value ->> 5 AS finished, value ->> 6 AS wake_at,
                value ->> 7 AS result, value ->> 8 AS error
            FROM jsonb_each(?)) AS sent
        WHERE executions.id = sent.id AND executions.owner IS sent.owner
            AND executions.status IN ('pending', 'running', 'paused', 'parked')""",
    unfit="""
        SELECT value ->> 0 FROM jsonb_each(?)
        WHERE NOT EXISTS (
            SELECT 1 FROM executions
            WHERE id = value ->> 0 AND owner IS value ->> 1
                AND status IN ('pending', 'running', 'paused', 'parked'))
        LIMIT 3""",
)

EVENTS = RowKind(
    noun="events",
    complaint="these events cannot be stored",
    write="""
        INSERT INTO events (execution, at, kind, detail)
        SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3 FROM jsonb_each(?)""",
    unfit="SELECT value ->> 0, value ->> 2 FROM jsonb_each(?) LIMIT 3",
)


def commit(connection: Connection, group: Group) -> list[StoredExecution]:
    """See `WriteStore.commit`."""
    prepared = _prepare(group.items)
    try:
        with connection.transaction():
            if not _advance(connection, group):
                return claims.owned(connection, group.runner, group.claim.now) if group.claim else []
            for batch in prepared:
                write(connection, batch)
            obeyed = [command for item in group.items for command in item.obeyed]
            if obeyed:
                commands.obeyed(connection, obeyed)
            commands.settle(connection, [item.execution for item in group.items if _gives_up(item)])
            return claims.claim(connection, group.runner, group.claim) if group.claim else []
    except Unfit as unfit:
        raise explained(connection, unfit) from unfit


def _advance(connection: Connection, group: Group) -> bool:
    """Take the group's number; False if it was taken before, by this very group. Raises `Fenced`."""
    if connection.change(_FENCE, (group.runner, group.number)):
        return True
    row = connection.row("SELECT state, group_no FROM runners WHERE id = ?", (group.runner,))
    if row == ("alive", group.number):
        return False
    raise fenced(group.runner, group.number, row)


def _gives_up(item: Item) -> bool:
    return item.progress is not None and item.progress.next_owner is None


def _prepare(items: Iterable[Item]) -> list[Batch]:
    """What ``items`` write, as batches in the order in which they are to be written."""
    new: list[NewExecution] = []
    starts: list[AttemptStart] = []
    ends: list[AttemptEnd] = []
    verdicts: list[Verdict] = []
    progress: list[Progress] = []
    events: list[Event] = []
    shifts: list[Shift] = []
    checkpoints: list[Checkpoint] = []
    for item in items:
        if item.new is not None:
            new.append(item.new)
        if item.progress is not None:
            progress.append(item.progress)
        starts += item.starts
        ends += item.ends
        verdicts += item.verdicts
        events += item.events
        shifts += item.shifts
        checkpoints += item.checkpoints
    return [
        *batches(NEW_EXECUTIONS, new),
        *batches(SHIFTS, shifts),
        *batches(CHECKPOINTS, checkpoints),
        *batches(ATTEMPT_ENDS, ends),
        *batches(ATTEMPT_STARTS, starts),
        *batches(VERDICTS, verdicts),
        *batches(PROGRESS, progress),
        *batches(EVENTS, events),
    ]
