"""Runners: their rows, and what becomes of their work when they are gone."""

from __future__ import annotations

from cloacina.errors import Fenced
from cloacina.model.status import Reason, RunnerState
from cloacina.store.nouns import commands, events
from cloacina.store.nouns.batches import column
from cloacina.store.rows import Event, RunnerRow
from cloacina.store.session import Session

# Sent again after an outcome that nobody knows, it finds its row there.
_REGISTER = """
    INSERT INTO runners (id, host, pid, started, state, group_no) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
    ON CONFLICT DO NOTHING"""

# Its owner holds the row while it writes, so it is alive; and another may be recovering it. Neither is waited for.
_LOCK = "SELECT state FROM runners WHERE id = ?1 /*pg FOR UPDATE NOWAIT*/"

_END = "UPDATE runners SET state = ?2 WHERE id = ?1 AND state = 'alive'"

_VOID = "UPDATE runners SET group_no = ?2 + 1 WHERE id = ?1 AND state = 'alive' AND group_no = ?2 - 1"

_GROUP = "SELECT state, group_no FROM runners WHERE id = ?1"

_WITHDRAW = "DELETE FROM runner_workflows WHERE runner = ?1"

OWNED = """
    SELECT id FROM executions INDEXED BY executions_owner
    WHERE owner = ?1 AND status IN ('pending', 'running', 'paused', 'parked')
    ORDER BY id /*pg FOR UPDATE*/"""

INTERRUPT = """
    UPDATE attempts
    SET state = 'interrupted', finished = ?3,
        reason = CASE WHEN state = 'deferred' THEN 'deferred' ELSE CAST(?2 AS TEXT) END
    WHERE runner = ?1 AND state IN ('running', 'deferred')
        AND execution IN (SELECT value ->> 0 FROM jsonb_each(?4))"""

# The clock of a paused one may run on, as after `commands.PAUSE`: the next runner that looks at it will know.
FREE = """
    UPDATE executions
    SET owner = NULL,
        wake_at = CASE WHEN status = 'paused' AND started IS NOT NULL THEN coalesce(wake_at, CAST(?2 AS BIGINT))
            ELSE wake_at END
    WHERE id IN (SELECT value ->> 0 FROM jsonb_each(?1))"""

ORPHANS = """
    SELECT DISTINCT owner FROM executions INDEXED BY executions_owner
    WHERE owner IS NOT NULL AND (status IN ('pending', 'running', 'paused', 'parked')) IS TRUE
        AND owner NOT IN (SELECT id FROM runners WHERE state = 'alive')
    ORDER BY owner"""

_ALIVE = "SELECT id, host, pid, started, state, group_no FROM runners WHERE state = 'alive' ORDER BY id"


def register(session: Session, row: RunnerRow) -> None:
    """See `WriteStore.register_runner`."""
    with session.transaction():
        session.change(_REGISTER, row)


def void(session: Session, runner: str, number: int) -> bool:
    """See `WriteStore.void`."""
    with session.transaction():
        session.change(_VOID, (runner, number))
        row = session.row(_GROUP, (runner,))
    if row in (("alive", number), ("alive", number + 1)):
        return row[1] > number
    raise fenced(runner, number, row)


def fenced(runner: str, number: int, row: tuple[object, ...] | None) -> Fenced:
    """Why a group is refused, from the ``(state, group_no)`` that its runner has, or None if it has no row."""
    now = "is not registered" if row is None else f"is {row[0]}, its last group was {row[1]}"
    return Fenced(f"runner {runner} {now}: its group {number} is refused; start a new runner")


def recover(session: Session, runner: str, reason: Reason, now: int) -> int:
    """See `WriteStore.recover`."""
    with session.transaction():
        return free(session, runner, reason, now)


def free_orphans(session: Session, now: int) -> int:
    """See `WriteStore.free_orphans`. Begins a transaction only if there is something to free."""
    if not orphans(session):
        return 0
    with session.transaction():
        return sum(free(session, owner, Reason.CRASH, now) for owner in orphans(session))


def alive(session: Session) -> list[RunnerRow]:
    """See `ReadStore.runners`."""
    return [RunnerRow(*row) for row in session.rows(_ALIVE)]


def orphans(session: Session) -> list[str]:
    """The ids of runners that own something and are not alive."""
    return [owner for (owner,) in session.rows(ORPHANS)]


def free(session: Session, runner: str, reason: Reason, now: int, *, has_commands: bool = True) -> int:
    """End ``runner`` and free what it owns, within the current transaction; return how many executions.

    ``has_commands`` is False for a database of an older schema, which has no such table.
    """
    stopped = reason is Reason.SHUTDOWN
    session.rows(_LOCK, (runner,))
    session.change(_END, (runner, RunnerState.STOPPED if stopped else RunnerState.DEAD))
    session.change(_WITHDRAW, (runner,))
    owned = [id for (id,) in session.rows(OWNED, (runner,))]
    if not owned:
        return 0
    ids = column(owned)
    session.change(INTERRUPT, (runner, reason, now, ids))
    kind = "released" if stopped else "recovered"
    events.tell(session, [Event(id, now, kind, f"runner {runner}: {reason}") for id in owned])
    session.change(FREE, (ids, now))
    if has_commands:
        commands.settle(session, owned)
    return len(owned)
