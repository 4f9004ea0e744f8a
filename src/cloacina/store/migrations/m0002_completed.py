"""Schema version 2: checkpoints, commands to owners, why an execution was parked, paused ones that wake up.

An execution that is paused can still run out of its time, so the index of those that wake up has it. The last two
indexes hold only executions that are set aside, and only forks, so that others cost nothing.
"""

SQL = """
CREATE TABLE checkpoints (
    execution TEXT NOT NULL,
    task TEXT NOT NULL,
    name TEXT NOT NULL,
    value TEXT NOT NULL,
    stored INTEGER NOT NULL,
    PRIMARY KEY (execution, task, name)
) STRICT;

CREATE TABLE commands (
    id TEXT NOT NULL PRIMARY KEY,
    execution TEXT NOT NULL,
    kind TEXT NOT NULL,
    sent INTEGER NOT NULL
) STRICT;

CREATE INDEX commands_execution ON commands (execution);

ALTER TABLE executions ADD COLUMN parked_for TEXT;

DROP INDEX executions_wake;

CREATE INDEX executions_wake ON executions (workflow, version, wake_at)
    WHERE owner IS NULL AND status IN ('pending', 'running', 'paused') AND wake_at IS NOT NULL;

CREATE INDEX executions_aside ON executions (workflow, version, id)
    WHERE owner IS NULL AND status IN ('paused', 'parked');

CREATE INDEX executions_forked ON executions (forked_from) WHERE forked_from IS NOT NULL;
"""
