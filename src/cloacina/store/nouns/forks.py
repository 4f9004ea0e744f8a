"""Forks: new executions that are stored with parts of the history of old ones."""

from __future__ import annotations

from collections.abc import Sequence

from cloacina.store.nouns import events
from cloacina.store.nouns.batches import RowKind, Unfit, batches, column, explained, write
from cloacina.store.nouns.checkpoints import CHECKPOINTS
from cloacina.store.rows import Event, Fork
from cloacina.store.session import Session

FORKS = RowKind(
    noun="forks",
    complaint="these executions, or their idempotency keys, are stored already",
    write="""
        INSERT INTO executions
            (id, workflow, version, status, input, key, priority, tags, owner, created, started, forked_from)
        SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5,
            CAST(value ->> 6 AS BIGINT), value ->> 7, value ->> 8, CAST(value ->> 9 AS BIGINT),
            CAST(value ->> 10 AS BIGINT), value ->> 11
        FROM jsonb_each(?1)""",
    unfit="""
        SELECT value ->> 0 FROM jsonb_each(?1)
        WHERE EXISTS (SELECT 1 FROM executions WHERE id = value ->> 0)
            OR EXISTS (SELECT 1 FROM executions WHERE key = value ->> 5)
        LIMIT 3""",
)

COPIES = RowKind(
    noun="copied attempts",
    complaint="these attempts are stored already",
    write="""
        INSERT INTO attempts
            (execution, task, attempt, state, runner, started, finished, retry_at, delta, error, reason, suspect)
        SELECT value ->> 0, value ->> 1, CAST(value ->> 2 AS BIGINT), value ->> 3, value ->> 4,
            CAST(value ->> 5 AS BIGINT), CAST(value ->> 6 AS BIGINT), CAST(value ->> 7 AS BIGINT),
            value ->> 8, value ->> 9, value ->> 10, CAST(value ->> 11 AS BIGINT)
        FROM jsonb_each(?1)""",
    unfit="""
        SELECT value ->> 0, value ->> 1, value ->> 2 FROM jsonb_each(?1)
        WHERE EXISTS (
            SELECT 1 FROM attempts
            WHERE execution = value ->> 0 AND task = value ->> 1 AND attempt = CAST(value ->> 2 AS BIGINT))
        LIMIT 3""",
)

# Two that fork the same execution, or send the same fork twice, come one after the other.
LOCK = """
    SELECT id FROM executions WHERE id IN (SELECT value ->> 0 FROM jsonb_each(?1))
    ORDER BY id /*pg FOR UPDATE*/"""

_STORED = "SELECT id FROM executions WHERE id IN (SELECT value ->> 0 FROM jsonb_each(?1))"

FORKS_OF = """
    SELECT forked_from, min(id) FROM executions INDEXED BY executions_forked
    WHERE forked_from IN (SELECT value ->> 0 FROM jsonb_each(?1)) AND forked_from IS NOT NULL GROUP BY forked_from"""


def insert(session: Session, forks: Sequence[Fork], once: bool) -> list[str | None]:
    """See `WriteStore.insert_forks`."""
    try:
        with session.transaction():
            session.rows(LOCK, (column(fork.forked_from for fork in forks),))
            stored = {id for (id,) in session.rows(_STORED, (column(fork.new.id for fork in forks),))}
            before = forks_of(session, [fork.forked_from for fork in forks]) if once else {}
            answers = [None if fork.new.id in stored else before.get(fork.forked_from) for fork in forks]
            chosen = [
                fork
                for fork, holder in zip(forks, answers, strict=True)
                if holder is None and fork.new.id not in stored
            ]
            _insert(session, chosen)
            return answers
    except Unfit as unfit:
        raise explained(session, unfit) from unfit


def forks_of(session: Session, executions: Sequence[str]) -> dict[str, str]:
    """See `ReadStore.forks_of`."""
    return dict(session.rows(FORKS_OF, (column(executions),)))


def _insert(session: Session, forks: Sequence[Fork]) -> None:
    new = [(*fork.new, fork.forked_from) for fork in forks]
    copies = [(fork.new.id, *row) for fork in forks for row in fork.attempts]
    checkpoints = [row for fork in forks for row in fork.checkpoints]
    for batch in (*batches(FORKS, new), *batches(COPIES, copies), *batches(CHECKPOINTS, checkpoints)):
        write(session, batch)
    told = [Event(fork.new.id, fork.new.created, "forked", f"from {fork.forked_from}") for fork in forks]
    events.tell(session, told)
