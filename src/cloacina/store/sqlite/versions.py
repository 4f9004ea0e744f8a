"""Versions: which are known, who offers them, and executions whose version nobody has any more."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from cloacina.model.status import ExecutionStatus
from cloacina.store.rows import InFlight, Rewrite
from cloacina.store.sqlite.batches import encode
from cloacina.store.sqlite.file.connection import Connection

_KNOWN = """
    INSERT INTO workflow_versions (workflow, version, dag, registered)
    SELECT value ->> 0, value ->> 1, value ->> 2, ?2 FROM jsonb_each(?1) WHERE true
    ON CONFLICT DO NOTHING"""

_OFFER = """
    INSERT INTO runner_workflows (workflow, version, runner)
    SELECT value ->> 0, value ->> 1, ?2 FROM jsonb_each(?1) WHERE true
    ON CONFLICT DO NOTHING"""

# Those that were parked because nobody had their version can go on.
_FREE = """
    UPDATE executions
    SET status = CASE WHEN started IS NULL THEN 'pending' ELSE 'running' END, parked_for = NULL, error = NULL
    WHERE id IN (
        SELECT executions.id FROM json_each(?1) AS offered CROSS JOIN executions INDEXED BY executions_aside
            ON workflow = offered.value ->> 0 AND version = offered.value ->> 1
        WHERE owner IS NULL AND status IN ('paused', 'parked') AND status = 'parked' AND parked_for = 'version')
    RETURNING id"""

_TELL = """
    INSERT INTO events (execution, at, kind, detail)
    SELECT value ->> 0, ?2, ?3, value ->> 1 FROM json_each(?1)"""

_WORKFLOWS = "SELECT DISTINCT workflow FROM workflow_versions ORDER BY workflow"

_VERSIONS = "SELECT version FROM workflow_versions WHERE workflow = ? ORDER BY registered, rowid"

_DAG = """
    SELECT version, dag FROM workflow_versions AS known
    WHERE workflow = ?1 AND version = coalesce(?2, version)
    ORDER BY EXISTS (SELECT 1 FROM runner_workflows JOIN runners ON runners.id = runner AND runners.state = 'alive'
        WHERE workflow = ?1 AND version = known.version) DESC, registered DESC, rowid DESC LIMIT 1"""

_OFFERED = """
    SELECT runner FROM runner_workflows JOIN runners ON runners.id = runner AND runners.state = 'alive'
    WHERE workflow = ? AND version = ? ORDER BY runner"""

_NOBODY_OFFERS = """NOT EXISTS (
            SELECT 1 FROM runner_workflows AS offer JOIN runners ON runners.id = offer.runner
            WHERE runners.state = 'alive' AND offer.workflow = {workflow} AND offer.version = {version})"""

# The conditions of the three indexes that have every live execution without owner between them.
_PLACES = {
    "claim": "owner IS NULL AND status IN ('pending', 'running') AND wake_at IS NULL",
    "wake": "owner IS NULL AND status IN ('pending', 'running', 'paused') AND wake_at IS NOT NULL",
    "aside": "owner IS NULL AND status IN ('paused', 'parked')",
}

# Steps from one version in an index to the next: as many looks into it as there are versions with such work,
# however many executions there are, and however many versions there ever were.
_STEPS = """
    {place}_versions (workflow, mine, version) AS (
        SELECT workflow, version, (SELECT min(version) FROM executions INDEXED BY executions_{place}
            WHERE executions.workflow = own.workflow AND {condition})
        FROM own
        UNION ALL
        SELECT at.workflow, at.mine, (SELECT min(version) FROM executions INDEXED BY executions_{place}
            WHERE executions.workflow = at.workflow AND executions.version > at.version AND {condition})
        FROM {place}_versions AS at WHERE at.version IS NOT NULL)"""

STRANDED_VERSIONS = f"""
    WITH RECURSIVE own (workflow, version) AS (SELECT value ->> 0, value ->> 1 FROM json_each(?)),
    {",".join(_STEPS.format(place=place, condition=condition) for place, condition in _PLACES.items())}
    SELECT DISTINCT found.workflow, found.version
    FROM ({" UNION ALL ".join(f"SELECT * FROM {place}_versions" for place in _PLACES)}) AS found
    WHERE found.version <> found.mine
        AND {_NOBODY_OFFERS.format(workflow="found.workflow", version="found.version")}
    ORDER BY found.workflow, found.version"""

STRANDED = f"""
    SELECT json_group_array(id) FROM (
        SELECT * FROM (
            SELECT id FROM executions INDEXED BY executions_claim
            WHERE workflow = ?1 AND version = ?2 AND {_PLACES["claim"]} LIMIT ?4)
        UNION ALL SELECT * FROM (
            SELECT id FROM executions INDEXED BY executions_wake
            WHERE workflow = ?1 AND version = ?2 AND {_PLACES["wake"]} AND status <> 'paused' LIMIT ?4)
        UNION ALL SELECT * FROM (
            SELECT id FROM executions INDEXED BY executions_aside
            WHERE workflow = ?1 AND version = ?2 AND {_PLACES["aside"]}
                AND (status = 'paused' OR parked_for = 'version') AND id NOT IN (SELECT value FROM json_each(?3))
            LIMIT ?4)
        LIMIT ?4)"""

LIVE = """
    SELECT id FROM executions INDEXED BY executions_status
    WHERE status = ?1 AND status <> 'completed' AND id > ?2 ORDER BY id LIMIT ?3"""

# A bare column beside max() comes from the row with the maximum (SQLite, "Bare columns in an aggregate query").
IN_FLIGHT = """
    SELECT json_group_array(json_array(id, workflow, version, status,
        (SELECT count(*) FROM attempts AS own WHERE own.execution = executions.id),
        json((SELECT json_group_array(json_array(task, state, retry_at)) FROM (
            SELECT task, max(attempt), state, retry_at FROM attempts AS own
            WHERE own.execution = executions.id GROUP BY task)))))
    FROM (SELECT value AS chosen FROM json_each(?)) CROSS JOIN executions ON executions.id = chosen"""

# Attempts are never removed from a live execution: as many as before means that no other task was touched.
_UNCHANGED = f"""executions.id = sent.id AND executions.version = sent.before AND executions.owner IS NULL
        AND (SELECT count(*) FROM attempts WHERE execution = sent.id) = sent.rows
        AND EXISTS (SELECT 1 FROM runners WHERE id = ?2 AND state = 'alive')
        AND {_NOBODY_OFFERS.format(workflow="executions.workflow", version="sent.before")}"""

_SENT = """
    FROM (
        SELECT value ->> 0 AS id, value ->> 1 AS before, value ->> 2 AS rows, value ->> 3 AS version, value ->> 4 AS why
        FROM jsonb_each(?1)) AS sent"""

ADOPT = f"""
    UPDATE executions
    SET version = sent.version, parked_for = NULL,
        wake_at = CASE WHEN status = 'paused' THEN wake_at END,
        error = CASE WHEN status <> 'parked' THEN error END,
        status = CASE WHEN status <> 'parked' THEN status WHEN started IS NULL THEN 'pending' ELSE 'running' END
    {_SENT}
    WHERE {_UNCHANGED} AND status IN ('pending', 'running', 'paused', 'parked')
        AND (status <> 'parked' OR parked_for = 'version')
    RETURNING id"""

PARK = f"""
    UPDATE executions
    SET status = 'parked', parked_for = 'version', error = sent.why
    {_SENT}
    WHERE {_UNCHANGED} AND status IN ('pending', 'running')
    RETURNING id"""

FORGET = """
    DELETE FROM checkpoints WHERE (execution, task) IN (SELECT value ->> 0, value ->> 1 FROM json_each(?))"""

_decode = msgspec.json.Decoder(list[InFlight]).decode


def offer(connection: Connection, runner: str, versions: Sequence[tuple[str, str, str]], now: int) -> None:
    """See `WriteStore.register_versions`."""
    text = encode(versions)
    with connection.transaction():
        connection.change(_KNOWN, (text, now))
        connection.change(_OFFER, (text, runner))
        freed = connection.rows(_FREE, (text,))
        _tell(connection, [(id, f"runner {runner} has its version") for (id,) in freed], now, "freed")


def versions(connection: Connection, workflow: str) -> list[str]:
    """See `ReadStore.versions`."""
    return [row[0] for row in connection.rows(_VERSIONS, (workflow,))]


def workflows(connection: Connection) -> list[str]:
    """See `ReadStore.workflows`."""
    return [row[0] for row in connection.rows(_WORKFLOWS)]


def dag(connection: Connection, workflow: str, version: str | None) -> tuple[str, str] | None:
    """See `ReadStore.dag`."""
    row = connection.row(_DAG, (workflow, version))
    return None if row is None else (row[0], row[1])


def offered(connection: Connection, workflow: str, version: str) -> list[str]:
    """See `ReadStore.offered`."""
    return [row[0] for row in connection.rows(_OFFERED, (workflow, version))]


def stranded(
    connection: Connection, versions: Sequence[tuple[str, str]], known: Sequence[str], limit: int
) -> list[InFlight]:
    """See `ReadStore.stranded`."""
    found: list[InFlight] = []
    with connection.snapshot():
        for workflow, version in connection.rows(STRANDED_VERSIONS, (encode(versions),)):
            ids = connection.value(STRANDED, (workflow, version, encode(known), limit - len(found)))
            found += _decode(connection.value(IN_FLIGHT, (ids,)))
            if len(found) >= limit:
                break
    return found


def in_flight(connection: Connection, after: str, limit: int) -> list[InFlight]:
    """See `ReadStore.in_flight`."""
    live = [status for status in ExecutionStatus if not status.terminal]
    with connection.snapshot():
        ids = [id for status in live for (id,) in connection.rows(LIVE, (status, after, limit))]
        return _decode(connection.value(IN_FLIGHT, (encode(sorted(ids)[:limit]),)))


def rewrite(connection: Connection, runner: str, rewrites: Sequence[Rewrite], now: int) -> list[str]:
    """See `WriteStore.rewrite`."""
    adopted = encode([row for row in rewrites if row.version is not None])
    parked = encode([row for row in rewrites if row.version is None])
    why = {row.execution: row.why for row in rewrites}
    with connection.transaction():
        taken = [id for (id,) in connection.rows(ADOPT, (adopted, runner))]
        aside = [id for (id,) in connection.rows(PARK, (parked, runner))]
        _tell(connection, [(id, why[id]) for id in taken], now, "adopted")
        _tell(connection, [(id, why[id]) for id in aside], now, "parked")
        stale = [
            (row.execution, task) for row in rewrites if row.execution in set(taken) for task in row.stale
        ]
        if stale:
            connection.change(FORGET, (encode(stale),))
    return taken + aside


def _tell(connection: Connection, told: Sequence[tuple[str, str]], now: int, kind: str) -> None:
    if told:
        connection.change(_TELL, (encode(told), now, kind))
