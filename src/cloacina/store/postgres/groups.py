"""The commit of a group: the fence, every kind of row, and the claim, as one statement.

One statement is one round trip and one commit. Its parts (data-modifying CTEs) see the database as it was before the
statement, not each other, so what a group writes to one row is merged before: `cloacina.store.postgres.merged`.
Every part reads from ``fence``, the row of the runner that this group advances: if there is none, nothing is
written. Where rows are changed, as many must have been found as were sent; a text that is no number is cast to one
where they differ, since nothing else lets a statement fail as a whole.

A text is made for each set of kinds that occurs together, some twenty in practice, and prepared once.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

import asyncpg

from cloacina.errors import StoreBusy, StoreRefused, StoreUnavailable
from cloacina.store.nouns import commands
from cloacina.store.nouns.runners import fenced
from cloacina.store.postgres import claims
from cloacina.store.postgres.merged import Rows, merged
from cloacina.store.postgres.server.connection import Connection
from cloacina.store.rows import Group, Item, StoredExecution


class Kind(NamedTuple):
    """One kind of row: its columns with their types, how it is written, and how one that does not fit is found.

    In both texts ``{sent}`` stands for the rows, and ``{s}`` for the schema.
    """

    columns: tuple[tuple[str, str], ...]
    write: str
    complaint: str = ""
    unfit: str = ""
    counted: bool = False
    """True if rows may be missing without an error of the server's."""


def _columns(text: str) -> tuple[tuple[str, str], ...]:
    """Columns from ``name:type, …``; those without a type are texts."""
    pairs = (part.strip().partition(":") for part in text.split(","))
    return tuple((name, kind or "text") for name, _, kind in pairs)


_THERE = "these attempts are stored already"
_ATTEMPT_THERE = """
    SELECT sent.execution || '/' || sent.task || '/' || sent.attempt FROM {sent}
    WHERE EXISTS (SELECT 1 FROM {s}.attempts AS own
        WHERE (own.execution, own.task, own.attempt) = (sent.execution, sent.task, sent.attempt)) LIMIT 3"""

