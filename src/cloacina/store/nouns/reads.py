"""Executions as they are looked for: lists of ids, and how many there are, without their rows."""

from __future__ import annotations

from collections.abc import Sequence

from cloacina.store.nouns.batches import column, encode
from cloacina.store.rows import ExecutionFilter
from cloacina.store.session import Session

ENDED = """
    SELECT asked.value ->> 0 FROM jsonb_each(?1) AS asked LEFT JOIN executions ON executions.id = asked.value ->> 0
    WHERE executions.id IS NULL OR status = 'parked' OR status IN ('completed', 'failed', 'cancelled')"""

MISSING = """
    SELECT asked.value ->> 0 FROM jsonb_each(?1) AS asked
    WHERE NOT EXISTS (SELECT 1 FROM executions WHERE id = asked.value ->> 0)"""

_PENDING = """
    SELECT (SELECT count(*) FROM executions INDEXED BY executions_claim
            WHERE owner IS NULL AND status IN ('pending', 'running') AND wake_at IS NULL)
        + (SELECT count(*) FROM executions INDEXED BY executions_wake
            WHERE owner IS NULL AND status IN ('pending', 'running', 'paused') AND wake_at IS NOT NULL
                AND status <> 'paused')
        + (SELECT count(*) FROM executions INDEXED BY executions_status
            WHERE status <> 'completed' AND status IN ('paused', 'parked') AND owner IS NULL)"""

# One look into the index for each version that somebody could claim; others never wake anyone.
NEXT_WAKE_UP = """
    SELECT min((
        SELECT min(wake_at) FROM executions INDEXED BY executions_wake
        WHERE executions.workflow = offered.workflow AND executions.version = offered.version
            AND owner IS NULL AND status IN ('pending', 'running', 'paused') AND wake_at IS NOT NULL))
    FROM (SELECT value ->> 0 AS workflow, value ->> 1 AS version FROM jsonb_each(?1)) AS offered"""

_INSTANCE = "SELECT value FROM meta WHERE key = 'instance'"


def listed_ids(session: Session, filter: ExecutionFilter) -> list[str]:
    """The ids of what `ReadStore.executions` lists, newest first.

    One query for each status, since an index yields the rows of only one in the order of their ids.
    """
    ids: list[str] = []
    for status in set(filter.status) or (None,):
        ids += _listed_with(session, filter, status)
    return sorted(ids, reverse=True)[: filter.limit]


def ended(session: Session, ids: Sequence[str]) -> list[str]:
    """See `ReadStore.ended`."""
    return [id for (id,) in session.rows(ENDED, (column(ids),))]


def pending(session: Session) -> int:
    """See `ReadStore.pending`."""
    count: int = session.value(_PENDING)
    return count


def missing(session: Session, ids: Sequence[str]) -> list[str]:
    """See `WriteStore.missing`."""
    return [id for (id,) in session.rows(MISSING, (column(ids),))]


def instance(session: Session) -> str:
    """See `WriteStore.instance`."""
    return str(session.value(_INSTANCE))


def next_wake_up(session: Session, versions: Sequence[tuple[str, str]]) -> int | None:
    """See `ReadStore.next_wake_up`."""
    moment: int | None = session.value(NEXT_WAKE_UP, (encode(versions),))
    return moment


def _listed_with(session: Session, filter: ExecutionFilter, status: str | None) -> list[str]:
    # A tag in the list is a text to SQLite, and JSON to PostgreSQL, of which #>> makes a text.
    tagged = "EXISTS (SELECT 1 FROM jsonb_each(executions.tags) AS tag WHERE tag.value /*pg #>> '{}'*/ = %s)"
    wanted = {
        "status = %s" if status == "completed" else "status = %s AND status <> 'completed'": status,
        "workflow = %s": filter.workflow,
        tagged: filter.tag,
        "id < %s": filter.before,
    }
    given = [(condition, value) for condition, value in wanted.items() if value is not None]
    conditions = [condition % f"?{number}" for number, (condition, _) in enumerate(given, start=2)]
    text = f"SELECT id FROM executions WHERE {' AND '.join(conditions) or 'true'} ORDER BY id DESC LIMIT ?1"
    return [id for (id,) in session.rows(text, (filter.limit, *(value for _, value in given)))]
