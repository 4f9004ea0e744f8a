"""Runners on one server that are killed, frozen, restarted or cut off: who is dead is found, who lives goes on."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from acceptance.support import check
from acceptance.support.campaign import campaign
from acceptance.support.check import Causes
from acceptance.support.child import PATIENCE, Child
from acceptance.support.shapes import MIXED
from acceptance.support.stage import Stage
from support.postgres.server import PostgresServer

LEASE = 0.8
SLOW = {"poll_interval": 1.0}
"""As it is outside of tests."""
CRASHED = [("interrupted", "crash"), ("completed", None)]
REPEATED = [("interrupted", "lost_lease"), ("completed", None)]


def end(child: Child) -> None:
    child.signal(signal.SIGTERM)
    assert child.wait() == 0, child.tail()


def start_and_wait(stage: Stage, *shapes: str, **settings: float) -> tuple[Child, str]:
    """A runner whose bodies wait at the closed gate; and its id."""
    if stage.gate is None:
        stage.close_gate()
    child = stage.start(stage.asks(*shapes), later=stage.asks("diamond"), stay=True, **settings)
    runner = child.line("up")
    for _ in shapes:
        child.line("waiting")
    child.line("staying")
    return child, runner


@pytest.mark.parametrize("settings", [SLOW, {}], ids=["usual", "quick"])
def test_what_a_killed_runner_did_is_done_by_another(stage: Stage, settings: dict[str, float]) -> None:
    first, dead = start_and_wait(stage, "gated", **settings)
    survivor = stage.start(stay=True, **settings)
    survivor.line("staying")
    first.kill()
    survivor.line("over gated")
    end(survivor)
    found = stage.finally_()
    assert found.runners[dead].state == "dead"
    rows = [row for row in found.rows if row.task == "waits"]
    assert [(row.state, row.reason) for row in rows] == CRASHED


def test_what_a_frozen_runner_reports_late_is_refused(stage: Stage) -> None:
    first, old = start_and_wait(stage, "gated", "stale", lease=LEASE)
    stage.freeze(first)
    survivor = stage.start(stay=True, lease=LEASE)
    stage.wait_until_dead(old)
    stage.open_gate()
    survivor.line("over")
    survivor.line("over")
    stage.thaw(first)
    for _ in range(2):
        first.line("passed")
    first.signal(signal.SIGUSR1)
    assert first.line("later") != old
    end(first)
    end(survivor)
    found = stage.finally_()
    for shape, task in (("gated", "waits"), ("stale", "fails_late")):
        for row in found.of(shape):
            rows = found.attempts[row.id][task]
            assert [(one.state, one.reason) for one in rows] == REPEATED
            assert [one.runner == old for one in rows] == [True, False]


def test_a_freeze_shorter_than_the_lease_changes_nothing(stage: Stage) -> None:
    first, old = start_and_wait(stage, "gated", lease=30.0)
    survivor = stage.start(stay=True)
    survivor.line("staying")
    stage.freeze(first)
    assert survivor.outlives(1.0)
    stage.thaw(first)
    stage.open_gate()
    first.line("over")
    end(first)
    end(survivor)
    stage.frozen.clear()
    assert {(row.state, row.runner) for row in stage.finally_().rows} == {("completed", old)}


def test_the_same_program_started_again_and_again_is_another_runner_each_time(stage: Stage) -> None:
    """Same host, same arguments, again and again killed: each does what the one before it left."""
    ids = list[str]()
    for number in range(5):
        child, id = start_and_wait(stage, "gated")
        ids.append(id)
        if number:
            child.line("over gated")
        child.kill()
    stage.finish()
    found = stage.finally_()
    assert [found.runners[id].state for id in ids] == ["dead"] * 5
    assert len(set(ids)) == 5


def test_old_and_new_work_side_by_side_while_the_old_one_drains(stage: Stage) -> None:
    """A rolling restart: nobody takes the work of one that ends, and there is no repeat."""
    first, old = start_and_wait(stage, "gated")
    first.signal(signal.SIGTERM)
    first.line("logged cloacina.runner")
    second = stage.start(stage.asks("single"), stay=True)
    second.line("over single")
    stage.open_gate()
    assert first.wait() == 0, first.tail()
    end(second)
    rows = [row for row in stage.finally_().rows if row.task == "waits"]
    assert {(row.state, row.runner) for row in rows} == {("completed", old)}


def test_everybody_sweeps(stage: Stage) -> None:
    """One is killed, then the one that may be about to bury it, and so on; the last has all their work."""
    stage.close_gate()
    children = [stage.start(stage.asks("gated"), stay=True) for _ in range(3)]
    ids = [child.line("up") for child in children]
    for child in children:
        child.line("staying")
    last = stage.start(stay=True)
    last.line("staying")
    for child in children:
        child.kill()
    for id in ids:
        stage.wait_until_dead(id)
    stage.open_gate()
    for _ in children:
        last.line("over gated")
    end(last)
    found = stage.finally_()
    assert {found.runners[id].state for id in ids} == {"dead"}


def test_the_connection_for_leases_is_killed_again_and_again(stage: Stage, mortal: PostgresServer) -> None:
    """Nobody dies of it, and everybody is woken after it: the slow poll would come once in 30 s."""
    first, old = start_and_wait(stage, "gated", **SLOW)
    second = stage.start(stay=True, later=stage.asks(*["single"] * 8), **SLOW)
    second.line("staying")
    for _ in range(8):
        killed = 0
        while killed < 2:  # one of them may not be back yet from the last time
            killed += mortal.kill_backends("application_name = 'cloacina lease'")
        second.signal(signal.SIGUSR1)
        second.line("later")
    stage.open_gate()
    first.line("over gated")
    end(first)
    end(second)
    found = stage.finally_()
    assert {row.state for row in found.rows} == {"completed"}
    assert [row.runner for row in found.rows if row.task == "waits"] == [old]


def test_a_blocked_loop_gives_up_its_work_and_lives_on_when_it_is_free(stage: Stage) -> None:
    stage.close_gate()
    first = stage.start(stage.asks("blocking"), later=stage.asks("diamond"), stay=True, loop_block_limit=0.3)
    old = first.line("up")
    first.line("waiting")
    stage.frozen.add(first.pid)
    stage.finish()
    log = stage.log()
    assert "the event loop was blocked" in log
    assert "task 'blocks_the_loop' of execution" in log
    stage.open_gate()
    first.signal(signal.SIGUSR1)
    assert first.line("later") != old
    end(first)
    found = stage.finally_()
    (blocked,) = found.of("blocking")
    assert [(row.state, row.reason) for row in found.attempts[blocked.id]["blocks_the_loop"]] == REPEATED


FORKS = """
import asyncio, os, signal, sys
from cloacina import Runner

