"""The claim: a runner takes over executions that nobody owns, within the statement of its group.

Any number of runners claim at once: each locks the rows that it takes and passes over those that others have locked.
How many it may take of each workflow and version is found without locks first, so no more rows are locked than are
taken. Limits and locks stand in MATERIALIZED parts, which run once; as a sub-select they may run again for each row.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import asyncpg

from cloacina.errors import StoreCorrupt
from cloacina.store.nouns import commands
from cloacina.store.postgres import executions
from cloacina.store.postgres.server.connection import Connection
from cloacina.store.rows import ClaimRequest, StoredExecution

# In these texts @words stand for parameters and for the pair of workflow and version at hand.
_READY = """
            SELECT priority, id FROM {s}.executions
            WHERE workflow = @pair.workflow AND version = @pair.version
                AND owner IS NULL AND status IN ('pending', 'running') AND wake_at IS NULL
            ORDER BY priority DESC, id"""
_DUE = """
            SELECT priority, id FROM {s}.executions
            WHERE workflow = @pair.workflow AND version = @pair.version
                AND owner IS NULL AND status IN ('pending', 'running', 'paused') AND wake_at IS NOT NULL
                AND wake_at <= @now
            ORDER BY wake_at"""

# For each pair the first rows of both indexes, then the first of them all: so the cost depends on the limit and on
# the number of pairs, never on how many executions are stored or waiting.
_SHARES = f"""
    SELECT workflow, version, due, count(*) AS most FROM (
        SELECT pair.workflow, pair.version, found.due
        FROM @fence unnest(@workflows::text[], @versions::text[]) AS pair (workflow, version), LATERAL (
            SELECT *, false AS due FROM ({_READY} LIMIT @limit) AS ready
            UNION ALL
            SELECT *, true AS due FROM ({_DUE} LIMIT @limit) AS due) AS found
        ORDER BY found.priority DESC, found.id LIMIT @limit) AS chosen
    GROUP BY workflow, version, due""".replace("@pair", "pair")

_PICKED = f"""
    SELECT id FROM shares, LATERAL ({_READY} LIMIT shares.most FOR UPDATE SKIP LOCKED) AS ready WHERE NOT shares.due
    UNION ALL
    SELECT id FROM shares, LATERAL ({_DUE} LIMIT shares.most FOR UPDATE SKIP LOCKED) AS due
    WHERE shares.due""".replace("@pair", "shares")

_TAKEN = f"""
    UPDATE {{s}}.executions AS own SET owner = $1, wake_at = NULL FROM picked WHERE own.id = picked.id
    RETURNING {executions.columns("own")}"""

CHOICES = ("shares", "picked")
"""The parts that must run once."""

RETURNED = f", {executions.columns('taken')}"
JOINED = "LEFT JOIN taken ON true"

_CLAIMABLE = f"SELECT EXISTS ({_SHARES})"
_OWNED = """
    SELECT id FROM executions
    WHERE owner = ?1 AND status IN ('pending', 'running', 'paused', 'parked') ORDER BY id"""

# An execution that nobody can read would be claimed, and bring its runner down, for ever. The claim is committed by
# now, so by now it may be somebody else's.
_PARK = "UPDATE executions SET status = 'parked', owner = NULL WHERE id = ?1 AND owner = ?2"
_TELL = "INSERT INTO events (execution, at, kind, detail) VALUES (?1, ?2, 'parked', ?3)"


def wanted(request: ClaimRequest) -> bool:
    """True if the claim could take anything at all."""
    return request.limit > 0 and bool(request.versions)


def parameters(request: ClaimRequest) -> list[Any]:
    """The values of `parts`."""
    pairs = request.versions
    return [[name for name, _ in pairs], [version for _, version in pairs], request.limit, request.now]


def parts(position: int) -> dict[str, str]:
    """The parts that claim, to stand behind ``fence``; the first of their parameters has this number."""
    return {
        "shares": _numbered(_SHARES, "fence,", position),
        "picked": _numbered(_PICKED, "", position),
        "taken": _TAKEN,
    }


def claimable(connection: Connection, request: ClaimRequest) -> bool:
    """See `WriteStore.claimable`."""
    if not wanted(request):
        return False
    text = _numbered(_CLAIMABLE, "", 1).replace("{s}", f'"{connection.location.schema}"')
    values = parameters(ClaimRequest(request.versions, 1, request.now))
    return bool(connection.records(text, values)[0][0])


def claimed(
    connection: Connection, runner: str, found: Sequence[asyncpg.Record], request: ClaimRequest
) -> list[StoredExecution]:
    """What the statement took, highest priority first, then oldest, with attempts and commands."""
    if not wanted(request):
        return []
    rows = [tuple(record)[2:] for record in found if record["id"] is not None]
    ids = [row[0] for row in rows]
    try:
        # One that was never started may have attempts too: a fork, or one with tasks that were skipped at once.
        tried = executions.attempts_of(connection, ids)
        taken = executions.read(connection.location, [(*row, tried.get(row[0], ())) for row in rows])
    except StoreCorrupt:
        return _load_or_park(connection, runner, ids, request.now)
    taken.sort(key=lambda stored: (-stored.priority, stored.id))
    # Commands are left for owners only.
    begun = commands.attach(connection, [stored for stored in taken if stored.started is not None])
    commanded = {stored.id: stored for stored in begun}
    return [commanded.get(stored.id, stored) for stored in taken]


def owned(connection: Connection, runner: str, now: int) -> list[StoredExecution]:
    """Every live execution that ``runner`` owns, with attempts and commands."""
    ids = [id for (id,) in connection.rows(_OWNED, (runner,))]
    return _load_or_park(connection, runner, ids, now)


def _load_or_park(connection: Connection, runner: str, ids: Sequence[str], now: int) -> list[StoredExecution]:
    try:
        return commands.attach(connection, executions.load(connection, ids, attempts=True))
    except StoreCorrupt:
        return [row for id in ids for row in _load_one_or_park(connection, runner, id, now)]


def _load_one_or_park(connection: Connection, runner: str, id: str, now: int) -> list[StoredExecution]:
    try:
        return commands.attach(connection, executions.load(connection, [id], attempts=True))
    except StoreCorrupt as error:
        with connection.transaction():
            if connection.change(_PARK, (id, runner)):
                connection.change(_TELL, (id, now, str(error)))
        return []


def _numbered(text: str, fence: str, position: int) -> str:
    """``text`` with the parameters from ``position`` on for its @words."""
    words = {"workflows": position, "versions": position + 1, "limit": position + 2, "now": position + 3}
    for word, number in words.items():
        text = text.replace(f"@{word}", f"${number}")
    return text.replace("@fence", fence)
