"""Checkpoints and deferrals: what a group writes for attempts that are under way, and what later ones read."""

from __future__ import annotations

from cloacina.store.sqlite.batches import RowKind
from cloacina.store.sqlite.file.connection import Connection

CHECKPOINTS = RowKind(
    noun="checkpoints",
    complaint="these checkpoints are stored already",
    write="""
        INSERT INTO checkpoints (execution, task, name, value, stored)
        SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4 FROM jsonb_each(?)""",
    unfit="""
        SELECT sent.value ->> 0, sent.value ->> 1, sent.value ->> 2 FROM jsonb_each(?) AS sent
        WHERE EXISTS (
            SELECT 1 FROM checkpoints
            WHERE execution = sent.value ->> 0 AND task = sent.value ->> 1 AND name = sent.value ->> 2)
        LIMIT 3""",
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

_STORED = "SELECT name, value FROM checkpoints WHERE execution = ? AND task = ? ORDER BY stored, rowid"


def stored(connection: Connection, execution: str, task: str) -> dict[str, str]:
    """See `ReadStore.checkpoints`."""
    return dict(connection.rows(_STORED, (execution, task)))