async def main() -> None:
    async with Runner(sys.argv[1], schema=sys.argv[2]) as runner:
        if os.fork() == 0:
            os.close(1)
            os.read(0, 1)  # outlives its parent
            os._exit(0)
        print(runner.id, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""


def test_a_forked_child_does_not_keep_its_parent_alive(stage: Stage, mortal: PostgresServer) -> None:
    """The lock goes with the connection, of which the child has let go; and it does so without a word."""
    arguments = [sys.executable, "-c", FORKS, stage.home.url, str(stage.home.schema)]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdin is not None and parent.stdout is not None
        dead = parent.stdout.readline().strip()
        assert parent.wait() == -signal.SIGKILL
        survivor = stage.start(stay=True, lease=1e6)
        stage.wait_until_dead(dead)
        parent.stdin.close()
    end(survivor)
    assert stage.read().runners[dead].state == "dead"


@pytest.mark.parametrize("times", [3, campaign(100)])
def test_rows_of_runners_that_somebody_removes_are_no_loss(
    stage: Stage, mortal: PostgresServer, times: int
) -> None:
    """Under load: who has no row any more starts anew, and what has an owner without a row is done by others."""
    schema = stage.home.schema
    programs = [stage.start(stage.asks(*MIXED * 15 * times), pace="to the end") for _ in range(2)]
    mortal.execute(f"CREATE TABLE {schema}.removed AS SELECT * FROM {schema}.runners")
    for _ in range(times):
        stage.wait_for_progress()
        mortal.execute(f"""
            WITH removed AS (DELETE FROM {schema}.runners RETURNING *), unleased AS (DELETE FROM {schema}.leases)
            INSERT INTO {schema}.removed SELECT * FROM removed""")
    for program in programs:
        assert program.wait(PATIENCE * times) == 0, program.tail()
    mortal.execute(f"""
        INSERT INTO {schema}.runners SELECT id, host, pid, started, 'dead', group_no FROM {schema}.removed
        ON CONFLICT DO NOTHING""")
    pids = {program.pid for program in programs}
    found = check.finally_(stage.home.read, stage.ledger, Causes(killed=pids, frozen=pids))
    assert len(found.executions) == 30 * len(MIXED) * times
    assert len(found.runners) > times