KINDS: dict[str, Kind] = {
    "executions": Kind(
        _columns(
            "id, workflow, version, status, input, key, priority:bigint, tags, owner, created:bigint, started:bigint, "
            "finished:bigint, wake_at:bigint, result, error"
        ),
        write="""
        INSERT INTO {s}.executions (id, workflow, version, status, input, key, priority, tags, owner, created, started,
            finished, wake_at, result, error)
        SELECT sent.* FROM fence, {sent} RETURNING 1""",
        complaint="these executions, or their idempotency keys, are stored already",
        unfit="""
        SELECT sent.id FROM {sent} WHERE EXISTS (SELECT 1 FROM {s}.executions AS own WHERE own.id = sent.id)
            OR EXISTS (SELECT 1 FROM {s}.executions AS own WHERE own.key = sent.key AND own.key IS NOT NULL)
        LIMIT 3""",
    ),
    "shifts": Kind(
        _columns("execution, task, attempt:bigint, before, after"),
        write="""
        UPDATE {s}.attempts AS own SET state = sent.after FROM fence, {sent}
        WHERE own.execution = sent.execution AND own.task = sent.task AND own.attempt = sent.attempt
            AND own.state = sent.before RETURNING 1""",
        complaint="these attempts are not in the state that they are moved from",
        unfit="""
        SELECT sent.execution || '/' || sent.task || '/' || sent.attempt FROM {sent}
        WHERE NOT EXISTS (SELECT 1 FROM {s}.attempts AS own
            WHERE (own.execution, own.task, own.attempt) = (sent.execution, sent.task, sent.attempt)
                AND own.state = sent.before) LIMIT 3""",
        counted=True,
    ),
    "checkpoints": Kind(
        _columns("execution, task, name, value, stored:bigint"),
        write="""
        INSERT INTO {s}.checkpoints (execution, task, name, value, stored)
        SELECT sent.* FROM fence, {sent} RETURNING 1""",
        complaint="these checkpoints are stored already",
        unfit="""
        SELECT sent.execution || '/' || sent.task || '/' || sent.name FROM {sent}
        WHERE EXISTS (SELECT 1 FROM {s}.checkpoints AS own
            WHERE (own.execution, own.task, own.name) = (sent.execution, sent.task, sent.name)) LIMIT 3""",
    ),
    "ends": Kind(
        _columns(
            "execution, task, attempt:bigint, state, finished:bigint, retry_at:bigint, delta, error, reason, before"
        ),
        write="""
        UPDATE {s}.attempts AS own SET state = sent.state, finished = sent.finished, retry_at = sent.retry_at,
            delta = sent.delta, error = sent.error, reason = sent.reason
        FROM fence, {sent}
        WHERE own.execution = sent.execution AND own.task = sent.task AND own.attempt = sent.attempt
            AND own.state IN ('running', 'deferred') AND own.state = coalesce(sent.before, own.state) RETURNING 1""",
        complaint="these attempts are not under way",
        unfit="""
        SELECT sent.execution || '/' || sent.task || '/' || sent.attempt FROM {sent}
        WHERE NOT EXISTS (SELECT 1 FROM {s}.attempts AS own
            WHERE (own.execution, own.task, own.attempt) = (sent.execution, sent.task, sent.attempt)
                AND own.state IN ('running', 'deferred') AND own.state = coalesce(sent.before, own.state)) LIMIT 3""",
        counted=True,
    ),
    "starts": Kind(
        _columns("execution, task, attempt:bigint, runner, started:bigint, suspect:bigint"),
        write="""
        INSERT INTO {s}.attempts (execution, task, attempt, runner, started, suspect, state)
        SELECT sent.*, 'running' FROM fence, {sent} RETURNING 1""",
        complaint=_THERE,
        unfit=_ATTEMPT_THERE,
    ),
    "verdicts": Kind(
        _columns("execution, task, attempt:bigint, state, finished:bigint, reason, error"),
        write="""
        INSERT INTO {s}.attempts (execution, task, attempt, state, finished, reason, error)
        SELECT sent.* FROM fence, {sent} RETURNING 1""",
        complaint=_THERE,
        unfit=_ATTEMPT_THERE,
    ),
    # IS TRUE keeps the planner off the index on status, through which it would read every live execution for each row.
    "progress": Kind(
        _columns(
            "id, owner, status, next_owner, started:bigint, finished:bigint, wake_at:bigint, result, error"
        ),
        write="""
        UPDATE {s}.executions AS own SET status = sent.status,
            owner = CASE WHEN sent.status IN ('completed', 'failed', 'cancelled') THEN NULL ELSE sent.next_owner END,
            started = coalesce(own.started, sent.started), finished = sent.finished, wake_at = sent.wake_at,
            result = sent.result, error = sent.error
        FROM fence, {sent}
        WHERE own.id = sent.id AND own.owner IS NOT DISTINCT FROM sent.owner
            AND (own.status IN ('pending', 'running', 'paused', 'parked')) IS TRUE RETURNING 1""",
        complaint="these executions have ended or another owner",
        unfit="""
        SELECT sent.id FROM {sent}
        WHERE NOT EXISTS (SELECT 1 FROM {s}.executions AS own
            WHERE own.id = sent.id AND own.owner IS NOT DISTINCT FROM sent.owner
                AND own.status IN ('pending', 'running', 'paused', 'parked')) LIMIT 3""",
        counted=True,
    ),
    "events": Kind(
        _columns("execution, at:bigint, kind, detail"),
        write="""
        INSERT INTO {s}.events (execution, at, kind, detail) SELECT sent.* FROM fence, {sent} RETURNING 1""",
        complaint="these events cannot be stored",
    ),
    "obeyed": Kind(
        _columns("id"),
        write="DELETE FROM {s}.commands AS own USING fence, {sent} WHERE own.id = sent.id RETURNING 1",
        complaint="these commands cannot be removed",
    ),
}

_FENCE = """
    UPDATE {s}.runners SET group_no = $2 WHERE id = $1 AND state = 'alive' AND group_no = $2 - 1 RETURNING id"""

# The runner's next groups go on beside it; whoever declares the runner dead takes the row first, and waits or is waited
# for. That he takes it `FOR UPDATE` is what shows his change to a transaction that sees an older state of the database.
_ALIVE = "SELECT id FROM {s}.runners WHERE id = $1 AND state = 'alive' FOR KEY SHARE"

_RUNNER = "SELECT state, group_no FROM runners WHERE id = ?1"


def commit(connection: Connection, group: Group) -> list[StoredExecution]:
    """See `WriteStore.commit`."""
    rows = merged(group.items)
    given_up = sorted(item.execution for item in group.items if _gives_up_alive(item))
    try:
        if given_up:
            with connection.transaction():
                written = _write(connection, group, rows)
                if written is not None:
                    commands.settle(connection, given_up)
        else:
            written = _write(connection, group, rows)
    except StoreRefused as refused:
        raise _explained(connection, rows, refused) from refused
    return _claimed(connection, group, written) if group.claim is not None else []


def _claimed(
    connection: Connection, group: Group, written: Sequence[asyncpg.Record] | None
) -> list[StoredExecution]:
    """What the claim of a group took, which is committed: if that cannot be read now, the group is sent again."""
    assert group.claim is not None
    try:
        if written is None:
            return claims.owned(connection, group.runner, group.claim.now)
        return claims.claimed(connection, group.runner, written, group.claim)
    except StoreBusy as busy:
        raise StoreUnavailable(f"the group is stored, and what it claimed is not read: {busy}") from busy


