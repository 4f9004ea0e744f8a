"""Mutants of the stores: what both databases share, SQLite and its files, PostgreSQL."""

from __future__ import annotations

from mutants.mutant import Mutant

BOTH = (
    Mutant(
        "dead-not-marked",
        "A runner whose work was freed still counts as alive, so that what it sends late is taken.",
        "store/nouns/runners.py",
        "    session.change(_END, (runner, RunnerState.STOPPED if stopped else RunnerState.DEAD))\n",
        "",
    ),
    Mutant(
        "not-interrupted",
        "The attempts of a dead runner stay as they are: their tasks never run again.",
        "store/nouns/runners.py",
        "    session.change(INTERRUPT, (runner, reason, now, ids))\n",
        "",
    ),
    Mutant(
        "deferred-crashed",
        "An attempt that only waited when its runner died counts as one that killed it.",
        "store/nouns/runners.py",
        "reason = CASE WHEN state = 'deferred' THEN 'deferred' ELSE CAST(?2 AS TEXT) END",
        "reason = CAST(?2 AS TEXT)",
    ),
    Mutant(
        "orphans-left",
        "What is owned by a runner of which nothing is known any more is never freed.",
        "store/nouns/runners.py",
        "    if not orphans(session):\n",
        "    if orphans(session):\n",
        ("tests/store/test_runners.py",),
    ),
    Mutant(
        "settled-unheard",
        "What was left for an owner that gives its execution up is removed without effect.",
        "store/nouns/commands.py",
        "        if not status.terminal:\n            _carry_out(session, command, status)\n    if left:\n",
        "    if left:\n",
    ),
    Mutant(
        "waiting-not-cancelled",
        "A cancelled execution keeps a task that waits for its retry for ever.",
        "store/nouns/commands.py",
        "OR (state IN ('failed', 'timed_out') AND retry_at IS NOT NULL))",
        ")",
    ),
    Mutant(
        "timeout-of-paused-lost",
        "The time limit of an execution that is paused while nobody owns it never ends it.",
        "store/nouns/commands.py",
        "        wake_at = CASE WHEN started IS NULL THEN NULL ELSE coalesce(wake_at, CAST(?2 AS BIGINT)) END\n",
        "        wake_at = NULL\n",
        ("tests/store/test_commands.py",),
    ),
    Mutant(
        "adopted-late",
        "An execution is adopted although another task was started since it was looked at.",
        "store/nouns/versions.py",
        "        AND (SELECT count(*) FROM attempts WHERE execution = sent.id) = sent.attempts\n",
        "",
        ("tests/store/test_versions.py",),
    ),
)

