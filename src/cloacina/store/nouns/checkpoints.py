"""Checkpoints: named values of attempts, which later attempts and forks read."""

from __future__ import annotations

from cloacina.store.nouns.batches import RowKind
from cloacina.store.session import Session

CHECKPOINTS = RowKind(
    noun="checkpoints",
    complaint="these checkpoints are stored already",
    write="""
        INSERT INTO checkpoints (execution, task, name, value, stored)
        SELECT sent.value ->> 0, sent.value ->> 1, sent.value ->> 2, sent.value ->> 3,
            CAST(sent.value ->> 4 AS BIGINT)
        FROM jsonb_each(?1) AS sent""",
    unfit="""
        SELECT sent.value ->> 0, sent.value ->> 1, sent.value ->> 2 FROM jsonb_each(?1) AS sent
        WHERE EXISTS (
            SELECT 1 FROM checkpoints
            WHERE execution = sent.value ->> 0 AND task = sent.value ->> 1 AND name = sent.value ->> 2)
        LIMIT 3""",
)

_STORED = "SELECT name, value FROM checkpoints WHERE execution = ?1 AND task = ?2 ORDER BY stored, name"


def stored(session: Session, execution: str, task: str) -> dict[str, str]:
    """See `ReadStore.checkpoints`."""
    return dict(session.rows(_STORED, (execution, task)))