def settling(schema: str, runner: str, item: Item) -> tuple[str, list[Any]]:
    """The statement by which a task's own transaction writes ``item``, and its parameters.

    It takes no number of a group. Its answer says how many rows the fence has: 0 if the runner is not alive.
    """
    rows = merged((item,))
    kinds = tuple(kind for kind in KINDS if rows.get(kind))
    return _statement(schema, kinds, False, _ALIVE, 2), [runner, *_arrays(rows, kinds)]


def _arrays(rows: Rows, kinds: Sequence[str]) -> list[list[Any]]:
    return [list(column) for kind in kinds for column in zip(*rows[kind], strict=True)]


def _write(connection: Connection, group: Group, rows: Rows) -> Sequence[asyncpg.Record] | None:
    """Write the group, and return the statement's answer; None if it was applied before. Raises `Fenced`."""
    kinds = tuple(kind for kind in KINDS if rows.get(kind))
    values: list[Any] = [group.runner, group.number, *_arrays(rows, kinds)]
    claim = group.claim if group.claim is not None and claims.wanted(group.claim) else None
    if claim is not None:
        values += claims.parameters(claim)
    text = _statement(connection.location.schema, kinds, claim is not None)
    try:
        written = connection.records(text, values)
    except StoreRefused as refused:
        raise StoreRefused(f"{refused} [{_column(kinds, str(refused))}]") from refused
    if written[0]["fenced"]:
        return written
    _refuse_unless_applied(connection, group)
    return None


def _refuse_unless_applied(connection: Connection, group: Group) -> None:
    """Return if the group's number was taken before, by this very group. Raises `Fenced`."""
    row = connection.row(_RUNNER, (group.runner,))
    if row == ("alive", group.number):
        return
    raise fenced(group.runner, group.number, row)


def _gives_up_alive(item: Item) -> bool:
    """True if others may own the execution after this: what was left for its owner must be settled first."""
    progress = item.progress
    return progress is not None and progress.next_owner is None and not progress.status.terminal


@cache
def _statement(
    schema: str, kinds: tuple[str, ...], claim: bool, fence: str = _FENCE, position: int = 3
) -> str:
    """The text that writes rows of these kinds; what its first parameters are, ``fence`` says."""
    parts = {"fence": fence}
    checks: list[str] = []
    for name in kinds:
        kind = KINDS[name]
        parts[name] = kind.write.replace("{sent}", _sent(kind, position))
        if kind.counted:
            checks.append(f"(SELECT count(*) FROM {name}) = cardinality(${position})")
        position += len(kind.columns)
    if claim:
        parts |= claims.parts(position)
    agree = " AND ".join(checks) or "true"
    text = f"""
        WITH {", ".join(f"{name} AS {_materialized(name)}({body})" for name, body in parts.items())}
        SELECT state.fenced, CASE WHEN state.fenced = 0 OR ({agree}) THEN 0
            ELSE CAST(state.fenced || ' rows to change were not found' AS bigint) END AS checked
            {claims.RETURNED if claim else ""}
        FROM (SELECT count(*) AS fenced FROM fence) AS state {claims.JOINED if claim else ""}"""
    return text.replace("{s}", f'"{schema}"')


def _materialized(name: str) -> str:
    return "MATERIALIZED " if name in claims.CHOICES else ""


def _sent(kind: Kind, position: int) -> str:
    arrays = ", ".join(f"${position + n}::{type}[]" for n, (_, type) in enumerate(kind.columns))
    return f"unnest({arrays}) AS sent ({', '.join(name for name, _ in kind.columns)})"


def _column(kinds: Sequence[str], said: str) -> str:
    """The column that the driver calls by the number of its parameter."""
    _, _, rest = said.partition("query argument $")
    digits = rest.partition(":")[0]
    names = [f"{kind}.{name}" for kind in kinds for name, _ in KINDS[kind].columns]
    number = int(digits) - 3 if digits.isdigit() else -1
    return names[number] if 0 <= number < len(names) else "nothing was written"


def _explained(connection: Connection, rows: Rows, refused: StoreRefused) -> StoreRefused:
    """``refused`` with the rows that caused it; to be called after the statement has failed."""
    for name, sent in rows.items():
        kind = KINDS[name]
        if not sent or not kind.unfit:
            continue
        text = kind.unfit.replace("{sent}", _sent(kind, 1)).replace("{s}", f'"{connection.location.schema}"')
        try:
            found = connection.records(text, [list(column) for column in zip(*sent, strict=True)])
        except StoreRefused:
            return refused
        named = ", ".join(record[0] for record in found)
        if not named and kind.counted and len({row[:3] for row in sent}) < len(sent):
            named = "a row that is there twice"
        if named:
            return StoreRefused(
                f"{connection.location}: {kind.complaint}: {named} ({refused}); nothing was written"
            )
    return StoreRefused(
        f"{connection.location}: a row that is there twice, or cannot be stored ({refused}); nothing was written"
    )
