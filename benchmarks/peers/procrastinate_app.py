"""Procrastinate's application on a schema of its own, with its own defaults but for the number of slots."""

from __future__ import annotations

import asyncio
import logging

from procrastinate import App, PsycopgConnector

from benchmarks.harness.database import Database, connected

SLOTS = 256
"""Jobs that the worker runs at once: as many as the engine runs ``async`` bodies."""


def make(database: Database) -> None:
    """Make the schema, which is empty yet."""
    with connected(database.url) as server:
        server.execute(f"CREATE SCHEMA {database.schema}")


def new_app(database: Database) -> App:
    """An application that finds its tables in the schema."""
    logging.getLogger("procrastinate").setLevel(logging.CRITICAL)
    connector = PsycopgConnector(
        conninfo=database.url, kwargs={"options": f"-c search_path={database.schema}"}
    )
    return App(connector=connector)


def worker_of(app: App) -> asyncio.Task[None]:
    """A worker on the running loop, until it is cancelled."""
    return asyncio.create_task(app.run_worker_async(concurrency=SLOTS, install_signal_handlers=False))
