"""Versions: which are known, who offers them, and executions whose version nobody has any more."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from cloacina.model.status import ExecutionStatus
from cloacina.store.nouns import events
from cloacina.store.nouns.batches import column, encode
from cloacina.store.rows import Event, InFlight, Rewrite
from cloacina.store.session import Session

# Who offers a version and who parks its executions since nobody does, come one after the other.
_LOCK = "SELECT value FROM meta WHERE key = 'instance' /*pg FOR UPDATE*/"

_KNOWN = """
    INSERT INTO workflow_versions (workflow, version, dag, registered)
    SELECT value ->> 0, value ->> 1, value ->> 2, CAST(?2 AS BIGINT) FROM jsonb_each(?1) WHERE true
    ON CONFLICT DO NOTHING"""

_OFFER = """
    INSERT INTO runner_workflows (workflow, version, runner)
    SELECT value ->> 0, value ->> 1, CAST(?2 AS TEXT) FROM jsonb_each(?1) WHERE true
    ON CONFLICT DO NOTHING"""

# Those that were parked because nobody had their version can go on.
PARKED = """
    SELECT executions.id FROM jsonb_each(?1) AS offered CROSS JOIN executions INDEXED BY executions_aside
    WHERE workflow = offered.value ->> 0 AND version = offered.value ->> 1
        AND owner IS NULL AND status IN ('paused', 'parked') AND status = 'parked' AND parked_for = 'version'
    ORDER BY executions.id /*pg FOR UPDATE OF executions*/"""

FREE = """
    UPDATE executions
    SET status = CASE WHEN started IS NULL THEN 'pending' ELSE 'running' END, parked_for = NULL, error = NULL
    WHERE id IN (SELECT value ->> 0 FROM jsonb_each(?1))"""

_WORKFLOWS = "SELECT DISTINCT workflow FROM workflow_versions ORDER BY workflow"

_VERSIONS = "SELECT version FROM workflow_versions WHERE workflow = ?1 ORDER BY registered, version"

_DAG = """
    SELECT version, dag FROM workflow_versions AS known
    WHERE workflow = ?1 AND version = coalesce(CAST(?2 AS TEXT), version)
    ORDER BY EXISTS (SELECT 1 FROM runner_workflows JOIN runners ON runners.id = runner AND runners.state = 'alive'
        WHERE workflow = ?1 AND version = known.version) DESC, registered DESC, version DESC LIMIT 1"""

_OFFERED = """
    SELECT runner FROM runner_workflows JOIN runners ON runners.id = runner AND runners.state = 'alive'
    WHERE workflow = ?1 AND version = ?2 ORDER BY runner"""

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
    WITH RECURSIVE own (workflow, version) AS (SELECT value ->> 0, value ->> 1 FROM jsonb_each(?1)),
    {",".join(_STEPS.format(place=place, condition=condition) for place, condition in _PLACES.items())}
    SELECT DISTINCT found.workflow, found.version
    FROM ({" UNION ALL ".join(f"SELECT * FROM {place}_versions" for place in _PLACES)}) AS found
    WHERE found.version <> found.mine
        AND {_NOBODY_OFFERS.format(workflow="found.workflow", version="found.version")}
    ORDER BY found.workflow, found.version"""

STRANDED = f"""
    SELECT * FROM (
        SELECT id FROM executions INDEXED BY executions_claim
        WHERE workflow = ?1 AND version = ?2 AND {_PLACES["claim"]}
        ORDER BY priority DESC, id LIMIT ?4) AS ready
    UNION ALL SELECT * FROM (
        SELECT id FROM executions INDEXED BY executions_wake
        WHERE workflow = ?1 AND version = ?2 AND {_PLACES["wake"]} AND status <> 'paused'
        ORDER BY wake_at LIMIT ?4) AS waiting
    UNION ALL SELECT * FROM (
        SELECT id FROM executions INDEXED BY executions_aside
        WHERE workflow = ?1 AND version = ?2 AND {_PLACES["aside"]}
            AND (status = 'paused' OR parked_for = 'version')
            AND id NOT IN (SELECT value ->> 0 FROM jsonb_each(?3))
        ORDER BY id LIMIT ?4) AS aside
    LIMIT ?4"""

LIVE = """
    SELECT id FROM executions INDEXED BY executions_status
    WHERE status = ?1 AND status <> 'completed' AND id > ?2 ORDER BY id LIMIT ?3"""

IN_FLIGHT = """
    SELECT id, workflow, version, status FROM executions
    WHERE id IN (SELECT value ->> 0 FROM jsonb_each(?1)) ORDER BY id"""

TOUCHED = """
    SELECT execution, task, state, retry_at FROM attempts
    WHERE execution IN (SELECT value ->> 0 FROM jsonb_each(?1)) ORDER BY execution, task, attempt"""

LOCK_SENT = """
    SELECT id FROM executions WHERE id IN (SELECT value ->> 0 FROM jsonb_each(?1))
    ORDER BY id /*pg FOR UPDATE*/"""

# A runner that takes over is alive until it has done so.
_LOCK_ALIVE = "SELECT id FROM runners WHERE id = ?1 AND state = 'alive' /*pg FOR SHARE*/"

# Attempts are never removed from a live execution: as many as before means that no other task was touched.
_UNCHANGED = f"""executions.id = sent.id AND executions.version = sent.before AND executions.owner IS NULL
        AND (SELECT count(*) FROM attempts WHERE execution = sent.id) = sent.attempts
        AND {_NOBODY_OFFERS.format(workflow="executions.workflow", version="sent.before")}"""

