"""Forks: new executions that are stored with parts of the history of old ones."""

from __future__ import annotations

from collections.abc import Sequence

from cloacina.store.rows import Fork
from cloacina.store.sqlite.batches import RowKind, Unfit, batches, encode, explained, write
from cloacina.store.sqlite.checkpoints import CHECKPOINTS
from cloacina.store.sqlite.file.connection import Connection
from cloacina.store.sqlite.groups import ATTEMPT_STARTS, NEW_EXECUTIONS

FORKS = RowKind(
    noun="forks",
    complaint=NEW_EXECUTIONS.complaint,
    write="""
        INSERT INTO executions
            (id, workflow, version, status, input, key, priority, tags, owner, created, started, forked_from)
        SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5, value ->> 6,
            value ->> 7, value ->> 8, value ->> 9, value ->> 10, value ->> 11
        FROM jsonb_each(?)""",
    unfit=NEW_EXECUTIONS.unfit,
)

COPIES = RowKind(
    noun="copied attempts",
    complaint=ATTEMPT_STARTS.complaint,
    write="""
        INSERT INTO attempts
            (execution, task, attempt, state, runner, started, finished, retry_at, delta, error, reason, suspect)
        SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5, value ->> 6,
            value ->> 7, value ->> 8, value ->> 9, value ->> 10, value ->> 11
        FROM jsonb_each(?)""",
    unfit=ATTEMPT_STARTS.unfit,
)

_STORED = "SELECT id FROM executions WHERE id IN (SELECT value FROM json_each(?))"

_TELL = """
    INSERT INTO events (execution, at, kind, detail)
    SELECT value ->> 0, value ->> 1, ?2, value ->> 2 FROM jsonb_each(?1)"""

FORKS_OF = """
    SELECT forked_from, min(id) FROM executions INDEXED BY executions_forked
    WHERE forked_from IN (SELECT value FROM json_each(?)) AND forked_from IS NOT NULL GROUP BY forked_from"""


def insert(connection: Connection, forks: Sequence[Fork], once: bool) -> list[str | None]:
    """See `WriteStore.insert_forks`."""
    try:
        with connection.transaction():
            stored = {id for (id,) in connection.rows(_STORED, (encode([fork.new.id for fork in forks]),))}
            before = forks_of(connection, [fork.forked_from for fork in forks]) if once else {}
            answers = [None if fork.new.id in stored else before.get(fork.forked_from) for fork in forks]
            chosen = [
                fork
                for fork, holder in zip(forks, answers, strict=True)
                if holder is None and fork.new.id not in stored
            ]
            _insert(connection, chosen)
            return answers
    except Unfit as unfit:
        raise explained(connection, unfit) from unfit


def forks_of(connection: Connection, executions: Sequence[str]) -> dict[str, str]:
    """See `ReadStore.forks_of`."""
    return dict(connection.rows(FORKS_OF, (encode(executions),)))


def _insert(connection: Connection, forks: Sequence[Fork]) -> None:
    new = [(*fork.new, fork.forked_from) for fork in forks]
    copies = [(fork.new.id, *row) for fork in forks for row in fork.attempts]
    checkpoints = [row for fork in forks for row in fork.checkpoints]
    for batch in (*batches(FORKS, new), *batches(COPIES, copies), *batches(CHECKPOINTS, checkpoints)):
        write(connection, batch)
    if forks:
        told = [(fork.new.id, fork.new.created, f"from {fork.forked_from}") for fork in forks]
        connection.change(_TELL, (encode(told), "forked"))
