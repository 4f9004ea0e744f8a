"""The committer under faults of the database: nothing lost, nothing twice, numbers bound to their content."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cloacina.engine.committer import Batch, WriteJob, Written
from cloacina.errors import (
    CloacinaError,
    ForeignConnection,
    StoreBusy,
    StoreCorrupt,
    StoreRefused,
    StoreUnavailable,
)
from cloacina.model.context.context import Context
from cloacina.model.status import AttemptState, ExecutionStatus, TaskState
from cloacina.model.task import task
from cloacina.model.workflow import Workflow
from cloacina.runner import Runner
from cloacina.store.location import parse_location
from cloacina.store.rows import ClaimRequest, Group, Item
from cloacina.store.sqlite.database import Database
from store.make import ME, Stores, new, runner, start
from support.clock import until
from support.runners import Gate, in_memory, runner_on
from support.stores import Fault, Interference, fails, interfere, numbers, unsure

COMPLETED, FAILED, PARKED = ExecutionStatus.COMPLETED, ExecutionStatus.FAILED, ExecutionStatus.PARKED


def chain(length: int = 3, name: str = "chain") -> Workflow:
    workflow, before = Workflow(name, retry=False), list[str]()
    for n in range(length):

        async def body(ctx: Context, n: int = n) -> None:
            ctx["ran"].append(n)
            STARTS[ctx["id"], n] = STARTS.get((ctx["id"], n), 0) + 1

        workflow.add(task(body, id=f"t{n}", dependencies=before))
        before = [f"t{n}"]
    return workflow


STARTS: dict[tuple[int, int], int] = {}


@pytest.fixture(autouse=True)
def nothing_started() -> None:
    STARTS.clear()


async def run_all(runner: Runner, workflow: Workflow, many: int) -> list[Any]:
    return await asyncio.gather(
        *(runner.execute(workflow, {"id": n, "ran": []}, timeout=25) for n in range(many))
    )


def same_content_under_each_number(groups: list[Group]) -> bool:
    """A number that was sent twice had the same items both times, and none was left out."""
    sent: dict[int, set[tuple[int, ...]]] = {}
    for group in groups:
        sent.setdefault(group.number, set()).add(tuple(map(id, group.items)))
    return sorted(sent) == list(range(min(sent), max(sent) + 1)) and all(
        len(one) == 1 for one in sent.values()
    )


FAULTS: dict[str, Callable[[], list[Fault | None]]] = {
    "busy once": lambda: [fails(StoreBusy("locked"))],
    "busy six times": lambda: [fails(StoreBusy("locked"))] * 6,
    "away once": lambda: [fails(StoreUnavailable("disk full"))],
    "away six times": lambda: [fails(StoreUnavailable("disk full"))] * 6,
    "applied, but unsure": lambda: [unsure(StoreUnavailable("no answer"))],
    "applied, unsure, then busy": lambda: [unsure(StoreUnavailable("no answer")), fails(StoreBusy("locked"))],
    "unsure three times": lambda: [unsure(StoreUnavailable("no answer"))] * 3,
    "mixed": lambda: (
        [fails(StoreBusy("")), fails(StoreUnavailable("")), unsure(StoreUnavailable("")), None] * 2
    ),
}


@pytest.mark.parametrize("many", [1, 20])
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("database", ["memory", "file"])
async def test_a_fault_that_passes_loses_nothing_and_repeats_nothing(
    database: str, fault: str, many: int, tmp_path: Path
) -> None:
    url = "sqlite://:memory:" if database == "memory" else tmp_path / "c.db"
    async with runner_on(url) as runner:
        await runner.execute(chain(), {"id": -1, "ran": []})
        store = interfere(runner)
        store.plan("commit", *FAULTS[fault]())
        results = await run_all(runner, chain(), many)
        assert {result.status for result in results} == {COMPLETED}
        assert [result.context["ran"] for result in results] == [[0, 1, 2]] * many
        for result in results:
            assert await runner.get(result.id) == result
    assert set(STARTS.values()) == {1}
    assert same_content_under_each_number(store.groups)


@pytest.mark.parametrize("fault", [fails(StoreBusy("locked")), fails(StoreUnavailable("disk full"))])
@pytest.mark.parametrize("method", ["insert_unowned", "register_versions", "send"])
async def test_other_writes_are_tried_again_too(method: str, fault: Fault) -> None:
    gate = Gate()
    async with in_memory(window=1) as runner:
        await runner.submit(Workflow("blocker", [task(gate.pass_through, id="it")]))
        await gate.reached()
        interfere(runner).plan(method, fault, fault)
        handle = await runner.submit(chain())
        if method == "send":
            assert await handle.cancel() is ExecutionStatus.CANCELLED
        gate.open()


@pytest.mark.parametrize("error", [StoreUnavailable("no answer"), StoreBusy("locked")])
async def test_a_submit_whose_outcome_is_unknown_is_stored_once(error: Exception) -> None:
    async with in_memory() as runner:
        await runner.register(chain())
        interfere(runner).plan("insert_unowned", unsure(error), unsure(error))
        result = await runner.execute("chain", {"id": 0, "ran": []}, key="k")
        handles = await runner.submit_many("chain", [{"id": n, "ran": []} for n in range(1, 4)])
        for handle in handles:
            await handle.result()
        assert len(await runner.list()) == 4
    assert result.status is COMPLETED
    assert set(STARTS.values()) == {1}


async def test_a_fault_is_said_once_and_not_in_a_flood(caplog: pytest.LogCaptureFixture) -> None:
    async with in_memory() as runner:
        interfere(runner).plan("commit", *[fails(StoreUnavailable("the disk is full"))] * 6)
        await runner.execute(chain(), {"id": 0, "ran": []})
    assert [record.message for record in caplog.records if "disk is full" in record.message] == [
        "the database does not take part for now, trying again: the disk is full"
    ]


def rows(group: Group) -> int:
    """How many rows a group writes."""
    lists = (part for item in group.items for part in (item.starts, item.ends, item.verdicts, item.events))
    single = ((item.new, item.progress) for item in group.items)
    return sum(map(len, lists)) + sum(row is not None for pair in single for row in pair)


async def test_a_group_is_closed_when_it_is_long() -> None:
    async with in_memory(group_rows=10, async_slots=1) as runner:
        await runner.execute(chain(), {"id": -1, "ran": []})
        store = interfere(runner)
        hold = store.hold("commit")
        running = [asyncio.ensure_future(runner.execute("chain", {"id": n, "ran": []})) for n in range(100)]
        await hold.reached()
        hold.release()
        results = await asyncio.gather(*running)
    assert {result.status for result in results} == {COMPLETED}
    assert 5 <= max(rows(group) for group in store.groups) <= 14


# Content that the store refuses.


def refuses_result_of(n: int, store: Interference) -> None:
    """Refuse every group in which execution ``n`` ends a task as Completed."""

    def refuses(group: Group) -> Exception | None:
        bad = any(
            end.state is AttemptState.COMPLETED and f"[{n}" in (end.delta or "")
            for item in group.items
            for end in item.ends
        )
        return StoreRefused("this delta cannot be stored") if bad else None

    store.refuses = refuses


def marked() -> Workflow:
    workflow = Workflow("marked", retry=5)

    @workflow.task
    async def it(ctx: Context) -> None:
        STARTS[ctx["id"], 0] = STARTS.get((ctx["id"], 0), 0) + 1
        ctx["mark"] = [ctx["id"]]

    return workflow


@pytest.mark.parametrize("bad", [0, 4, 9])
async def test_one_bad_item_among_ten_fails_alone(bad: int) -> None:
    gate = Gate()
    workflow = Workflow("marked", retry=5)

    @workflow.task
    async def it(ctx: Context) -> None:
        STARTS[ctx["id"], 0] = STARTS.get((ctx["id"], 0), 0) + 1
        await gate.pass_through(ctx)
        ctx["mark"] = [ctx["id"]]

    async with in_memory() as runner:
        handles = [await runner.submit(workflow, {"id": n}) for n in range(10)]
        await gate.reached(10)
        refuses_result_of(bad, store := interfere(runner))
        gate.open()
        results = [await handle.result(timeout=20) for handle in handles]
        again = await runner.get(handles[bad].id)
    assert [result.status for result in results] == [FAILED if n == bad else COMPLETED for n in range(10)]
    assert set(STARTS.values()) == {1}
    failed = results[bad].tasks["it"]
    assert (failed.state, failed.attempts, again) == (TaskState.FAILED, 1, results[bad])
    assert str(failed.error) == "cloacina.errors.StoreRefused: this delta cannot be stored"
    assert max(len(group.items) for group in store.groups) == 10
    applied = numbers([group for group in store.groups if store.refuses(group) is None])
    assert applied == list(range(applied[0], applied[0] + len(applied)))


async def test_what_is_refused_twice_is_parked_and_others_finish(caplog: pytest.LogCaptureFixture) -> None:
    gate = Gate()
    workflow = Workflow("one", [task(gate.pass_through, id="it")])
    async with in_memory() as runner:
        handle = await runner.submit(workflow)
        await gate.reached()
        store = interfere(runner)
        store.refuses = lambda group: (
            StoreRefused("no end can be stored") if any(item.ends for item in group.items
                                                        if item.execution == handle.id) else None
        )  # fmt: skip
        gate.open()
        await until_parked(runner, handle.id)
        await until(lambda: not runner._engine.life.drivers)
        explained = await runner.explain(handle.id)
        assert explained.reason == "the store refused what it wrote: no end can be stored"
        assert (await runner.execute(chain(), {"id": 0, "ran": []})).status is COMPLETED
        (info,) = await runner.list(status=PARKED)
        assert (info.id, info.error, info.owner) == (handle.id, explained.reason, None)
        store.refuses = lambda group: None
        assert await handle.cancel() is ExecutionStatus.CANCELLED
    assert len([record for record in caplog.records if "the store refused" in record.message]) == 2


async def test_what_ran_when_its_execution_was_parked_runs_again_when_that_is_resumed() -> None:
    """The end of one body cannot be stored; the other body is cut, and ends nowhere."""
    gate, ends = Gate(), asyncio.Event()

    async def ending(ctx: Context) -> None:
        await ends.wait()

    workflow = Workflow("two", [task(gate.pass_through, id="long"), task(ending, id="short")], retry=False)
    async with in_memory() as runner:
        handle = await runner.submit(workflow)
        await gate.reached()
        store = interfere(runner)
        store.refuses = lambda group: (
            StoreRefused("no end can be stored") if any(item.ends for item in group.items) else None
        )
        ends.set()
        await until_parked(runner, handle.id)
        store.refuses = lambda group: None
        gate.open()
        await handle.resume()
        result = await handle.result(timeout=20)
    assert (result.status, gate.entered) == (COMPLETED, 2)
    for found in result.tasks.values():
        assert [(attempt.state, attempt.reason) for attempt in found.history] == [
            (AttemptState.INTERRUPTED, "store_refused"),
            (AttemptState.COMPLETED, None),
        ]


async def until_parked(runner: Runner, id: str) -> None:
    async def look() -> None:
        while await runner.status(id) is not PARKED:
            await asyncio.sleep(0.001)

    await asyncio.wait_for(look(), 20)


async def test_what_cannot_even_be_parked_is_dropped_and_others_finish(
    caplog: pytest.LogCaptureFixture,
) -> None:
    gate = Gate()
    workflow = Workflow("one", [task(gate.pass_through, id="it")])
    async with in_memory() as runner:
        handle = await runner.submit(workflow)
        await gate.reached()
        store = interfere(runner)
        store.refuses = lambda group: (
            StoreRefused("nothing") if any(item.execution == handle.id for item in group.items) else None
        )
        gate.open()
        await until(lambda: "the execution is given up" in caplog.text)
        assert (await runner.execute(chain(), {"id": 0, "ran": []})).status is COMPLETED
        assert handle.id not in runner._engine.life.drivers


async def test_a_refused_submit_raises_and_leaves_nothing() -> None:
    async with in_memory() as runner:
        await runner.execute(chain(), {"id": 0, "ran": []})
        store = interfere(runner)
        store.refuses = lambda group: (
            StoreRefused("bad input")
            if any(item.new and "bad" in item.new.input for item in group.items)
            else None
        )
        answers = await asyncio.gather(
            *(runner.submit("chain", {"id": n, "ran": ["bad"] if n == 3 else []}) for n in range(1, 7)),
            return_exceptions=True,
        )
        with pytest.raises(StoreRefused):
            await runner.execute("chain", {"id": 9, "ran": ["bad"]}, timeout=20)
        refused = [answer for answer in answers if isinstance(answer, BaseException)]
        assert [type(answer) for answer in refused] == [StoreRefused]
        for answer in answers:
            if not isinstance(answer, BaseException):
                assert (await answer.result()).status is COMPLETED
        assert len(await runner.list()) == 6


async def test_a_refused_item_does_not_swallow_the_claim_beside_it() -> None:
    """The group that claims is the one that is refused: what waits is claimed all the same."""
    gate, waits = Gate(), Gate()
    waits.open()
    async with in_memory(window=1) as runner:
        holds = await runner.submit(Workflow("holds", [task(gate.pass_through, id="it")]))
        await gate.reached()
        handles = [
            await runner.submit(Workflow("waits", [task(waits.pass_through, id="it")])) for _ in range(3)
        ]
        store = interfere(runner)
        store.refuses = lambda group: (
            StoreRefused("no") if any(end.state is AttemptState.COMPLETED for item in group.items
                                      if item.execution == holds.id for end in item.ends) else None
        )  # fmt: skip
        gate.open()
        assert (await holds.result(timeout=20)).status is FAILED
        for handle in handles:
            assert (await handle.result(timeout=20)).status is COMPLETED


# A database that is beyond help.


async def test_a_damaged_database_stops_the_engine_and_everybody_is_told(tmp_path: Path) -> None:
    gate = Gate()
    async with runner_on(tmp_path / "c.db") as runner:
        waiting = asyncio.ensure_future(runner.execute(Workflow("one", [task(gate.pass_through, id="it")])))
        await gate.reached()
        interfere(runner).plan("commit", fails(StoreCorrupt("the file is damaged")))
        gate.open()
        with pytest.raises(StoreCorrupt, match="the file is damaged"):
            await waiting
        for call in (runner.submit(chain()), runner.list(), runner.execute("one"), runner.register(chain(2))):
            with pytest.raises(StoreCorrupt):
                await call


@pytest.mark.sqlite_only("the files of a server are its own affair")
@pytest.mark.parametrize("file", ["c.db-wal", "c.db"])
async def test_a_database_whose_files_were_taken_stops_the_engine(tmp_path: Path, file: str) -> None:
    async with runner_on(tmp_path / "c.db") as runner:
        await runner.execute(chain(), {"id": 0, "ran": []})
        (tmp_path / file).unlink()
        with pytest.raises(ForeignConnection, match="was removed or replaced"):
            await asyncio.wait_for(runner.execute("chain", {"id": 1, "ran": []}), 20)
        with pytest.raises(ForeignConnection):
            await runner.submit("chain", {"id": 2, "ran": []})


async def test_a_submit_in_flight_is_told_that_the_engine_stopped() -> None:
    async with in_memory() as runner:
        await runner.execute(chain(), {"id": 0, "ran": []})
        interfere(runner).plan("commit", fails(StoreCorrupt("damaged")))
        with pytest.raises(StoreCorrupt):
            await asyncio.wait_for(runner.submit("chain", {"id": 1, "ran": []}), 20)


# The job that writes one batch, run against a real store as its thread runs it.


class Job:
    """A batch of new executions; those in ``bad`` are stored already. ``faults`` in the order of the calls."""

    def __init__(self, ids: str, bad: str, claim: bool, faults: list[Fault | None]) -> None:
        database = Database(parse_location("sqlite://:memory:"))
        writer = database.writer()
        writer.register_runner(runner())
        writer.insert_unowned([new("unowned"), *(new(id, workflow="other") for id in bad)])
        self.stores = Stores(writer, database.reader())
        self.store = Interference(writer)
        self.store.plan("commit", *faults)
        items = tuple(
            Item(
                id, new=new(id, owner=ME, status=ExecutionStatus.RUNNING, started=1), starts=[start(id, "t")]
            )
            for id in ids
        )
        request = ClaimRequest((("wf", "v1"),), 10, 100) if claim else None
        self.job = WriteJob(ME, 0, Batch(items, request))

    def run(self) -> Written:
        """As the store's thread does: again and again while only time is needed."""
        while True:
            try:
                return self.job(self.store)
            except (StoreBusy, StoreUnavailable):
                continue

    def stored(self, ids: str) -> str:
        """Those of ``ids`` that the batch has stored."""
        rows = [self.stores.reader.execution(id) for id in ids]
        return "".join(row.id for row in rows if row is not None and row.owner == ME)