_SENT = """
    FROM (
        SELECT value ->> 0 AS id, value ->> 1 AS before, CAST(value ->> 2 AS BIGINT) AS attempts,
            value ->> 3 AS version, value ->> 4 AS why
        FROM jsonb_each(?1)) AS sent"""

ADOPT = f"""
    UPDATE executions
    SET version = sent.version, parked_for = NULL,
        wake_at = CASE WHEN status = 'paused' THEN wake_at END,
        error = CASE WHEN status <> 'parked' THEN error END,
        status = CASE WHEN status <> 'parked' THEN status WHEN started IS NULL THEN 'pending' ELSE 'running' END
    {_SENT}
    WHERE {_UNCHANGED} AND (status IN ('pending', 'running', 'paused', 'parked')) IS TRUE
        AND (status <> 'parked' OR parked_for = 'version')
    RETURNING executions.id"""

PARK = f"""
    UPDATE executions
    SET status = 'parked', parked_for = 'version', error = sent.why
    {_SENT}
    WHERE {_UNCHANGED} AND (status IN ('pending', 'running')) IS TRUE
    RETURNING executions.id"""

FORGET = """
    DELETE FROM checkpoints
    WHERE (execution, task) IN (SELECT value ->> 0, value ->> 1 FROM jsonb_each(?1))"""


def offer(session: Session, runner: str, versions: Sequence[tuple[str, str, str]], now: int) -> None:
    """See `WriteStore.register_versions`."""
    text = encode(versions)
    with session.transaction():
        session.rows(_LOCK)
        session.change(_KNOWN, (text, now))
        session.change(_OFFER, (text, runner))
        freed = [id for (id,) in session.rows(PARKED, (text,))]
        if freed:
            session.change(FREE, (column(freed),))
            why = f"runner {runner} has its version"
            events.tell(session, [Event(id, now, "freed", why) for id in freed])


def versions(session: Session, workflow: str) -> list[str]:
    """See `ReadStore.versions`."""
    return [version for (version,) in session.rows(_VERSIONS, (workflow,))]


def workflows(session: Session) -> list[str]:
    """See `ReadStore.workflows`."""
    return [workflow for (workflow,) in session.rows(_WORKFLOWS)]


def dag(session: Session, workflow: str, version: str | None) -> tuple[str, str] | None:
    """See `ReadStore.dag`."""
    row = session.row(_DAG, (workflow, version))
    return None if row is None else (row[0], row[1])


def offered(session: Session, workflow: str, version: str) -> list[str]:
    """See `ReadStore.offered`."""
    return [runner for (runner,) in session.rows(_OFFERED, (workflow, version))]


def stranded(
    session: Session, versions: Sequence[tuple[str, str]], known: Sequence[str], limit: int
) -> list[InFlight]:
    """See `ReadStore.stranded`."""
    ids: list[str] = []
    with session.snapshot():
        for workflow, version in session.rows(STRANDED_VERSIONS, (encode(versions),)):
            rows = session.rows(STRANDED, (workflow, version, column(known), limit - len(ids)))
            ids += [id for (id,) in rows]
            if len(ids) >= limit:
                break
        return _loaded(session, ids)


def in_flight(session: Session, after: str, limit: int) -> list[InFlight]:
    """See `ReadStore.in_flight`."""
    live = [status for status in ExecutionStatus if not status.terminal]
    with session.snapshot():
        ids = [id for status in live for (id,) in session.rows(LIVE, (status, after, limit))]
        return _loaded(session, sorted(ids)[:limit])


def rewrite(session: Session, runner: str, rewrites: Sequence[Rewrite], now: int) -> list[str]:
    """See `WriteStore.rewrite`."""
    adopted = encode([row for row in rewrites if row.version is not None])
    parked = encode([row for row in rewrites if row.version is None])
    with session.transaction():
        session.rows(_LOCK)
        if not session.rows(_LOCK_ALIVE, (runner,)):
            return []
        session.rows(LOCK_SENT, (column(row.execution for row in rewrites),))
        taken = {id for (id,) in session.rows(ADOPT, (adopted,))}
        aside = {id for (id,) in session.rows(PARK, (parked,))}
        kinds = dict.fromkeys(taken, "adopted") | dict.fromkeys(aside, "parked")
        done = [row for row in rewrites if row.execution in kinds]
        events.tell(session, [Event(row.execution, now, kinds[row.execution], row.why) for row in done])
        stale = [(row.execution, task) for row in done if row.execution in taken for task in row.stale]
        if stale:
            session.change(FORGET, (encode(stale),))
    return [row.execution for row in done]


def _loaded(session: Session, ids: Sequence[str]) -> list[InFlight]:
    """The executions with these ids, in the order of the ids, with the last attempt of each task."""
    text = column(ids)
    rows: dict[str, int] = {}
    last: dict[str, dict[str, tuple[object, ...]]] = {}
    for execution, *attempt in session.rows(TOUCHED, (text,)):
        rows[execution] = rows.get(execution, 0) + 1
        last.setdefault(execution, {})[attempt[0]] = tuple(attempt)
    found = [
        (*row, rows.get(row[0], 0), tuple(last.get(row[0], {}).values()))
        for row in session.rows(IN_FLIGHT, (text,))
    ]
    return msgspec.convert(found, list[InFlight])
