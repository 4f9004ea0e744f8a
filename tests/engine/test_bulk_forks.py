"""Retry and fork of many executions: by the filters of a list, page by page, with a dry run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cloacina.engine.asking import forks
from cloacina.errors import StoreUnavailable, ValidationError
from cloacina.model.context.context import Context
from cloacina.model.result import ForkResult
from cloacina.model.status import ExecutionStatus
from cloacina.model.task import task
from cloacina.model.workflow import Workflow
from cloacina.runner import Runner
from support.runners import Gate, by_hand, in_memory, runner_on
from support.stores import interfere, unsure

COMPLETED, FAILED, CANCELLED = ExecutionStatus.COMPLETED, ExecutionStatus.FAILED, ExecutionStatus.CANCELLED


class Mill:
    """A workflow of two tasks, whose second one fails while the mill is ill, or the input says so."""

    def __init__(self) -> None:
        self.ill = True
        self.gate = Gate()
        self.gate.open()

    def workflow(self, name: str = "mill", *, more: str = "") -> Workflow:
        async def first(ctx: Context) -> None:
            ctx["first"] = True

        async def second(ctx: Context) -> None:
            await self.gate.pass_through(ctx)
            if self.ill and ctx.get("fail", True):
                raise ValueError("ill")
            ctx["second"] = more

        return Workflow(
            name,
            [task(first, id="first"), task(second, id=f"second{more}", dependencies=["first"])],
            retry=False,
        )


async def run(runner: Runner, count: int, *, name: str = "mill", **options: Any) -> list[str]:
    """The ids of so many executions that have ended, oldest first."""
    return [(await runner.execute(name, **options)).id for _ in range(count)]


async def finished(runner: Runner, results: list[ForkResult]) -> list[str]:
    return [(await runner.result(one.fork, timeout=20)).status for one in results if one.fork is not None]


async def test_all_that_match_are_retried_page_by_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forks, "PAGE", 3)
    mill = Mill()
    async with in_memory(mill.workflow(), mill.workflow("other")) as runner:
        ids = await run(runner, 7, tags=["x"])
        await run(runner, 1, tags=["y"])
        await run(runner, 1, name="other", tags=["x"])
        (fine,) = await run(runner, 1, input={"fail": False}, tags=["x"])
        mill.ill = False
        results = await runner.retry_many(workflow="mill", tag="x")
        assert [one.execution for one in results] == ids[::-1]
        assert all(one.tasks == ("second",) and one.refused is None for one in results)
        assert await finished(runner, results) == [COMPLETED] * 7
        assert fine not in {one.execution for one in results}
        assert [(await runner.get(one.fork or "")).forked_from for one in results] == ids[::-1]


async def test_a_dry_run_stores_nothing() -> None:
    mill = Mill()
    async with in_memory(mill.workflow()) as runner:
        (id,) = await run(runner, 1)
        told = await runner.retry_many(dry_run=True)
        assert told == [ForkResult(id, None, ("second",), None)]
        assert len(await runner.list()) == 1
        assert await runner.retry_many(dry_run=True) == told


async def test_what_has_a_fork_is_left_out_unless_it_is_wished() -> None:
    mill = Mill()
    async with in_memory(mill.workflow()) as runner:
        ids = await run(runner, 2)
        (first,) = await runner.retry_many(limit=1)
        assert first.execution == ids[1]
        await finished(runner, [first])
        results = {one.execution: one for one in await runner.retry_many()}
        assert results[ids[1]].refused == (
            f"it has a fork already, {first.fork}; skip_forked=False forks it again"
        )
        assert first.fork is not None and results[first.fork].fork is not None, "the fork failed and has none"
        assert results[ids[0]].fork is not None
        await finished(runner, list(results.values()))
        again = await runner.retry_many(skip_forked=False)
        assert len(again) == 5 and all(one.fork for one in again)


async def test_two_bulks_at_once_fork_each_once(tmp_path: Path) -> None:
    mill = Mill()
    async with runner_on(tmp_path / "c.db", mill.workflow()) as runner:
        ids = await run(runner, 2)
        mill.ill = False
        store = interfere(runner)

        def first_another(call: Any) -> Any:
            """Another process is faster: it forks one of them between our look and our insert."""
            by_hand(tmp_path / "c.db", _COPY, ids[0])
            return call()

        store.plan("insert_forks", first_another)
        results = {one.execution: one for one in await runner.retry_many()}
        assert results[ids[0]].fork is None and "it has a fork already, theirs" in (
            results[ids[0]].refused or ""
        )
        assert results[ids[1]].fork is not None


_COPY = """
    INSERT INTO executions (id, workflow, version, status, input, priority, tags, created, forked_from)
    SELECT 'theirs', workflow, 'x', 'completed', input, 0, '[]', 1, id FROM executions WHERE id = ?"""


async def test_one_that_cannot_be_forked_stops_nothing() -> None:
    mill = Mill()
    async with in_memory(mill.workflow()) as runner:
        ids = await run(runner, 3)
        await runner._engine.means.writer.run(
            lambda store: store._connection.rows(  # type: ignore[attr-defined]
                "UPDATE attempts SET delta = 'broken' WHERE execution = ?1 AND task = 'first'", (ids[1],)
            )
        )
        mill.ill = False
        results = await runner.retry_many()
        assert [one.fork is None for one in results] == [False, True, False]
        assert "delta" in (results[1].refused or "") or "JSON" in (results[1].refused or "")


async def test_live_ones_are_told_as_such() -> None:
    mill = Mill()
    async with in_memory(mill.workflow()) as runner:
        mill.gate = Gate()
        handle = await runner.submit("mill")
        await mill.gate.reached()
        (one,) = await runner.retry_many(status=["running", "failed"])
        assert one.execution == handle.id and one.fork is None
        assert "is running, and only one that has ended" in (one.refused or "")
        mill.gate.open()


async def test_an_answer_that_is_lost_makes_no_second_forks() -> None:
    mill = Mill()
    async with in_memory(mill.workflow()) as runner:
        await run(runner, 3)
        mill.ill = False
        interfere(runner).plan("insert_forks", unsure(StoreUnavailable("lost")))
        results = await runner.retry_many()
        assert [one.refused for one in results] == [None] * 3
        assert await finished(runner, results) == [COMPLETED] * 3
        assert len(await runner.list()) == 6


async def test_forks_of_many_from_a_task_with_another_context() -> None:
    mill = Mill()
    mill.ill = False
    async with in_memory(mill.workflow()) as runner:
        ids = await run(runner, 2, input={"n": 1})
        results = await runner.fork_many("mill", from_task="second", replace={"n": 2}, status="completed")
        assert [one.execution for one in results] == ids[::-1]
        assert [(await runner.result(one.fork or "", timeout=20)).context["n"] for one in results] == [2, 2]
        wrong = await runner.fork_many("mill", from_task="scond", limit=1, skip_forked=False)
        assert wrong[0].refused is not None and "Did you mean 'second'?" in wrong[0].refused
        assert await runner.fork_many("unheard of") == []


async def test_a_version_that_cannot_go_on_is_told_for_each(tmp_path: Path) -> None:
    mill = Mill()
    async with runner_on(tmp_path / "c.db", mill.workflow()) as runner:
        await run(runner, 2)
    other = Workflow("mill", [task(mill.workflow().tasks[0].fn, id="primo")])
    async with runner_on(tmp_path / "c.db", other) as runner:
        results = await runner.retry_many()
        assert ["first is gone" in (one.refused or "") for one in results] == [True, True]


@pytest.mark.parametrize(
    "options", [{"limit": 0}, {"limit": "x"}, {"status": "done"}, {"tag": 5}, {"workflow": 5}]
)
async def test_bad_filters(options: Any) -> None:
    async with in_memory() as runner:
        with pytest.raises(ValidationError):
            await runner.retry_many(**options)
