"""A program that comes by every failpoint, and what must be true of its database afterwards."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from cloacina import Context, PermanentError, RetryPolicy, Runner, Settings, TaskHandle, Workflow
from cloacina.model.status import ExecutionStatus, RunnerState
from cloacina.store.port import WriteStore
from cloacina.store.rows import AttemptStart, Group, Item, NewExecution, RunnerRow
from cloacina.testing import failpoint

Say = Callable[[str, int], None]
"""Told of each execution that was acknowledged: its id, and the number that it was given."""

QUICK = {
    "poll_interval": 0.05,
    "shutdown_grace": 5.0,
    "lease": 0.6,
    "keep_failed_days": 1e-9,
    "keep_completed_days": 0.0,
}
SOON = RetryPolicy(max_attempts=3, initial_delay=0.001)
KEY = "the order"

mixed = Workflow("mixed", retry=SOON)


@mixed.task
async def counts(ctx: Context) -> None:
    ctx["sum"] = ctx["n"] + await ctx.checkpoint("one", lambda: 1)


@mixed.task(dependencies=[counts])
def waits(ctx: Context, handle: TaskHandle) -> None:
    looks = iter([False, False])
    handle.defer_until(lambda: next(looks, True), 0.001)
    ctx["waited"] = True


brittle = Workflow("brittle", retry=SOON)


@brittle.task
async def breaks(ctx: Context) -> None:
    if not ctx["whole"]:
        raise PermanentError("as it must")
    ctx["sum"] = ctx["n"] + 1


def older() -> Workflow:
    """An earlier version of `mixed`, of which an execution was left in flight."""
    made = Workflow("mixed", retry=SOON)
    made.add(counts)
    return made


def leave_behind(store: WriteStore, now: int) -> str:
    """What a runner with an older version leaves that died while a body ran; return the execution's id."""
    dead, execution, before = f"dead-{now}", f"left-{now}", older()
    store.register_runner(RunnerRow(dead, "elsewhere", 1, now, RunnerState.ALIVE, 0))
    store.register_versions(dead, [(before.name, before.version, before.to_json())], now)
    new = NewExecution(
        execution,
        before.name,
        before.version,
        ExecutionStatus.RUNNING,
        '{"n":0}',
        None,
        0,
        "[]",
        dead,
        now,
        now,
    )
    start = AttemptStart(execution, "counts", 1, dead, now)
    store.commit(Group(dead, 1, (Item(execution, new, [start]),)))
    return execution


async def perform(url: str, schema: str | None, say: Say, name: str) -> None:
    """Do everything that comes by a failpoint, one thing after the other; ``name`` is the one that matters."""
    async with Runner(url, schema=schema, workflows=[mixed, brittle], settings=Settings(**QUICK)) as runner:
        first = await runner.submit(mixed, {"n": 1})
        say(first.id, 1)
        keyed = await runner.submit(mixed, {"n": 2}, key=KEY)
        say(keyed.id, 2)
        await first.result()
        await keyed.result()
        failed = await runner.execute(brittle, {"n": 3, "whole": False})
        fork = await runner.handle(failed.id).fork(replace={"whole": True})
        say(fork.id, 3)
        await fork.result()
        await first.get()
        await first.cancel()
        await runner.prune()
        if name == "lease.renew":
            await asyncio.sleep(0.25)  # that is done every tenth of a second


async def ends_well(url: str, schema: str | None, acknowledged: dict[str, int]) -> None:
    """Whatever was acknowledged is there, ends, and has the right context; one key stands for one execution."""
    settings = Settings(**{**QUICK, "keep_failed_days": 0.0})
    async with Runner(url, schema=schema, workflows=[mixed, brittle], settings=settings) as runner:
        again = await runner.submit(mixed, {"n": 2}, key=KEY)
        assert [id for id, number in acknowledged.items() if number == 2] in ([], [again.id])
        for one in await runner.list():
            result = await runner.result(one.id, timeout=20)
            if result.workflow == "brittle" and not result.context["whole"]:
                assert result.status == "failed"
                continue
            assert result.status == "completed", result.error
            assert result.context["sum"] == result.context["n"] + 1
        for id, number in acknowledged.items():
            assert (await runner.get(id)).context["n"] == number


def die(url: str, schema: str | None, name: str, acknowledged: str) -> None:
    """`perform`, in a process of its own, which is killed at the failpoint ``name``; a file gets what it was told."""
    with open(acknowledged, "a", buffering=1) as told, failpoint(name, kill=True):
        asyncio.run(perform(url, schema, lambda id, number: print(id, number, file=told), name))
