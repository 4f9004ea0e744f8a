"""The claim: a runner takes over executions that nobody owns, within the transaction of its group."""

from __future__ import annotations

import msgspec

from cloacina.errors import StoreCorrupt
from cloacina.store.nouns import commands
from cloacina.store.nouns.batches import encode
from cloacina.store.rows import ClaimRequest, StoredExecution
from cloacina.store.sqlite import reads
from cloacina.store.sqlite.file.connection import Connection

# For each pair (workflow, version) the first rows of both indexes, then the first of them all: so the cost
# depends on the limit and on the number of pairs, never on how many executions are stored or waiting.
# The outer json_each makes a join with a list that depends on the pair, which SQL calls lateral.
CANDIDATES = """
    SELECT json_group_array(id) FROM (
        SELECT found.value ->> 1 AS id
        FROM json_each(?1) AS pair CROSS JOIN json_each((
            SELECT json_group_array(json_array(priority, id)) FROM (
                SELECT * FROM (
                    SELECT priority, id FROM executions INDEXED BY executions_claim
                    WHERE workflow = pair.value ->> 0 AND version = pair.value ->> 1
                        AND owner IS NULL AND status IN ('pending', 'running') AND wake_at IS NULL
                    ORDER BY priority DESC, id LIMIT ?2)
                UNION ALL
                SELECT * FROM (
                    SELECT priority, id FROM executions INDEXED BY executions_wake
                    WHERE workflow = pair.value ->> 0 AND version = pair.value ->> 1
                        AND owner IS NULL AND status IN ('pending', 'running', 'paused') AND wake_at IS NOT NULL
                        AND wake_at <= ?3
                    ORDER BY wake_at LIMIT ?2)))) AS found
        ORDER BY found.value ->> 0 DESC, id LIMIT ?2)"""

TAKE = """
    UPDATE executions SET owner = ?1, wake_at = NULL
    WHERE id IN (SELECT value FROM json_each(?2))"""


# An execution that nobody can read would be claimed, and bring its runner down, for ever.
_PARK = "UPDATE executions SET status = 'parked', owner = NULL WHERE id = ?1"
_TELL = "INSERT INTO events (execution, at, kind, detail) VALUES (?1, ?2, 'parked', ?3)"

_decode_ids = msgspec.json.Decoder(list[str]).decode


def candidates(connection: Connection, request: ClaimRequest) -> str:
    """The ids, as a JSON array, of what the claim would take."""
    if request.limit <= 0 or not request.versions:
        return "[]"
    ids: str = connection.value(CANDIDATES, (encode(request.versions), request.limit, request.now))
    return ids


def claim(connection: Connection, runner: str, request: ClaimRequest) -> list[StoredExecution]:
    """Give up to ``request.limit`` executions to ``runner``: highest priority first, then oldest.

    One that set itself a time to wake up is taken from that time on. Returns them with their attempts.
    """
    ids = candidates(connection, request)
    if ids == "[]":
        return []
    connection.change(TAKE, (runner, ids))
    return commands.attach(connection, _load_or_park(connection, ids, request.now))


def owned(connection: Connection, runner: str, now: int) -> list[StoredExecution]:
    """Every live execution that ``runner`` owns, with attempts."""
    return commands.attach(connection, _load_or_park(connection, reads.owned(connection, runner), now))


def _load_or_park(connection: Connection, ids: str, now: int) -> list[StoredExecution]:
    try:
        return reads.load(connection, ids, attempts=True)
    except StoreCorrupt:
        return [row for id in _decode_ids(ids) for row in _load_one_or_park(connection, id, now)]


def _load_one_or_park(connection: Connection, id: str, now: int) -> list[StoredExecution]:
    try:
        return reads.load(connection, encode([id]), attempts=True)
    except StoreCorrupt as error:
        connection.change(_PARK, (id,))
        connection.change(_TELL, (id, now, str(error)))
        return []
