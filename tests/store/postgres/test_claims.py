"""Claims on a server: what others have locked is passed over and not waited for."""

from __future__ import annotations

from contextlib import closing

import psycopg

from cloacina.store.postgres.database import PostgresDatabase
from cloacina.store.postgres.location import server_location
from cloacina.store.rows import Group
from store.make import ME, claim, new, runner
from support.postgres.server import PostgresServer


def test_what_others_have_locked_is_passed_over(postgres: PostgresServer, schema: str) -> None:
    with closing(PostgresDatabase(server_location(postgres.url(), schema)).writer()) as writer:
        writer.register_runner(runner())
        writer.insert_unowned([new(f"e{n}") for n in range(4)])
        with psycopg.connect(postgres.socket_url()) as other:
            other.execute(f"SELECT 1 FROM {schema}.executions WHERE id IN ('e0', 'e2') FOR UPDATE")
            taken = writer.commit(Group(ME, 1, (), claim(4)))
            assert [row.id for row in taken] == ["e1", "e3"]
        assert [row.id for row in writer.commit(Group(ME, 2, (), claim(4)))] == ["e0", "e2"]
