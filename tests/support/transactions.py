"""A ledger for tests of bodies' transactions: a user's table beside the engine's, and runners on their database."""

from __future__ import annotations

from typing import Any

from cloacina.clock import Clock
from cloacina.model.retry import RetryPolicy
from cloacina.model.workflow import Workflow
from cloacina.runner import Runner
from cloacina.settings import Settings
from cloacina.store.payloads import Payloads
from support.clock import HandClock
from support.postgres.proxy import Upstream
from support.postgres.server import PostgresServer
from support.runners import LONG, Even

AT_ONCE = RetryPolicy(max_attempts=3, initial_delay=0, jitter=0)
SESSIONS = "application_name = 'cloacina transaction'"


class Ledger:
    """A table of texts. ``schema`` is the engine's; the table stands in another one."""

    def __init__(self, server: PostgresServer, schema: str) -> None:
        self.server = server
        self.schema = schema
        self.table = f"{schema}_own.ledger"
        server.execute(f"CREATE SCHEMA {schema}_own")
        server.execute(
            f"CREATE TABLE {self.table} (entry text UNIQUE DEFERRABLE INITIALLY IMMEDIATE, late text, "
            f"UNIQUE (late) DEFERRABLE INITIALLY DEFERRED)"
        )
        self.insert = f"INSERT INTO {self.table} (entry) VALUES ($1)"
        self.insert_late = f"INSERT INTO {self.table} (late) VALUES ($1)"

    def close(self) -> None:
        self.server.drop_schema(f"{self.schema}_own")

    def runner(
        self,
        *workflows: Workflow,
        through: Upstream | None = None,
        clock: Clock | None = None,
        payloads: Payloads | None = None,
        **settings: Any,
    ) -> Runner:
        """A runner on the database, not entered yet."""
        chosen = {
            "lease": LONG,
            "loop_block_limit": LONG,
            "shutdown_grace": 2.0,
            "cancel_grace": 0.2,
            **settings,
        }
        return Runner(
            self.server.url() if through is None else through.url(),
            schema=self.schema,
            workflows=workflows,
            settings=Settings(keep_completed_days=0.0, keep_failed_days=0.0, **chosen),
            clock=clock or HandClock(),
            randomness=Even(),
            payloads=payloads,
        )

    def entries(self) -> list[str]:
        """What is committed."""
        return [
            entry
            for (entry,) in self.server.execute(f"SELECT coalesce(entry, late) FROM {self.table} ORDER BY 1")
        ]

    def attempts(self, task: str = "write") -> list[tuple[str, str | None]]:
        """State and reason of each attempt of a task, oldest first."""
        rows = self.server.execute(
            f'SELECT state, reason FROM "{self.schema}".attempts WHERE task = %s ORDER BY execution, attempt',
            task,
        )
        return [(state, reason) for state, reason in rows]

    def together(self) -> bool:
        """True if every entry was committed by the transaction that completed an attempt."""
        strange = self.server.execute(
            f'SELECT 1 FROM {self.table} AS own WHERE NOT EXISTS (SELECT 1 FROM "{self.schema}".attempts AS attempt'
            " WHERE attempt.state = 'completed' AND attempt.xmin = own.xmin)"
        )
        return not strange
