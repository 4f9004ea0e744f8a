"""Retention: finished executions that are old enough, found in the order of their age and removed in batches.

The ids of executions begin with the time at which they were made (UUIDv7), so those made before a moment are
the first ones in the order of ids: no index on the time of their end is needed, for which every completion
would pay. An execution ends after it was made; where a clock that ran back makes that wrong, it is removed later,
never earlier, since its end is compared too.
"""

from __future__ import annotations

from collections.abc import Sequence

from cloacina.model.status import ExecutionStatus
from cloacina.store.nouns.batches import column
from cloacina.store.rows import Expired, ExpiryLook
from cloacina.store.session import Session

# Completed executions are nearly all, so they are found by the primary key; the others have an index.
_LOOK = """
    SELECT id, CASE WHEN status = ?1 AND finished < ?2
        THEN (SELECT count(*) FROM attempts WHERE attempts.execution = seen.id) END
    FROM (SELECT id, status, finished FROM executions {index}
        WHERE id > ?3 AND id < ?4 {condition} ORDER BY id LIMIT ?5) AS seen
    ORDER BY id"""

LOOK_AT_ALL = _LOOK.format(index="", condition="")
LOOK_AT_STATUS = _LOOK.format(
    index="INDEXED BY executions_status", condition="AND status = ?1 AND status <> 'completed'"
)

# What somebody else has locked is perhaps being removed by him; if not, it is there for the next look.
ENDED = """
    SELECT id FROM executions
    WHERE id IN (SELECT value ->> 0 FROM jsonb_each(?1)) AND status IN ('completed', 'failed', 'cancelled')
    ORDER BY id /*pg FOR UPDATE SKIP LOCKED*/"""

REMOVE = (
    "DELETE FROM executions WHERE id IN (SELECT value ->> 0 FROM jsonb_each(?1))",
    *(
        f"DELETE FROM {table} WHERE execution IN (SELECT value ->> 0 FROM jsonb_each(?1))"
        for table in ("attempts", "checkpoints", "events", "commands")
    ),
)

_OVER = """
    state IN ('stopped', 'dead') AND started < ?1 AND NOT EXISTS (
        SELECT 1 FROM executions INDEXED BY executions_owner WHERE owner = runners.id AND owner IS NOT NULL)"""

ANY_RUNNER = f"SELECT EXISTS (SELECT 1 FROM runners WHERE {_OVER})"
REMOVE_RUNNERS = f"DELETE FROM runners WHERE {_OVER}"
_REMOVE_OFFERS = (
    "DELETE FROM runner_workflows WHERE runner NOT IN (SELECT id FROM runners WHERE state = 'alive')"
)


def expired(session: Session, look: ExpiryLook) -> Expired:
    """See `ReadStore.expired`."""
    text = LOOK_AT_ALL if look.status is ExecutionStatus.COMPLETED else LOOK_AT_STATUS
    seen = session.rows(text, (look.status, look.before, look.after, _least_id(look.before), look.rows))
    found = tuple((id, attempts) for id, attempts in seen if attempts is not None)
    return Expired(found, seen[-1][0] if len(seen) == look.rows else None)


def prune(session: Session, executions: Sequence[str]) -> list[str]:
    """See `WriteStore.prune`."""
    if not executions:
        return []
    with session.transaction():
        removed = [id for (id,) in session.rows(ENDED, (column(executions),))]
        ids = column(removed)
        for statement in REMOVE if removed else ():
            session.change(statement, (ids,))
    return removed


def forget_runners(session: Session, before: int) -> int:
    """See `WriteStore.forget_runners`. Begins a transaction only if there is a row to remove."""
    if not session.value(ANY_RUNNER, (before,)):
        return 0
    with session.transaction():
        removed = session.change(REMOVE_RUNNERS, (before,))
        session.change(_REMOVE_OFFERS)
        return removed


def _least_id(moment: int) -> str:
    """What sorts before every id made at ``moment``, in microseconds, or later, and after every earlier one."""
    text = f"{max(moment // 1000, 0):012x}"
    return f"{text[:8]}-{text[8:]}"
