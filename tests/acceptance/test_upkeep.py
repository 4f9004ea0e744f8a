"""`kill -9` in the middle of a backup, a restore or a pruning; files that are replaced under a runner."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import apsw
import pytest

from acceptance.support import check, ledger
from acceptance.support.campaign import campaign
from acceptance.support.child import Child
from acceptance.support.order import Fault
from acceptance.support.shapes import MIXED
from acceptance.support.stage import Stage, Theatre
from cloacina.clock import SystemClock
from cloacina.model import ids
from cloacina.model.status import AttemptState, ExecutionStatus, Reason
from cloacina.store.location import Location
from cloacina.store.rows import AttemptEnd, AttemptStart, Group, Item, NewExecution, Progress, RunnerRow
from cloacina.store.sqlite.database import Database

KILLED = -signal.SIGKILL
DAY = 86_400_000_000


def test_backups_under_load_are_of_one_moment(stage: Stage) -> None:
    """What is completed in a copy is so with all that belongs to it, and each copy has what the last one had."""
    copies = [stage.folder / f"copy{number}.db" for number in range(5)]
    asks = stage.asks(*MIXED * 40)
    child = stage.start(asks, first=stage.asks(*MIXED), upkeep=("backup", *map(str, copies)), pace="at once")
    assert child.wait() == 0, child.tail()
    ended: set[str] = set()
    for copy in copies:
        found = check.whole(copy)
        now = {row.id for row in found.executions.values() if row.over}
        assert len(now) >= len(MIXED) and ended <= now
        ended = now
    assert ended <= {row.id for row in stage.finally_().executions.values()}


@pytest.mark.parametrize("step", [11, campaign(1)])
def test_a_backup_that_is_killed_is_there_whole_or_not_at_all(theatre: Theatre, step: int) -> None:
    def play(number: int) -> bool:
        with theatre.stage(str(number)) as stage:
            copy = stage.folder / "copy.db"
            fault = Fault("kill-step", number * step, once_up=True)
            first, asks = stage.asks("single", "chain"), stage.asks("diamond", "fallback")
            child = stage.start(asks, first=first, upkeep=("backup", str(copy)), fault=fault)
            killed = child.wait() == KILLED
            stage.midway()
            if copy.exists():
                assert sum(row.over for row in check.whole(copy).executions.values()) >= 2
            again = stage.start(upkeep=("backup", f"{copy}", f"{copy}2") if not copy.exists() else ())
            assert again.wait() == 0, again.tail()
            assert not list(stage.folder.glob("*.partial*"))
            stage.finally_()
            return killed

    assert theatre.every(play) >= 50 // step


@pytest.mark.parametrize("step", [5, campaign(1)])
def test_a_restore_that_is_killed_leaves_the_old_or_the_new(theatre: Theatre, step: int) -> None:
    with theatre.stage("model") as model:
        copy = model.folder / "copy.db"
        model.close_gate()
        working = model.start(model.asks("single", "chain", "gated"), stay=True)
        for words in ("waiting", "over", "over"):
            working.line(words)
        copying = model.start(upkeep=("backup", str(copy)), stay=True)
        copying.line("backed up")
        for child in (working, copying):
            child.kill()
        model.open_gate()
        model.finish(model.asks("diamond"))
        old, new = set(model.read().executions), set(check.whole(copy).executions)
        assert (len(new), len(old)) == (3, 4) and new < old

        def play(number: int) -> bool:
            with theatre.stage(str(number), like=model) as stage:
                order = ("restore", str(stage.folder / "copy.db"))
                child = stage.start(upkeep=order, fault=Fault("kill-step", number * step))
                killed = child.wait() == KILLED
                Database(Location(stage.database)).writer().close()
                found = check.whole(stage.database)
                assert set(found.executions) in ([old, new] if killed else [new])
                again = stage.start(upkeep=order)
                assert again.wait() == 0, again.tail()
                found = check.whole(stage.database)
                assert set(found.executions) == new
                assert not [row for row in found.runners.values() if row.state == "alive"]
                assert {row.reason for row in found.rows if row.state == "interrupted"} == {"lost_lease"}
                kept = list(stage.folder.glob("work.db.before-restore-?"))
                assert all(file.stat().st_nlink == 1 for file in (stage.database, *kept))
                assert any(set(check.whole(file).executions) == old for file in kept)
                assert not list(stage.folder.glob("*.partial*"))
                stage.finish()
                assert all(row.over for row in stage.read().executions.values())
                return killed

        assert theatre.every(play) >= 20 // step


@pytest.mark.parametrize("step", [7, campaign(1)])
def test_a_pruning_that_is_killed_leaves_nothing_half(theatre: Theatre, step: int) -> None:
    with theatre.stage("model", bare=True) as model:
        live, young = fill(model.database)

        def play(number: int) -> bool:
            with theatre.stage(str(number), like=model) as stage:
                child = stage.start(fault=Fault("kill-step", number * step), keep_completed_days=1, stay=True)
                died = died_before(child, lambda: set(stage.read().executions) == live | young)
                whole_or_gone(stage.database)
                assert live | young <= set(stage.read().executions)
                again = stage.start(keep_completed_days=1, stay=True)
                assert not died_before(again, lambda: set(stage.read().executions) == live | young)
                whole_or_gone(stage.database)
                return died

        assert theatre.every(play) >= 60 // step


def died_before(child: Child, condition: Callable[[], bool]) -> bool:
    """Wait until the child dies, or until the condition holds, and then kill it."""
    while child.outlives(0.01):
        if condition():
            child.kill()
            return False
    return True


def fill(path: Path) -> tuple[set[str], set[str]]:
    """700 executions that are old, some that are old and alive, one that is young; return all but the first."""
    writer = Database(Location(path)).writer()
    now = SystemClock().now()
    old = now - 40 * DAY
    writer.register_runner(RunnerRow("long-ago", "host", 1, old, "alive", 0))
    groups: list[Item] = []
    ends: list[Item] = []

    def add(made: int) -> str:
        ids._forget()
        id = ids.new_id(made)
        row = NewExecution(
            id, "single", "v", ExecutionStatus.RUNNING, '{"n": 1}', None, 0, "[]", "long-ago", made, made
        )
        groups.append(Item(id, new=row, starts=[AttemptStart(id, "only", 1, "long-ago", made)]))
        return id

    def end(id: str, made: int) -> None:
        attempt = AttemptEnd(id, "only", 1, AttemptState.COMPLETED, made + 1)
        progress = Progress(id, "long-ago", ExecutionStatus.COMPLETED, None, made, made + 1, None, "{}")
        ends.append(Item(id, ends=[attempt], progress=progress))

    for number in range(700):
        end(add(old + number * 1000), old + number * 1000)
    live = {add(old + number) for number in range(20)}
    young = add(now)
    end(young, now)
    writer.commit(Group("long-ago", 1, tuple(groups)))
    writer.commit(Group("long-ago", 2, tuple(ends)))
    writer.recover("long-ago", Reason.SHUTDOWN, now)
    writer.close()
    return live, {young}


def whole_or_gone(path: Path) -> None:
    """No attempt without its execution, and no execution without its attempt."""
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        assert connection.execute("PRAGMA integrity_check").get == "ok"
        for text in (
            "SELECT count(*) FROM attempts WHERE execution NOT IN (SELECT id FROM executions)",
            "SELECT count(*) FROM executions WHERE id NOT IN (SELECT execution FROM attempts)",
        ):
            assert connection.execute(text).get == 0, text
    finally:
        connection.close()


def test_a_runner_whose_database_is_replaced_acknowledges_nothing_more(stage: Stage) -> None:
    """An older copy is moved over the file by hand. What was acknowledged is in the old file and its log."""
    copy = stage.folder / "copy.db"
    child = stage.start(stage.asks(*["single"] * 3000), upkeep=("backup", str(copy)), pace="in turn")
    child.line("backed up")
    for _ in range(10):
        child.line("acked")
    old = stage.folder / "old.db"
    os.link(stage.database, old)
    copy.replace(stage.database)
    book = ledger.Ledger(stage.ledger)
    book.write("moved")
    assert child.wait() not in (0, KILLED)
    assert "ForeignConnection" in child.tail() and "removed or replaced" in child.tail()
    entries = ledger.read(stage.ledger)
    moved = next(line for line, entry in enumerate(entries) if entry.kind == "moved")
    late = [entry for entry in entries[moved:] if entry.kind == "ack"]
    assert len(late) <= 1, "one may have been looked after just before"
    stage.database.with_name("work.db-wal").rename(stage.folder / "old.db-wal")
    acked = {entry.words[1] for entry in entries[:moved] if entry.kind == "ack"}
    assert acked and acked <= set(check.whole(old).executions)


@pytest.mark.parametrize("killed", [False, True])
def test_rows_of_runners_that_are_removed_under_them_lose_no_work(stage: Stage, killed: bool) -> None:
    """What a runner owned is found by its lease, and not by its row."""
    stage.close_gate()
    first = stage.start(stage.asks("gated", "gated", "chain"), stay=True)
    for words in ("waiting", "waiting", "over"):
        first.line(words)
    second = stage.start(stage.asks("gated"), stay=True)
    second.line("waiting")
    if killed:
        first.kill()
    stranger = apsw.Connection(str(stage.database))
    stranger.set_busy_timeout(10_000)
    stranger.execute("DELETE FROM runners")
    stranger.close()
    stage.open_gate()
    later = stage.start(stage.asks("single"))
    assert later.wait() == 0, later.tail()
    for child in (first, second):
        child.signal(signal.SIGTERM)
        assert child.wait() == (KILLED if killed and child is first else 0), child.tail()
    found = check.whole(stage.database)
    assert [row.status for row in found.executions.values()] == ["completed"] * 5
