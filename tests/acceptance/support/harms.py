"""Harms: what befalls a PostgreSQL server from which it comes back by itself, or by whoever keeps it."""

from __future__ import annotations

import os
import random
import signal

from support.postgres.server import PostgresServer, until

READY = "database system is ready"


def fast(server: PostgresServer, rng: random.Random) -> None:
    """A restart as it should be."""
    server.restart("fast")


def immediate(server: PostgresServer, rng: random.Random) -> None:
    """A crash, and a start."""
    server.restart("immediate")


def killed_backend(server: PostgresServer, rng: random.Random) -> None:
    """``kill -9`` of one session's process, after which the server ends all sessions and recovers as from a crash."""
    text = "SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'cloacina%'"
    before = server.log().count(READY)
    while not (sessions := server.execute(text)):
        pass
    os.kill(rng.choice(sessions)[0], signal.SIGKILL)
    until(lambda: server.log().count(READY) > before, "the server did not come back")
