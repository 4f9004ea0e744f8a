"""The table of failpoints: at each of them the engine fails, waits and dies, and nothing acknowledged is lost."""

from __future__ import annotations

import asyncio
import multiprocessing
import signal
from pathlib import Path

import pytest

from cloacina.clock import SystemClock
from cloacina.errors import StoreUnavailable
from cloacina.model import ids
from cloacina.testing import FAILPOINTS, failpoint
from support.failpoint_program import die, ends_well, leave_behind, perform
from support.runners import outside

ERRORS: dict[str, type[Exception]] = {
    "lease.renew": RuntimeError, "claim.after": RuntimeError, "body.before": RuntimeError, "body.after": RuntimeError,
    "settle.before": RuntimeError, "effects.before": RuntimeError, "result.before": RuntimeError,
    "checkpoint.before": RuntimeError, "checkpoint.after": RuntimeError, "defer.before": RuntimeError,
    "defer.after": RuntimeError,
}  # fmt: skip
"""What goes wrong there; elsewhere the database does not take part."""

REFUSED = {
    "open.before", "close.before", "prune.before", "prune.after", "lease.hold", "peers.learn", "claim.after",
    "body.before", "settle.before", "effects.before", "result.before",
}  # fmt: skip
"""Where an error is told to the program: the runner cannot start or end, or stops. Elsewhere it gets over it."""


forks = multiprocessing.get_context("forkserver")
forks.set_forkserver_preload(["cloacina.runner", "cloacina.testing.failpoints"])


IN_THE_STORE = {
    "commit",
    "submit",
    "fork",
    "command",
    "register",
    "versions",
    "prune",
    "open",
    "read",
    "close",
}
"""Where PostgreSQL has code of its own, but for what takes a death, which nobody sees there for seconds."""

TABLE = [
    *(("sqlite", name, what) for name in FAILPOINTS for what in ("error", "delay", "kill")),
    *(
        pytest.param("postgres", name, what, marks=pytest.mark.campaign if what == "kill" else ())
        for name in FAILPOINTS
        if name.partition(".")[0] in IN_THE_STORE
        for what in ("error", "kill")
    ),
]


@pytest.fixture(autouse=True)
def ids_of_today(monkeypatch: pytest.MonkeyPatch) -> None:
    """An earlier test's clock may have been far ahead of the real one, and what is old is told by its id."""
    monkeypatch.setattr(ids, "_last", 0)


@pytest.fixture
def database(backend: str, request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, str | None]:
    """A URL and a schema. On SQLite a runner died there, and left an execution of an older version."""
    if backend == "postgres":
        schema: str = request.getfixturevalue("schema")
        return request.getfixturevalue("postgres").url(), schema
    path = tmp_path / "work.db"
    outside(path, lambda store: leave_behind(store, SystemClock().now()))
    return str(path), None


@pytest.mark.parametrize(("backend", "name", "what"), TABLE)
async def test_nothing_is_lost(
    name: str, what: str, database: tuple[str, str | None], tmp_path: Path
) -> None:
    told = tmp_path / "acknowledged"
    await HAPPENS[what](name, database, told)
    lines = told.read_text().splitlines()
    await ends_well(*database, {id: int(number) for id, number in map(str.split, lines)})


async def an_error(name: str, database: tuple[str, str | None], told: Path) -> None:
    error = ERRORS.get(name, StoreUnavailable)
    with failpoint(name, error=error("by the test")):
        try:
            await asyncio.wait_for(works(name, database, told), 30)
        except error as refused:
            assert "by the test" in str(refused)
            assert name in REFUSED
        else:
            assert name not in REFUSED
            assert len(told.read_text().splitlines()) == 3


async def a_delay(name: str, database: tuple[str, str | None], told: Path) -> None:
    with failpoint(name, delay=0.02):
        await works(name, database, told)
    assert len(told.read_text().splitlines()) == 3


async def a_kill(name: str, database: tuple[str, str | None], told: Path) -> None:
    child = forks.Process(target=die, args=(*database, name, str(told)))
    child.start()
    await asyncio.to_thread(child.join, 60)
    assert child.exitcode == -signal.SIGKILL


HAPPENS = {"error": an_error, "delay": a_delay, "kill": a_kill}


async def works(name: str, database: tuple[str, str | None], told: Path) -> None:
    with told.open("a") as acknowledged:
        await perform(*database, lambda id, number: print(id, number, file=acknowledged), name)
