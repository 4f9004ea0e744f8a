"""Homes on a server: a schema for each stage, in which every change of a state is written down."""

from __future__ import annotations

from itertools import count
from typing import Any

import psycopg

from acceptance.support.database import AttemptRow, Contents, ExecutionRow, Move, RunnerRow, by_task
from cloacina.store.postgres.database import PostgresDatabase
from cloacina.store.postgres.location import server_location
from support.postgres.server import PostgresServer


class ServerHome:
    """A schema on a PostgreSQL server, which programs reach at ``url``, and the test by the shortest way."""

    def __init__(self, server: PostgresServer, schema: str, url: str | None = None) -> None:
        self.server = server
        self.schema: str | None = schema
        self.url = url or server.url()

    def prepare(self) -> None:
        location = server_location(self.server.url(), self.schema)
        PostgresDatabase(location).writer().close()
        self.server.execute(_AUDIT.replace("{s}", location.schema))

    def read(self) -> Contents:
        with psycopg.connect(self.server.socket_url()) as connection:
            connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            return Contents(
                {row[0]: ExecutionRow(*row) for row in self._rows(connection, ExecutionRow, "executions")},
                by_task([AttemptRow(*row) for row in self._rows(connection, AttemptRow, "attempts")]),
                {row[0]: RunnerRow(*row) for row in self._rows(connection, RunnerRow, "runners")},
                [Move(*row) for row in self._rows(connection, Move, "audit", "ORDER BY id")],
            )

    def buried(self, runner: str) -> bool:
        return not self.server.execute(f"SELECT 1 FROM {self.schema}.leases WHERE runner = %s", runner)

    def _rows(
        self, connection: psycopg.Connection[Any], kind: Any, table: str, order: str = ""
    ) -> list[tuple[Any, ...]]:
        text = f"SELECT {', '.join(kind._fields)} FROM {self.schema}.{table} {order}"
        return connection.execute(text.encode()).fetchall()


class ServerHomes:
    """Gives a schema of its own on ``server`` to each name; `close` removes them all."""

    def __init__(self, server: PostgresServer) -> None:
        self._server = server
        self._schemas: list[str] = []

    def __call__(self, name: str) -> ServerHome:
        schema = f"stage_{next(_numbers)}"
        self._schemas.append(schema)
        return ServerHome(self._server, schema)

    def close(self) -> None:
        for schema in self._schemas:
            self._server.drop_schema(schema)


_numbers = count(1)

_AUDIT = """
CREATE TABLE {s}.audit (
    id BIGINT GENERATED ALWAYS AS IDENTITY, execution TEXT, task TEXT, attempt BIGINT, before TEXT, after TEXT,
    runner TEXT);
CREATE FUNCTION {s}.note_runner() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO {s}.audit (runner, before, after) VALUES (new.id, old.state, new.state);
    RETURN NULL; END $$;
CREATE FUNCTION {s}.note_execution() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO {s}.audit (execution, before, after) VALUES (
        CASE TG_OP WHEN 'DELETE' THEN old.id ELSE new.id END,
        CASE TG_OP WHEN 'INSERT' THEN NULL ELSE old.status END, CASE TG_OP WHEN 'DELETE' THEN NULL ELSE new.status END);
    RETURN NULL; END $$;
CREATE FUNCTION {s}.note_attempt() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO {s}.audit (execution, task, attempt, before, after, runner) VALUES (
        new.execution, new.task, new.attempt, CASE TG_OP WHEN 'INSERT' THEN NULL ELSE old.state END, new.state,
        new.runner);
    RETURN NULL; END $$;
CREATE TRIGGER changed AFTER UPDATE ON {s}.runners
    FOR EACH ROW WHEN (old.state <> new.state) EXECUTE FUNCTION {s}.note_runner();
CREATE TRIGGER changed AFTER UPDATE ON {s}.executions
    FOR EACH ROW WHEN (old.status <> new.status) EXECUTE FUNCTION {s}.note_execution();
CREATE TRIGGER come_or_gone AFTER INSERT OR DELETE ON {s}.executions
    FOR EACH ROW EXECUTE FUNCTION {s}.note_execution();
CREATE TRIGGER changed AFTER UPDATE ON {s}.attempts
    FOR EACH ROW WHEN (old.state <> new.state) EXECUTE FUNCTION {s}.note_attempt();
CREATE TRIGGER come AFTER INSERT ON {s}.attempts FOR EACH ROW EXECUTE FUNCTION {s}.note_attempt();
"""
