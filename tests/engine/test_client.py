"""The client: everything that needs no code, beside a runner that has it."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest

from cloacina.blocking import BlockingClient
from cloacina.client import Client
from cloacina.clock import SystemClock
from cloacina.errors import (
    ContextError,
    ExecutionFailed,
    ExecutionNotFound,
    ExecutionParked,
    ForkedProcess,
    IdempotencyConflict,
    RunnerClosed,
    StoreUnavailable,
    UnknownWorkflow,
    ValidationError,
    WrongThread,
)
from cloacina.model.context.context import Context
from cloacina.model.status import ExecutionStatus
from cloacina.model.task import task
from cloacina.model.workflow import Workflow
from cloacina.runner import Runner
from cloacina.settings import Settings
from support.clock import until
from support.runners import Gate, by_hand, runner_on

COMPLETED, PENDING = ExecutionStatus.COMPLETED, ExecutionStatus.PENDING


def doubling() -> Workflow:
    workflow = Workflow("double", retry=False)

    @workflow.task
    async def double(ctx: Context) -> None:
        ctx["twice"] = 2 * ctx["n"]

    return workflow


def owner_on(path: Path, *workflows: Workflow, **settings: Any) -> Runner:
    return runner_on(path, *workflows, clock=SystemClock(), **settings)


async def test_it_submits_by_name_and_is_told_of_the_end(tmp_path: Path) -> None:
    async with owner_on(tmp_path / "db", doubling()) as runner, Client(tmp_path / "db") as client:
        result = await client.execute("double", {"n": 21}, tags=["by-client"], priority=3)
        assert (result.status, result.context["twice"]) == (COMPLETED, 42)
        assert result == await runner.get(result.id)
        (listed,) = await client.list(workflow="double", tag="by-client")
        assert (listed.id, listed.priority) == (result.id, 3)
        handles = await client.submit_many("double", [{"n": n} for n in range(20)])
        results = await asyncio.gather(*(handle.result() for handle in handles))
        assert [one.context["twice"] for one in results] == [2 * n for n in range(20)]


async def test_a_known_workflow_may_be_submitted_while_no_runner_is_there(tmp_path: Path) -> None:
    async with owner_on(tmp_path / "db", doubling()):
        pass
    async with Client(tmp_path / "db") as client:
        handle = await client.submit("double", {"n": 1}, key="once")
        assert (await client.submit("double", {"n": 1}, key="once")).id == handle.id
        with pytest.raises(IdempotencyConflict):
            await client.submit("double", {"n": 2}, key="once")
        assert await handle.status() is PENDING
        assert "no live runner" in (await client.explain(handle.id)).reason
        assert set((await client.get(handle.id)).tasks) == {"double"}
        async with owner_on(tmp_path / "db", doubling()):
            assert (await handle.result()).context["twice"] == 2


async def test_it_raises_for_a_failure_if_asked(tmp_path: Path) -> None:
    async with owner_on(tmp_path / "db", doubling()), Client(tmp_path / "db") as client:
        with pytest.raises(ExecutionFailed, match="'n'") as failed:
            await client.execute("double", raise_on_failure=True)
        assert failed.value.result.status is ExecutionStatus.FAILED
        assert (await client.execute("double", {"n": 1}, raise_on_failure=True)).status is COMPLETED


async def test_a_handle_tells_and_forks_as_its_client_does(tmp_path: Path) -> None:
    async with owner_on(tmp_path / "db", doubling()), Client(tmp_path / "db") as client:
        handle = await client.submit("double", {"n": 1})
        assert await handle.result() == await handle.get() == await client.get(handle.id)
        assert await handle.explain() == await client.explain(handle.id)
        again = await handle.fork(from_task="double", replace={"n": 4})
        result = await again.result()
        assert (result.context["twice"], result.forked_from) == (8, handle.id)


async def test_an_unknown_workflow_is_refused(tmp_path: Path) -> None:
    async with owner_on(tmp_path / "db"), Client(tmp_path / "db") as client:
        with pytest.raises(UnknownWorkflow, match="'double'.*start one that"):
            await client.submit("double")
        async with owner_on(tmp_path / "db", doubling()):
            with pytest.raises(UnknownWorkflow, match=r"'duoble'.*db \(known: 'double'\)"):
                await client.submit("duoble")
        with pytest.raises(ValidationError, match="by their names"):
            await client.submit(doubling())  # type: ignore[arg-type]
        assert await client.list() == []
        with pytest.raises(ExecutionNotFound):
            await client.result("nothing")


async def test_it_pauses_resumes_and_cancels(tmp_path: Path) -> None:
    gate = Gate()
    workflow = Workflow("gated", [task(gate.pass_through, id="it")])
    async with owner_on(tmp_path / "db", workflow), Client(tmp_path / "db") as client:
        handle = await client.submit("gated")
        await gate.reached()
        assert await handle.pause() is ExecutionStatus.PAUSED
        assert await handle.resume() is ExecutionStatus.RUNNING
        assert await handle.cancel() is ExecutionStatus.CANCELLED
        assert (await handle.result()).status is ExecutionStatus.CANCELLED


async def test_who_waits_for_what_nobody_owns_is_told_when_another_client_cancels_it(tmp_path: Path) -> None:
    async with owner_on(tmp_path / "db", doubling()):
        pass
    async with Client(tmp_path / "db") as client, Client(tmp_path / "db") as other:
        handle = await client.submit("double")
        waiting = asyncio.create_task(handle.result())
        await until(lambda: client._asked().hub.stored, "a waiter")
        assert await other.cancel(handle.id) is ExecutionStatus.CANCELLED
        assert (await asyncio.wait_for(waiting, 20)).status is ExecutionStatus.CANCELLED


async def test_bad_inputs_store_nothing(tmp_path: Path) -> None:
    async with owner_on(tmp_path / "db", doubling()), Client(tmp_path / "db") as client:
        with pytest.raises(ValidationError, match="must be a mapping"):
            await client.submit("double", 3)
        with pytest.raises(Exception, match="nan is not JSON") as caught:
            await client.submit_many("double", [{"n": 1}, {"n": float("nan")}])
        assert "inputs[1]" in caught.value.__notes__[0]
        assert await client.list() == []


async def test_it_makes_no_database(tmp_path: Path, backend: str) -> None:
    said = "has no such schema" if backend == "postgres" else r"typo\.db is not there: start a runner"
    for _ in range(2):
        with pytest.raises(StoreUnavailable, match=said):
            await Client(tmp_path / "typo.db").start()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.sqlite_only("an empty schema is tested with the store")
async def test_an_empty_file_is_no_database_either(tmp_path: Path) -> None:
    (tmp_path / "typo.db").touch()
    with pytest.raises(StoreUnavailable, match=r"typo\.db is empty: start a runner"):
        await Client(tmp_path / "typo.db").start()
    assert (tmp_path / "typo.db").stat().st_size == 0


async def test_it_may_wait_until_a_runner_makes_the_database(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    client = Client(tmp_path / "db", settings=Settings(start_patience=60.0))
    starting = asyncio.create_task(client.start())
    await until(lambda: "start a runner" in caplog.text, "the first try")
    async with owner_on(tmp_path / "db", doubling()):
        await starting
        assert (await client.execute("double", {"n": 1})).status is COMPLETED
        await client.shutdown()


@pytest.mark.sqlite_only("no other database is in memory")
async def test_a_database_in_memory_has_no_clients() -> None:
    client = Client("sqlite://:memory:")
    with pytest.raises(ValidationError, match="belongs to its runner"):
        await client.start()


async def test_it_is_used_open_on_its_own_thread_and_in_its_own_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with owner_on(tmp_path / "db"):
        pass
    client = Client(tmp_path / "db")
    with pytest.raises(RunnerClosed, match="async with Client"):
        await client.list()
    async with client:
        with pytest.raises(RunnerClosed, match="once"):
            await client.start()
        caught: list[BaseException] = []

        def elsewhere() -> None:
            with pytest.raises(WrongThread) as raised:
                client.handle("x")._desk._asked()
            caught.append(raised.value)

        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
        assert caught
        with monkeypatch.context() as patch:
            patch.setattr("os.getpid", lambda: 1)
            with pytest.raises(ForkedProcess, match="after the fork"):
                await client.list()
    with pytest.raises(RunnerClosed):
        await client.list()


async def test_those_who_wait_are_told_when_it_is_shut_down(tmp_path: Path) -> None:
    gate = Gate()
    workflow = Workflow("gated", [task(gate.pass_through, id="it")])
    async with owner_on(tmp_path / "db", workflow):
        client = Client(tmp_path / "db")
        await client.start()
        handle = await client.submit("gated")
        waiting = asyncio.ensure_future(handle.result())
        await gate.reached()
        await client.shutdown()
        with pytest.raises(RunnerClosed, match="goes on"):
            await waiting
        gate.open()


def test_the_blocking_client(tmp_path: Path) -> None:
    from cloacina.blocking import BlockingRunner

    with BlockingRunner(tmp_path / "db", workflows=[doubling()]), BlockingClient(tmp_path / "db") as client:
        assert client.execute("double", {"n": 4}).context["twice"] == 8
        handle = client.submit("double", {"n": 5})
        assert handle.result().context["twice"] == 10
        assert client.handle(handle.id).status() is COMPLETED


@pytest.mark.parametrize("what", ["it is set aside", "it is removed", "it is damaged"])
async def test_those_who_wait_for_what_will_not_end_are_told(what: str, tmp_path: Path) -> None:
    """Removed: it ended and was pruned before the client came to look, say because it was frozen."""
    path, gate = tmp_path / "db", Gate()
    gated = Workflow("gated", [task(gate.pass_through, id="it")])
    # Nobody rings for what is done by hand: the client finds it when it looks by itself.
    often = Settings(poll_interval=0.05)
    async with owner_on(path, doubling(), gated) as runner, Client(path, settings=often) as client:
        handles = [await client.submit("gated") for _ in range(2)]
        await gate.reached(2)
        waits = [asyncio.ensure_future(handle.result()) for handle in handles]
        await until(lambda: len(client._asked().hub.stored) == 2, "the waits")
        changes = {
            "it is set aside": "UPDATE executions SET status = 'parked', error = 'why' WHERE id = ?",
            "it is removed": "DELETE FROM executions WHERE id = ?",
            "it is damaged": "UPDATE executions SET status = 'completed', tags = 'x' WHERE id = ?",
        }
        by_hand(path, changes[what], handles[0].id)
        refused = {"it is set aside": ExecutionParked, "it is removed": ExecutionNotFound}
        with pytest.raises(refused.get(what, ContextError)):
            await asyncio.wait_for(waits[0], 10)
        await runner.cancel(handles[1].id)
        assert (await asyncio.wait_for(waits[1], 10)).status is ExecutionStatus.CANCELLED
