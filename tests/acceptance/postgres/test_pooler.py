"""PgBouncer in transaction mode: everything works, by polling and by leases alone, and nothing is left in a session."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from acceptance.support.child import Nursery
from acceptance.support.server_homes import ServerHome
from acceptance.support.shapes import MIXED, SHAPES
from acceptance.support.stage import Stage
from cloacina import Client, ExecutionStatus, Settings
from support.postgres.bouncer import MISSING, PgBouncer, program
from support.postgres.server import PostgresServer

LEASE = 1.5


@pytest.fixture
def pooled(own_postgres: Callable[..., PostgresServer]) -> Iterator[PgBouncer]:
    """A pooler before a server that writes down every statement."""
    if program() is None:
        pytest.skip(MISSING)
    with closing(PgBouncer(own_postgres(log_statement="all"))) as pooler:
        yield pooler


@pytest.fixture
def stage(pooled: PgBouncer, nursery: Nursery, tmp_path: Path) -> Iterator[Stage]:
    home = ServerHome(pooled.server, "tenant", pooled.url())
    with closing(Stage(nursery, tmp_path, home=home)) as stage:
        yield stage


async def test_a_runner_that_dies_is_found_by_its_lease_and_nothing_outlives_a_transaction(
    stage: Stage, pooled: PgBouncer
) -> None:
    begin = len(pooled.server.log())
    stage.close_gate()
    dead = stage.start(stage.asks(*["gated"] * 3, *MIXED * 10), pace="at once", stay=True, lease=LEASE)
    for _ in range(3):
        dead.line("waiting")
    dead.line("staying")
    other = stage.start(stage.asks(*MIXED * 10, keyed=True), stay=True, lease=LEASE)
    other.line("staying")
    async with Client(pooled.url(), schema="tenant", settings=Settings(poll_interval=0.05)) as client:
        victim = (await client.list(workflow="gated", limit=1))[0]
        assert await client.pause(victim.id) == "paused"
        assert await client.resume(victim.id) == "running"
        stage.frozen.add(dead.pid)
        dead.kill()
        stage.open_gate()
        for one in await client.list(limit=1_000):
            result = await client.result(one.id)
            assert result.status is ExecutionStatus(SHAPES[result.workflow].status)
    other.signal(signal.SIGTERM)
    assert other.wait() == 0, other.tail()
    stage.finally_()
    assert "is behind a pooler" in stage.log()
    written = statements(pooled.server.log()[begin:])
    assert any("SKIP LOCKED" in text for text in written)
    assert not [text for text in written if re.search(r"\b(LISTEN|advisory_lock|PREPARE)\b", text)]
    left = [text for text in written if re.search(r"(^|; )(SET (?!LOCAL|TRANSACTION)|RESET|DISCARD)", text)]
    assert all(text.startswith(("SET client_encoding=", "SET application_name=")) for text in left), (
        "those are the pooler's own; what a session is told stays with it for others"
    )


def statements(log: str) -> list[str]:
    """What clients of the engine had the server run; none of it was prepared under a name."""
    logged = re.findall(r"LOG:  (statement|execute ([^:]+)): (.*(?:\n\t.*)*)", log)
    assert {name for kind, name, _ in logged if kind != "statement"} == {"<unnamed>"}
    return [text for _, _, text in logged]
