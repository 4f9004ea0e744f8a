"""Schema version 1: the tables of executions, their attempts, and the runners that drive them.

Tables with documents keep their rowid: without it, rows of 1.5 KB took nearly twice as long
(`docs/decisions/0001-one-statement-per-row-kind.md`). Indexes are partial where that keeps finished
executions out of them; a query uses such an index only if it repeats the index's condition.
"""

SQL = """
CREATE TABLE meta (
    key TEXT NOT NULL PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE executions (
    id TEXT NOT NULL PRIMARY KEY,
    workflow TEXT NOT NULL,
    version TEXT NOT NULL,
    status TEXT NOT NULL,
    input TEXT NOT NULL,
    result TEXT,
    key TEXT,
    priority INTEGER NOT NULL,
    tags TEXT NOT NULL,
    owner TEXT,
    forked_from TEXT,
    created INTEGER NOT NULL,
    started INTEGER,
    finished INTEGER,
    wake_at INTEGER,
    error TEXT
) STRICT;

CREATE UNIQUE INDEX executions_key ON executions (key) WHERE key IS NOT NULL;

CREATE INDEX executions_claim ON executions (workflow, version, priority DESC, id)
    WHERE owner IS NULL AND status IN ('pending', 'running') AND wake_at IS NULL;

CREATE INDEX executions_wake ON executions (workflow, version, wake_at)
    WHERE owner IS NULL AND status IN ('pending', 'running') AND wake_at IS NOT NULL;

CREATE INDEX executions_owner ON executions (owner) WHERE owner IS NOT NULL;

CREATE INDEX executions_workflow ON executions (workflow, id);

CREATE INDEX executions_status ON executions (status, id) WHERE status <> 'completed';

CREATE TABLE attempts (
    execution TEXT NOT NULL,
    task TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    state TEXT NOT NULL,
    runner TEXT,
    started INTEGER,
    finished INTEGER,
    retry_at INTEGER,
    delta TEXT,
    error TEXT,
    reason TEXT,
    suspect INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (execution, task, attempt)
) STRICT;

CREATE TABLE events (
    id INTEGER PRIMARY KEY,
    execution TEXT NOT NULL,
    at INTEGER NOT NULL,
    kind TEXT NOT NULL,
    detail TEXT NOT NULL
) STRICT;

CREATE INDEX events_execution ON events (execution);

CREATE TABLE workflow_versions (
    workflow TEXT NOT NULL,
    version TEXT NOT NULL,
    dag TEXT NOT NULL,
    registered INTEGER NOT NULL,
    PRIMARY KEY (workflow, version)
) STRICT;

CREATE TABLE runners (
    id TEXT NOT NULL PRIMARY KEY,
    host TEXT NOT NULL,
    pid INTEGER NOT NULL,
    started INTEGER NOT NULL,
    state TEXT NOT NULL,
    group_no INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX runners_alive ON runners (id) WHERE state = 'alive';

CREATE TABLE runner_workflows (
    workflow TEXT NOT NULL,
    version TEXT NOT NULL,
    runner TEXT NOT NULL,
    PRIMARY KEY (workflow, version, runner)
) STRICT, WITHOUT ROWID;
"""
