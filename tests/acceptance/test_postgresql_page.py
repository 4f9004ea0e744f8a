"""The pages about PostgreSQL: their shell and their SQL do what they say, on a real server."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, LiteralString, cast

import psycopg
import pytest

from cloacina import Client, Context, Runner, Settings, Workflow
from cloacina.model.status import ExecutionStatus
from support.runners import Gate

if TYPE_CHECKING:
    from support.postgres.server import PostgresServer

PAGES = Path(__file__).resolve().parents[2] / "docs" / "how-to"


def blocks(page: str, language: str) -> list[str]:
    """The code blocks of a page in a language."""
    text = (PAGES / page).read_text("utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


SET_UP, *WATCHING = blocks("postgresql.md", "sql")
READER, *ASKING = blocks("sql.md", "postgresql")
_, IN_A_MINUTE, DUMP, RESTORE = blocks("postgresql.md", "sh")


class Shop:
    """Workflows that end, fail, and are held."""

    def __init__(self) -> None:
        self.gate = Gate()
        self.orders, self.slow = Workflow("orders"), Workflow("slow")

        @self.orders.task(retry=False)
        async def pay(ctx: Context) -> None:
            if ctx["customer"] == "broke":
                raise ValueError("no money")
            ctx["total"] = 7

        @self.slow.task
        async def gated(ctx: Context) -> None:
            await self.gate.pass_through(ctx)


def ask(url: str, text: str) -> list[tuple[Any, ...]]:
    """Run statements on a connection of their own; the rows of the last."""
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in filter(str.strip, text.split(";")):
            cursor = connection.execute(cast("LiteralString", statement))
        return cursor.fetchall() if cursor.description else []


@pytest.fixture
def jobs(postgres: PostgresServer) -> Iterator[str]:
    """The URL of a database that was set up as the page says."""
    ask(postgres.url(), SET_UP)
    yield postgres.url("jobs", user="jobs", password="change-this")
    ask(postgres.url(), "DROP DATABASE jobs WITH (FORCE); DROP ROLE IF EXISTS analyst; DROP ROLE jobs")


@pytest.fixture
async def busy(jobs: str) -> AsyncIterator[str]:
    """The same with something of everything in it: what ended, what runs, and what waits."""
    shop = Shop()
    async with Runner(jobs, workflows=[shop.orders]) as runner:
        for customer in ("ada", "broke"):
            await runner.execute("orders", {"customer": customer}, tags=["paid"])
    async with Runner(jobs, workflows=[shop.slow]) as runner, Client(jobs) as client:
        await runner.submit("slow")
        await shop.gate.reached()
        await client.submit("orders", {"customer": "grace"})
        yield jobs
        shop.gate.open()


@pytest.fixture
def shell() -> Iterator[Callable[[str], str]]:
    """Runs a script in one folder, with PostgreSQL's programs at hand, and not as root."""
    from support.postgres.keeper import Keeper
    from support.postgres.programs import postgres_programs, run

    with closing(Keeper("page")) as keeper:
        programs = postgres_programs(keeper.folder)
        keeper.finally_run("sh", "-c", f"test ! -d pgdata || {programs}/pg_ctl -D pgdata -m immediate stop")
        yield lambda text: run("sh", "-ec", f'PATH="{programs}:$PATH"\n{text}', cwd=keeper.folder)


async def test_a_database_is_set_up_watched_and_asked(postgres: PostgresServer, busy: str) -> None:
    for text in WATCHING:
        assert ask(busy, text), text
    ask(postgres.url("jobs"), READER)
    analyst = postgres.url("jobs", user="analyst", password="change-this")
    [(id,)] = ask(analyst, "SELECT id FROM executions WHERE status = 'failed'")
    for text in ASKING:
        found = ask(analyst, text.replace(":'id'", f"'{id}'"))
        assert any(value is not None for row in found for value in row), text
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        ask(analyst, "SET default_transaction_read_only = off; DELETE FROM executions")


def test_there_are_queries() -> None:
    assert len(WATCHING) >= 4
    assert len(ASKING) >= 4


def test_a_server_is_made_in_a_minute(shell: Callable[[str], str]) -> None:
    """The programs are found by other means than the page's, since root cannot run them where it has them."""
    from support.postgres.server import free_port

    port = str(free_port())
    _, _, script = IN_A_MINUTE.partition('bin:$PATH"\n')
    assert "PostgreSQL 18" in shell(script.replace("5433", port))
    assert ask(f"postgresql://postgres@127.0.0.1:{port}/jobs", "SELECT 1") == [(1,)]


async def test_what_ran_when_a_dump_was_made_runs_again(jobs: str, shell: Callable[[str], str]) -> None:
    first, again = Shop(), Shop()
    async with Runner(jobs, workflows=[first.slow]) as runner:
        id = (await runner.submit("slow")).id
        await first.gate.reached()
        shell(f"DATABASE_URL={jobs}\n{DUMP}")
        first.gate.open()
    shell(f"DATABASE_URL={jobs}\n{RESTORE}")
    again.gate.open()
    async with Runner(jobs, workflows=[again.slow], settings=Settings(poll_interval=0.05)) as runner:
        result = await runner.result(id)
    assert result.status is ExecutionStatus.COMPLETED
