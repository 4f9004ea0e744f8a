"""Executions without owner that have to wait on a server: for a key, or for the table."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import psycopg
import pytest

from cloacina.errors import KeyBusy
from cloacina.store.port import WriteStore
from cloacina.store.postgres.database import PostgresDatabase
from cloacina.store.postgres.location import server_location
from store.make import new
from support.postgres.server import PostgresServer


@pytest.fixture
def submitter(postgres: PostgresServer, schema: str) -> Iterator[WriteStore]:
    database = PostgresDatabase(server_location(postgres.url(), schema))
    database.writer().close()
    with closing(database.submitter()) as store:
        yield store


@pytest.mark.parametrize(
    "held",
    [
        "LOCK TABLE {s}.executions IN SHARE MODE",  # as CREATE INDEX does
        "INSERT INTO {s}.executions (id, workflow, version, status, input, key, priority, tags, created)"
        " VALUES ('theirs', 'w', '1', 'pending', '{{}}', 'k', 0, '[]', 1)",
    ],
    ids=["the table", "the key"],
)
def test_what_may_hold_up_a_key_is_told(
    submitter: WriteStore, postgres: PostgresServer, schema: str, held: str
) -> None:
    with psycopg.connect(postgres.socket_url()) as other:
        other.execute(held.format(s=schema).encode())
        with pytest.raises(KeyBusy, match="stores the same idempotency key, or has locked the table"):
            submitter.insert_unowned([new("ours", key="k")])
        other.rollback()
    assert submitter.insert_unowned([new("ours", key="k")]) == [None]
