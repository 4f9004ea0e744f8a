"""The database is away, or takes no writes: at the start, and for a while under load."""

from __future__ import annotations

import os
import signal
import threading
from collections import Counter
from pathlib import Path

import pytest

from acceptance.support import check
from acceptance.support.campaign import campaign
from acceptance.support.check import Causes
from acceptance.support.child import Child
from acceptance.support.shapes import MIXED
from acceptance.support.stage import Stage
from cloacina import Runner
from cloacina.errors import StoreUnavailable
from support.postgres.server import PostgresServer, until

LEASE = 2.5


async def test_a_start_without_the_database_fails_at_once_and_leaves_nothing(
    mortal: PostgresServer, schema: str
) -> None:
    before = threading.active_count()
    mortal.stop()
    try:
        with pytest.raises(StoreUnavailable) as caught:
            async with Runner(mortal.url(), schema=schema):
                raise AssertionError("it started")
    finally:
        mortal.start()
    told = str(caught.value)
    assert "cannot be reached" in told and "\n" not in told and mortal.password not in told
    assert threading.active_count() == before


def test_a_start_waits_for_the_database_if_it_is_told_to(stage: Stage, mortal: PostgresServer) -> None:
    mortal.stop()
    try:
        child = stage.start(stage.asks(*MIXED), start_patience=60.0)
        child.line("logged cloacina.store")
        assert child.outlives(0.3), child.tail()
    finally:
        mortal.start()
    assert child.wait() == 0, child.tail()
    stage.finally_()


@pytest.mark.parametrize("seconds", [2, campaign(90)])
def test_an_outage_costs_next_to_nothing_and_loses_nothing(
    stage: Stage, mortal: PostgresServer, seconds: int
) -> None:
    """Bodies that end while it lasts are settled once after it; meanwhile the process waits, and says so once."""
    stage.close_gate()
    asks = stage.asks(*["gated"] * 20, *MIXED * 10)
    child = stage.start(asks, pace="at once", stay=True, thread_slots=32, poll_interval=0.2)
    for _ in range(20):
        child.line("waiting")
    child.line("staying")
    for _ in range(len(MIXED) * 10):
        child.line("over")
    sessions = mortal.sessions()
    lines, before = len(stage.log().splitlines()), usage(child)
    mortal.stop("immediate")
    try:
        stage.open_gate()
        for _ in range(20):
            child.line("passed")
        assert child.outlives(seconds), child.tail()
        cpu, memory = (after - then for after, then in zip(usage(child), before, strict=True))
    finally:
        mortal.start()
    for _ in range(20):
        child.line("over")
    assert cpu < max(0.3, 0.05 * seconds), "it spins"
    assert memory < 5_000_000, "it grows"
    told = Counter(line.split()[3] for line in stage.log().splitlines()[lines:])
    assert set(told.values()) <= set(range(2 + seconds // 60)), told
    assert mortal.sessions() <= sessions
    child.signal(signal.SIGTERM)
    assert child.wait() == 0, child.tail()
    stage.finally_()


def test_an_outage_longer_than_the_lease_kills_nobody(stage: Stage, mortal: PostgresServer) -> None:
    """All leases have run out when the server is back, and all who live have time to renew theirs."""
    stage.close_gate()
    programs = [stage.start(stage.asks("gated", "gated"), stay=True, lease=LEASE) for _ in range(2)]
    for program in programs:
        program.line("staying")
    mortal.stop()
    try:
        assert programs[0].outlives(1.2 * LEASE), programs[0].tail()
    finally:
        mortal.start()
    assert programs[0].outlives(1.2 * LEASE), "somebody has looked at the leases twice"
    stage.open_gate()
    until(lambda: all(row.over for row in stage.read().executions.values()), "it does not end")
    for program in programs:
        program.signal(signal.SIGTERM)
        assert program.wait() == 0, program.tail()
    assert {row.state for row in stage.finally_().rows} == {"completed"}


@pytest.mark.parametrize("again", [False, True], ids=["once", "twice"])
def test_a_runner_can_be_stopped_while_the_database_is_away(
    stage: Stage, mortal: PostgresServer, again: bool
) -> None:
    stage.close_gate()
    child = stage.start(
        stage.asks("gated", *MIXED), stay=True, shutdown_grace=1.0, cancel_grace=0.1, lease=LEASE
    )
    child.line("waiting")
    child.line("staying")
    mortal.stop()
    try:
        child.signal(signal.SIGTERM)
        child.line("ending")
        if again:
            child.signal(signal.SIGTERM)
        assert child.wait(30) == 0, child.tail()
    finally:
        mortal.start()
    stage.open_gate()
    stage.finish(lease=LEASE)
    found = check.finally_(stage.home.read, stage.ledger, Causes(killed={child.pid}, frozen={child.pid}))
    assert len(found.executions) == 1 + len(MIXED)


def usage(child: Child) -> tuple[float, float]:
    """Seconds of CPU time and bytes of memory that a process has used."""
    fields = Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()
    ticks, pages = int(fields[11]) + int(fields[12]), int(fields[21])
    return ticks / os.sysconf("SC_CLK_TCK"), pages * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize("times", [3, campaign(20)])
def test_a_server_that_turns_read_only_is_waited_for(
    stage: Stage, mortal: PostgresServer, times: int
) -> None:
    child = stage.start(stage.asks(*MIXED * 6 * times), pace="to the end")
    try:
        for _ in range(times):
            stage.wait_for_progress()
            mortal.set("default_transaction_read_only", "on")
            child.line("logged cloacina.store")
            mortal.set("default_transaction_read_only", None)
            stage.wait_for_progress()
    finally:
        mortal.set("default_transaction_read_only", None)
    assert child.wait() == 0, child.tail()
    assert "is read-only" in stage.log()
    assert len(stage.finally_().executions) == 6 * len(MIXED) * times