BUSY, AWAY, UNSURE = fails(StoreBusy("")), fails(StoreUnavailable("")), unsure(StoreUnavailable(""))
PLANS = [
    [],
    *map(list, itertools.product([None, BUSY, AWAY, UNSURE], repeat=3)),
    [AWAY, None, UNSURE, AWAY] * 3,
]


@pytest.mark.sqlite_only(
    "the faults stand before the store; test_unknown_outcomes.py draws from them on both"
)
@pytest.mark.parametrize("claim", [False, True])
@pytest.mark.parametrize(("ids", "bad"), [("a", ""), ("a", "a"), ("abcd", ""), ("abcd", "a"), ("abcd", "d"),
                                          ("abcde", "bd"), ("abc", "abc")])  # fmt: skip
def test_a_batch_under_every_order_of_faults(ids: str, bad: str, claim: bool) -> None:
    for plan in PLANS:
        job = Job(ids, bad, claim, plan.copy())
        written = job.run()
        good = "".join(id for id in ids if id not in bad)
        assert job.stored(ids) == good
        assert {ids[position] for position in written.refused} == set(bad)
        assert ("unowned" in [stored.id for stored in written.claimed]) is claim
        (row,) = job.stores.reader.runners()
        assert row.group_no == written.number


@pytest.mark.parametrize("error", [CloacinaError("odd"), RuntimeError("a defect")])
async def test_an_error_that_nobody_expects_stops_the_engine_and_not_the_caller(error: Exception) -> None:
    async with in_memory() as runner:
        await runner.execute(chain(), {"id": 0, "ran": []})
        interfere(runner).plan("commit", fails(error))
        with pytest.raises(type(error)):
            await asyncio.wait_for(runner.execute("chain", {"id": 1, "ran": []}), 20)