SQLITE = (
    Mutant(
        "no-number",
        "A group whose answer was lost is applied twice.",
        "store/sqlite/groups.py",
        "WHERE id = ?1 AND state = 'alive' AND group_no = ?2 - 1",
        "WHERE id = ?1 AND state = 'alive'",
    ),
    Mutant(
        "no-fence",
        "A runner that was declared dead goes on writing.",
        "store/sqlite/groups.py",
        "WHERE id = ?1 AND state = 'alive' AND group_no = ?2 - 1",
        "WHERE id = ?1",
    ),
    Mutant(
        "fence-apart",
        "The number is taken in one transaction, the rows are written in another: a crash between them loses the rows.",
        "store/sqlite/groups.py",
        "            if not _advance(connection, group):\n",
        "            fresh = _advance(connection, group)\n"
        "        with connection.transaction():\n"
        "            if not fresh:\n",
    ),
    Mutant(
        "delta-lost",
        "A completed task leaves nothing of what it wrote.",
        "store/sqlite/groups.py",
        "retry_at = sent.retry_at, delta = sent.delta,",
        "retry_at = sent.retry_at,",
    ),
    Mutant(
        "delta-apart",
        "What a task wrote is stored after the transaction that completes it: a crash between them loses it.",
        "store/sqlite/groups.py",
        "            for batch in prepared:\n                write(connection, batch)\n",
        "            for batch in prepared:\n"
        "                write(connection, batch)\n"
        "                if batch.kind is ATTEMPT_ENDS:\n"
        "                    connection.change('COMMIT')\n"
        "                    connection.change('BEGIN IMMEDIATE')\n",
    ),
    Mutant(
        "retry-not-stored",
        "A task whose attempt failed counts as failed for good once another runner has it.",
        "store/sqlite/groups.py",
        "retry_at = sent.retry_at, delta = sent.delta,",
        "delta = sent.delta,",
    ),
    Mutant(
        "skips-not-stored",
        "Of a task that was skipped nothing is stored.",
        "store/sqlite/groups.py",
        "        *batches(VERDICTS, verdicts),\n",
        "",
    ),
    Mutant(
        "given-up-unsettled",
        "A command that comes while its owner gives the execution up waits for ever.",
        "store/sqlite/groups.py",
        "            commands.settle(connection, [item.execution for item in group.items if _gives_up(item)])\n",
        "",
        ("tests/store/test_commands.py",),
    ),
    Mutant(
        "other-versions-claimed",
        "A runner takes executions of a version whose code it does not have.",
        "store/sqlite/claims.py",
        "                    WHERE workflow = pair.value ->> 0 AND version = pair.value ->> 1\n"
        "                        AND owner IS NULL AND status IN ('pending', 'running') AND wake_at IS NULL\n",
        "                    WHERE workflow = pair.value ->> 0\n"
        "                        AND owner IS NULL AND status IN ('pending', 'running') AND wake_at IS NULL\n",
    ),
    Mutant(
        "owned-claimed",
        "A runner takes what another one owns.",
        "store/sqlite/groups.py",
        "AND executions.owner IS sent.owner\n",
        "\n",
        ("tests/store/test_groups.py",),
    ),
    Mutant(
        "key-ignored",
        "A second submit with the same key is told an id that does not exist.",
        "store/sqlite/unowned.py",
        "        if stored == len(rows):\n",
        "        if stored <= len(rows):\n",
    ),
    Mutant(
        "not-flushed",
        "An acknowledged commit is lost when the power fails.",
        "store/sqlite/file/connection.py",
        "PRAGMA synchronous = FULL;",
        "PRAGMA synchronous = NORMAL;",
        ("tests/acceptance/test_power.py", "-k", "power_cut"),
    ),
    Mutant(
        "log-not-compared",
        "Commits to a log that somebody removed are acknowledged, and lost.",
        "store/sqlite/file/wal.py",
        "return None not in self._identities and self._identify() == self._identities",
        "return None not in self._identities",
        ("tests/store/sqlite/test_files.py",),
    ),
)

POSTGRES = (
    Mutant(
        "server-no-number",
        "A group whose answer was lost is applied twice.",
        "store/postgres/groups.py",
        "WHERE id = $1 AND state = 'alive' AND group_no = $2 - 1 RETURNING id",
        "WHERE id = $1 AND state = 'alive' RETURNING id",
        ("tests/store/test_groups.py",),
    ),
    Mutant(
        "rows-not-counted",
        "A group that ends an attempt which another runner has ended is applied in part.",
        "store/postgres/groups.py",
        "        if kind.counted:\n            checks",
        "        if False:\n            checks",
        ("tests/store/test_groups.py",),
    ),
    Mutant(
        "locked-not-skipped",
        "Runners that claim at once wait for each other.",
        "store/postgres/claims.py",
        "({_READY} LIMIT shares.most FOR UPDATE SKIP LOCKED)",
        "({_READY} LIMIT shares.most FOR UPDATE)",
        ("tests/store/postgres/test_claims.py",),
    ),
    Mutant(
        "limit-per-workflow",
        "A claim takes, of each workflow, as many as it may take of all.",
        "store/postgres/claims.py",
        "({_READY} LIMIT shares.most FOR UPDATE SKIP LOCKED)",
        "({_READY} LIMIT @limit FOR UPDATE SKIP LOCKED)",
        ("tests/acceptance/postgres/test_claims.py", "-k", "no_more"),
    ),
    Mutant(
        "recovered-while-writing",
        "A runner is declared dead in the middle of its group, whose rows are then written to what another has.",
        "store/nouns/runners.py",
        "WHERE id = ?1 /*pg FOR UPDATE NOWAIT*/",
        "WHERE id = ?1",
        ("tests/engine/test_server_leases.py", "-k", "just_writes"),
    ),
    Mutant(
        "bell-not-rung",
        "The owner of an execution learns of a command only when it looks by itself.",
        "engine/asking/access.py",
        "        if sent is not None:\n            self.bell.ring()\n",
        "        if sent is not None:\n",
        ("tests/engine/test_server_leases.py", "-k", "told_at_once"),
    ),
)

STORING = (*BOTH, *SQLITE, *POSTGRES)
